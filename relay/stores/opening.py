"""From a database URL to a store: nothing is imported or opened that is not needed."""

from relay.stores.protocol import Store
from relay.stores.sqlite import SqliteStore
from relay.stores.url import parse_store_url


def open_store(url: str) -> Store:
    """The store that a database URL names. Nothing is opened before it is used.

    Raises:
        ValueError: the URL names no database; the text does not hold it.
    """
    where = parse_store_url(url)
    return SqliteStore(where.path)
