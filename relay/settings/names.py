"""What the settings are called, and the `.env.example` that lists them all."""

from typing import Any, get_args

from relay.settings.model import Settings
from relay.settings.upstream import Section

PREFIX = "RELAY_"

TABLES = (
    "upstreams",
    "models",
    "prices",
    "keys",
    "teams",
    "issuers",
    "local_models",
    "local_map",
    "local_options",
)
"""Fields that hold tables: written in `relay.toml`, in the environment as JSON."""


def variable(path: str) -> str:
    """The environment name of a field: `timeouts.connect_s` is `RELAY_TIMEOUTS__CONNECT_S`."""
    return PREFIX + path.upper().replace(".", "__")


def leaves() -> dict[str, Any]:
    """Every field by its dotted path, with pydantic's description of it."""
    found: dict[str, Any] = {}
    for name, info in Settings.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            found |= {f"{name}.{sub}": detail for sub, detail in kind.model_fields.items()}
        else:
            found[name] = info
    return found


def env_example() -> str:
    """The text of `.env.example`: every setting with its meaning and default, commented out."""
    lines = [
        "# Every setting of relay, with its default. Copy to .env and uncomment what you change.",
        "# The environment wins over this file, flags win over both; secrets may be file:PATH.",
    ]
    for path, info in leaves().items():
        if path in TABLES:
            continue
        lines += [
            "",
            f"# {info.description}{_choices(info)}",
            f"#{variable(path)}={_written(info.get_default())}",
        ]
    return "\n".join(lines) + "\n"


def _choices(info: Any) -> str:
    """The words a setting may be, unless its description has them all."""
    words = [word for word in get_args(info.annotation) if isinstance(word, str)]
    if all(word in info.description for word in words):
        return ""
    return f" ({', '.join(words)})"


def _written(default: object) -> str:
    if default is None:
        return ""
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)
