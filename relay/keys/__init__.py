"""Who may come in, and what for: keys of the configuration and of the database, tokens of others.

credential.py      what a key looks like, where it stands in a request
entry.py           what is known of a key: identity, end, where it may be used from
proxies.py         the address of whoever stands behind a proxy
guard.py           those places: origins and networks
models.py          which models an identity may use
keyring.py         finds whose key a request has
virtual.py         the keys of the database, in memory
client_secrets.py  short-lived tokens that a browser may hold
changes.py         what an operator does to those of the database
spending.py        what they have spent of their budgets
issuers.py         tokens of identity providers (oidc.py, jwks.py, claims.py)
"""

from relay.keys.changes import Changes
from relay.keys.client_secrets import ClientSecret, ClientSecrets, Wish
from relay.keys.credential import bearer, digest, new_id, new_key, unknown_key
from relay.keys.entry import configured_entries, configured_teams, limits_of, usd
from relay.keys.issuers import FetchKeys, Issuers, open_issuers
from relay.keys.keyring import Keyring, Peer
from relay.keys.models import allows, check_model, naming
from relay.keys.spending import Spending
from relay.keys.virtual import VirtualKeys

__all__ = [
    "Changes",
    "ClientSecret",
    "ClientSecrets",
    "FetchKeys",
    "Issuers",
    "Keyring",
    "Peer",
    "Spending",
    "VirtualKeys",
    "Wish",
    "allows",
    "bearer",
    "check_model",
    "configured_entries",
    "configured_teams",
    "digest",
    "limits_of",
    "naming",
    "new_id",
    "new_key",
    "open_issuers",
    "unknown_key",
    "usd",
]
