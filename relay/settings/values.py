"""What a single setting may be: lists, secrets, addresses, times.

A secret is a value, `env:NAME` or `file:PATH`; what it stands for is read once, while the settings
are checked. No message of this file holds the value it complains of.
"""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo

VARIABLES = "variables"
"""The key of the validation context under which the gathered variables stand."""


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def split_commas(value: object) -> object:
    """The words of a text with commas between; any other value as it is."""
    if isinstance(value, str):
        return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)
    return value


def _resolve_secret(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    scheme, _, rest = value.partition(":")
    if scheme == "env" and rest:
        variables = (info.context or {}).get(VARIABLES, os.environ)
        found = variables.get(rest)
        if not found:
            raise ValueError(f"the environment variable {rest} is not set")
        return found
    if scheme == "file" and rest:
        try:
            return Path(rest).expanduser().read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(f"cannot read the file {rest}: not UTF-8 text") from None
        except OSError as exc:
            raise ValueError(f"cannot read the file {rest}: {exc.strerror}") from None
    return value


def _check_key(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("a key is printable ASCII without spaces, and not empty")
    return secret


def headers_in(text: str) -> dict[str, str]:
    """The headers of `name=value,name=value`, whose values may be percent-encoded.

    Raises:
        ValueError: it has another form, or a line break would be in a header.

    Source: OpenTelemetry, "Protocol Exporter", Specifying headers via environment variables.
    """
    headers = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, equals, value = (part.strip() for part in pair.partition("="))
        value = unquote(value)
        if not (
            equals and _HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable()
        ):
            raise ValueError("headers are name=value, with commas between, of printable ASCII")
        headers[name.lower()] = value
    return headers


def _check_headers(secret: SecretStr) -> SecretStr:
    headers_in(secret.get_secret_value())
    return secret


def _check_base_url(value: str) -> str:
    if not value.isprintable() or " " in value:
        raise ValueError("a base URL holds no spaces and no control characters")
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("the host or the port of the base URL is malformed") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a base URL starts with http:// or https:// and names a host")
    if "@" in parts.netloc:
        raise ValueError("a base URL holds no user name or password; put the key into its setting")
    if "?" in value or "#" in value:
        raise ValueError("a base URL has no query and no fragment")
    return value.rstrip("/")


def _check_proxy(value: str) -> str:
    try:
        parts = urlsplit(value)
        known = parts.scheme in ("http", "https", "socks5", "socks5h") and parts.hostname
        _ = parts.port
    except ValueError:
        known = None
    if not known:
        raise ValueError("a proxy is http://, https://, socks5:// or socks5h://, and names a host")
    return value


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


Names = Annotated[tuple[str, ...], BeforeValidator(split_commas)]
"""Words, as a list or in one text with commas between."""

Pattern = Annotated[
    str, Field(pattern=r"^(default|\*|((GET|HEAD|POST|PUT|PATCH|DELETE) )?/v1/\S*)$")
]
"""Calls under /v1: `METHOD /v1/path` or `/v1/path`, with `*` for anything; or `default`."""

Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(split_commas)]

SocketPath = Annotated[str, Field(pattern=r"^/v1/\S+$")]
"""A path of WebSockets under /v1, with `*` for anything."""

SocketPaths = Annotated[tuple[SocketPath, ...], BeforeValidator(split_commas)]

Secret = Annotated[SecretStr, BeforeValidator(_resolve_secret), AfterValidator(_check_key)]
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(split_commas)]

HeaderSecret = Annotated[
    SecretStr, BeforeValidator(_resolve_secret), AfterValidator(_check_headers)
]
"""Headers as `OTEL_EXPORTER_OTLP_HEADERS` has them; `headers_in` takes them apart."""

Address = Annotated[str, BeforeValidator(_resolve_secret)]
"""The URL of a database; it may hold a password, so it may be given like a secret."""

Proxy = Annotated[str, BeforeValidator(_resolve_secret), AfterValidator(_check_proxy)]
"""The URL of a proxy; it may hold a password, so it may be given like a secret."""

BaseUrl = Annotated[str, AfterValidator(_check_base_url)]
"""Where an OpenAI-format server is, without the slash at the end."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
