"""What calls cost the stores: measured with real ones, of every process that they are."""

import argparse
import re
import sys
from pathlib import Path

import pytest

from bench import processes, stores
from bench.processes import Cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")


def test_relay_and_both_stores_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stores, "WARM_UP_S", 0.1)
    titles = ["a key, nothing kept", "all limits at key and team"]
    monkeypatch.setattr(stores, "SETUPS", {title: stores.SETUPS[title] for title in titles})
    options = argparse.Namespace(seconds=0.5, rounds=1)
    with processes.upstream(tmp_path, Cores.available()) as target:
        stores.run(target, tmp_path, Cores.available(), options)
    *_, without, with_all = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\| a key, nothing kept \| [1-9]\d* µs \| – \| – \|", without)
    assert re.fullmatch(
        r"\| all limits at key and team \| [1-9]\d* µs \| \d+ µs \| \d+ µs \|", with_all
    )
