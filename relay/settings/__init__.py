"""Every setting: its name, meaning, default, and where it may come from.

    defaults < relay.toml (or RELAY_CONFIG / --config) < .env < environment < flags

A field `port` is `port` in `relay.toml`, `RELAY_PORT` in the environment and `--port` as a flag;
nested names join with two underscores (`RELAY_TIMEOUTS__CONNECT_S`). A secret is a value,
`env:NAME` or `file:PATH`. A wrong or unknown setting is a `SettingsError` of one readable text.

    values.py    what one setting may be        names.py      what they are called; .env.example
    model.py     all of them, and their rules   sources.py    reading, merging, reporting
"""

from relay.settings.model import (
    History,
    Mode,
    ModelSettings,
    Settings,
    TargetSettings,
    Timeouts,
    UpstreamSettings,
    is_loopback,
)
from relay.settings.names import env_example, leaves, variable
from relay.settings.sources import SettingsError, load_settings

__all__ = [
    "History",
    "Mode",
    "ModelSettings",
    "Settings",
    "SettingsError",
    "TargetSettings",
    "Timeouts",
    "UpstreamSettings",
    "env_example",
    "is_loopback",
    "leaves",
    "load_settings",
    "variable",
]
