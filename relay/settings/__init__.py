"""Every setting: its name, meaning, default, and where it may come from.

    defaults < relay.toml (or RELAY_CONFIG / --config) < .env < environment < flags

A field `port` is `port` in `relay.toml`, `RELAY_PORT` in the environment and `--port` as a flag;
nested names join with two underscores (`RELAY_TIMEOUTS__CONNECT_S`). A secret is a value,
`env:NAME` or `file:PATH`. A wrong or unknown setting is a `SettingsError` of one readable text.

    values.py     what one setting may be       model.py      all of them, and their rules
    upstream.py   those of an upstream          names.py      what they are called; .env.example
    local.py      those of a local model
    routes.py     those of a model              sources.py    reading, merging, reporting
    keys.py       those of keys, teams and identity providers
    prices.py     what calls cost
    sockets.py    what WebSockets may do
"""

from relay.settings.faults import LOCAL
from relay.settings.keys import (
    ClaimPolicySettings,
    Count,
    IssuerSettings,
    KeySettings,
    LimitSettings,
    Metadata,
    Models,
    Moment,
    OriginNames,
    PolicySettings,
    TeamSettings,
    Window,
    check_identity_url,
)
from relay.settings.local import LocalModelSettings
from relay.settings.model import Mode, Settings
from relay.settings.names import env_example, leaves, variable
from relay.settings.prices import PriceSettings
from relay.settings.routes import History, ModelSettings, OfflineSettings, TargetSettings
from relay.settings.sockets import SocketSettings
from relay.settings.sources import SettingsError, load_settings, settings_files
from relay.settings.upstream import BreakerSettings, SomeTimeouts, Timeouts, UpstreamSettings
from relay.settings.values import headers_in, is_loopback

__all__ = [
    "LOCAL",
    "BreakerSettings",
    "ClaimPolicySettings",
    "Count",
    "History",
    "IssuerSettings",
    "KeySettings",
    "LimitSettings",
    "LocalModelSettings",
    "Metadata",
    "Mode",
    "ModelSettings",
    "Models",
    "Moment",
    "OfflineSettings",
    "OriginNames",
    "PolicySettings",
    "PriceSettings",
    "Settings",
    "SettingsError",
    "SocketSettings",
    "SomeTimeouts",
    "TargetSettings",
    "TeamSettings",
    "Timeouts",
    "UpstreamSettings",
    "Window",
    "check_identity_url",
    "env_example",
    "headers_in",
    "is_loopback",
    "leaves",
    "load_settings",
    "settings_files",
    "variable",
]
