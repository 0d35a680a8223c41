"""What bodies lose before they are kept."""

import sys
from types import ModuleType

import pytest

from relay.books import ledger_of
from relay.ledger import load_redactor
from relay.plugins import PluginMissing
from relay.settings import Settings, SettingsError
from relay.stores import open_store


def test_keys_are_always_taken_out() -> None:
    redact = load_redactor(None)
    assert redact(b'{"k": "sk-0123456789abc", "x": 1}', "request") == b'{"k": "[redacted]", "x": 1}'
    assert redact(b"rk-abcdefgh ek-abcdefgh risk-free", "response") == (
        b"[redacted] [redacted] risk-free"
    )


def test_ones_own_redactor_sees_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_redactors")
    module.upper = lambda body, kind: body.upper() + kind.encode()  # type: ignore[attr-defined]
    module.number = 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_redactors", module)
    redact = load_redactor("own_redactors:upper")
    assert redact(b"sk-0123456789abc x", "request") == b"[REDACTED] Xrequest"
    with pytest.raises(PluginMissing, match="cannot be called"):
        load_redactor("own_redactors:number")


@pytest.mark.parametrize("name", ["nobody", "no_such_module:x", "relay.ledger:missing"])
def test_a_redactor_that_is_not_there_is_a_wrong_setting(name: str, tmp_path: object) -> None:
    settings = Settings(redact_bodies=name)
    with pytest.raises(SettingsError, match=f"RELAY_REDACT_BODIES: '{name}'"):
        ledger_of(settings, open_store(f"sqlite:///{tmp_path}/x.db"), lambda: None)  # type: ignore[arg-type, return-value]
