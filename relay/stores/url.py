"""What a database URL names, and what of it may be shown.

sqlite:///relay.db              a file, relative to the working directory
sqlite:////var/lib/relay.db     the same, absolute
postgresql://user:password@host:5432/relay?sslmode=require
"""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

_SHAPE = re.compile(r"(?P<scheme>[a-z0-9+]+)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """`path` is an SQLite file, `dsn` what asyncpg takes; `shown` has no user and no password."""

    kind: Literal["sqlite", "postgres"]
    shown: str
    path: str = ""
    dsn: str = field(default="", repr=False)


def parse_store_url(url: str) -> StoreUrl:
    """Take a database URL apart.

    Raises:
        ValueError: it names no database that is known; the text does not hold the URL.
    """
    shape = _SHAPE.fullmatch(url)
    scheme = shape["scheme"] if shape else ""
    if shape and scheme == "sqlite":
        path = unquote(shape["rest"].removeprefix("/"))
        if shape["authority"] or not path or path == ":memory:":
            raise ValueError("the database URL names no file: write sqlite:///relay.db")
        return StoreUrl("sqlite", shown=path, path=path)
    if shape and scheme in ("postgresql", "postgres"):
        # An unescaped / or # in the password would end it early, and show the rest of it.
        if "@" in shape["rest"] or "#" in shape["rest"]:
            raise ValueError(
                "the user and password in the database URL have to be percent-encoded (/ as %2F)"
            )
        where = shape["authority"].rpartition("@")[2] + shape["rest"].partition("?")[0]
        return StoreUrl("postgres", shown=f"postgresql://{where}", dsn=url)
    raise ValueError("the database URL has to begin with sqlite:/// or postgresql://")
