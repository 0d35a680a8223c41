"""From a database URL to a store: nothing is imported or opened that is not needed."""

from importlib import import_module
from typing import Any

from relay.stores.protocol import Store
from relay.stores.sqlite import SqliteStore
from relay.stores.url import StoreUrl, parse_store_url

POOL_SIZE = 5


def open_store(url: str, *, pool_size: int = POOL_SIZE) -> Store:
    """The store that a database URL names. Nothing is opened before it is used.

    `pool_size` is the most connections of one process to a PostgreSQL.

    Raises:
        ValueError: the URL names no database, or its driver is not installed; the text does not
            hold the URL.
    """
    where = parse_store_url(url)
    if where.kind == "sqlite":
        return SqliteStore(where.path)
    check_driver(where)
    # An optional extra, and 0.1 s of those who do not use it.
    store: Store = import_module("relay.stores.postgres").PostgresStore(where, pool_size=pool_size)
    return store


def open_word(url: str, key: str) -> Any:
    """The word at `key` of a Redis, see `relay.stores.redis_word`; the URL is known to be right."""
    return import_module("relay.stores.redis_word").RedisWord(url, key)


def open_post(url: str, prefix: str) -> Any:
    """Letters by a Redis, see `relay.stores.redis_post`; the URL is known to be right."""
    return import_module("relay.stores.redis_post").RedisPost(url, prefix)


def check_driver(where: StoreUrl) -> None:
    """Raises ValueError where the package for that database is missing."""
    if where.kind == "postgres":
        try:
            import_module("asyncpg")
        except ImportError as exc:
            raise ValueError(
                "the database URL names a PostgreSQL: install openai-relay[postgres] for that"
            ) from exc
