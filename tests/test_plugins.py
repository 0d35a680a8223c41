"""What users bring is found, or it is said why not."""

import pytest

from relay.plugins import PluginMissing, find_plugin


def test_an_entry_point_is_found_by_its_name() -> None:
    assert find_plugin("relay.local", "echo").__name__ == "EchoModel"  # type: ignore[attr-defined]


def test_a_place_in_a_module_is_found() -> None:
    assert find_plugin("relay.nothing", "relay.plugins:PluginMissing") is PluginMissing


def test_what_is_not_there_names_what_is() -> None:
    with pytest.raises(PluginMissing, match=r"known are one, echo, and package\.module"):
        find_plugin("relay.local", "eco", known=["one"])
    with pytest.raises(PluginMissing, match="known are none"):
        find_plugin("relay.nothing", "eco")
    with pytest.raises(PluginMissing, match="could not be loaded: AttributeError"):
        find_plugin("relay.local", "relay.plugins:nothing")
