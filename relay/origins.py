"""Lists of web origins: exact ones, `http://host:*` for any port, `*` for all."""

import re
from collections.abc import Iterable

FORM = r"^(\*|[a-z][a-z0-9+.-]*://([a-z0-9._~-]+|\[[0-9a-f:.]+\])(:\d{1,5}|:\*)?)$"
"""What an entry may be, as browsers write origins: in lower case, without a slash at the end."""


def check_origin(value: str) -> str:
    """The entry, if it is one.

    Raises:
        ValueError: it is none; says how one is written.
    """
    if re.fullmatch(FORM, value):
        return value
    raise ValueError(
        f"'{value}' is no origin: write it as browsers do, in lower case and without a path or a "
        "slash at the end, as https://app.example or http://host:*"
    )


class OriginList:
    """One such list; `any` when it holds `*`."""

    def __init__(self, allowed: Iterable[str]) -> None:
        allowed = list(allowed)
        self.any = "*" in allowed
        self._exact = {origin.encode() for origin in allowed if "*" not in origin}
        self._patterns = [
            re.compile(re.escape(origin[: -len(":*")]).encode() + rb"(:\d{1,5})?")
            for origin in allowed
            if origin.endswith(":*")
        ]

    def allows(self, origin: bytes) -> bool:
        """Whether that origin is in it."""
        return (
            self.any
            or origin in self._exact
            or any(pattern.fullmatch(origin) for pattern in self._patterns)
        )
