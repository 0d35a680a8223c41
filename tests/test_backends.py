"""Backends are kept where nothing of them changed, and opened anew where something did."""

from pathlib import Path
from typing import Any

import pytest

from relay.backends import already_open, open_backends
from relay.settings import Settings, SettingsError, UpstreamSettings


def settings(**given: Any) -> Settings:
    upstreams = [
        {"name": "one", "base_url": "http://127.0.0.1:1/v1", "api_keys": ["sk-1"]},
        {"name": "two", "base_url": "http://127.0.0.1:2/v1"},
    ]
    return Settings(**{"local": "echo", "mode": "remote", "upstreams": upstreams, **given})


def test_nothing_is_opened_again_for_nothing() -> None:
    first = open_backends(settings(mode="local"))
    second = open_backends(settings(mode="local", retries=7), before=first)
    assert len(first.all()) == 3
    assert all(one is other for one, other in zip(first.all(), second.all(), strict=True))
    assert second.shared_with(first) == {"one", "two", "local"}


@pytest.mark.parametrize(
    "change",
    [{"base_url": "http://127.0.0.1:3/v1"}, {"api_keys": ["sk-2"]}, {"max_parallel": 3}],
)
def test_only_the_upstream_that_changed_is_another(change: dict[str, Any]) -> None:
    first = open_backends(settings())
    one, two = settings().upstreams
    other = UpstreamSettings.model_validate({**one.model_dump(), **change})
    second = open_backends(settings(upstreams=[other, two]), before=first)
    assert second.upstreams["one"] is not first.upstreams["one"]
    assert second.upstreams["two"] is first.upstreams["two"]
    assert second.shared_with(first) == {"two"}


def test_a_renewed_certificate_makes_another_client(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("")
    wanted = settings(
        upstreams=[{"name": "one", "base_url": "http://127.0.0.1:1/v1", "ca_file": file}]
    )
    first = open_backends(wanted)
    assert open_backends(wanted, before=first).upstreams["one"] is first.upstreams["one"]
    file.write_text("\n")
    assert open_backends(wanted, before=first).upstreams["one"] is not first.upstreams["one"]
    file.unlink()
    with pytest.raises(SettingsError, match="cannot read"):
        open_backends(wanted, before=first)


def test_a_local_backend_is_opened_when_something_needs_it() -> None:
    assert open_backends(settings()).local is None
    model = {"id": "m", "targets": [{"upstream": "one"}], "fallback": [{"local": True}]}
    assert open_backends(settings(models=[model])).local is not None


def test_one_that_is_open_already_is_taken_while_its_settings_hold() -> None:
    opened = open_backends(settings(mode="local")).local
    before = already_open(settings(), opened)
    assert open_backends(settings(mode="local"), before=before).local is opened
    changed = settings(mode="local", local_parallel=1)
    assert open_backends(changed, before=before).local is not opened
    assert already_open(settings(), None) is None


def test_a_model_that_was_given_stands_for_the_one_that_is_named() -> None:
    class Model:
        def generate(self, prompt: object) -> list[str]:
            return [str(prompt)]

    local = open_backends(settings(), given=Model()).local
    assert local is not None
    assert local.name == "model"
