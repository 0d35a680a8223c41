"""Prints the SQL that brings a database from a revision ("base": from nothing) to this version.

python -m relay.stores.migrations sqlite|postgresql REVISION
"""

import sys
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from relay.stores.schema import VERSION_TABLE


def render(dialect: str, revision: str) -> None:
    """Write the statements to standard output."""
    scripts = ScriptDirectory(str(Path(__file__).parent))
    config = Config(output_buffer=sys.stdout)
    with EnvironmentContext(
        config,
        scripts,
        fn=lambda _, __: scripts._upgrade_revs("head", revision),
        as_sql=True,
        starting_rev=revision,
    ) as environment:
        environment.configure(
            dialect_name=dialect,
            version_table=VERSION_TABLE,
            output_buffer=sys.stdout,
            transactional_ddl=False,  # whoever runs it has begun a transaction
        )
        environment.run_migrations()


if __name__ == "__main__":
    render(*sys.argv[1:])
