"""How databases of older versions become those of this one; by alembic.

Its library takes 0.3 s and 30 MB, so it never runs in a relay that serves: a child process prints
the SQL that is missing (`python -m relay.stores.migrations DIALECT REVISION`), and whoever asked
runs that under a lock (`upgrade.py`). So the database's URL stays where it is, and a migration is
SQL only. It must leave tables that the version before can still write: replicas are replaced one
after the other.
"""
