"""What the relay adds to a local model: each part, with the real small model."""

import re
import sys

import pytest

from bench import local

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")

TINY = ("--rounds", "1", "--tokens", "8")


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("cost", r"direct: .* tokens/s, CPU \d+ µs .*\nrelayed: .*\nthe relay's cost: -?\d+ µs"),
        ("clients", r"16 on 4 slots .*\n16 clients get \d\.\d\d times"),
        ("cancel", r"cancelled in its answer: .* \d\.\d\d s .*\ncancelled in its prompt: "),
        ("lag", r"beside 0 local ones: 64 chunks, .*\n.* beside 2 local ones: 64 chunks"),
    ],
)
def test_each_part_tells_its_numbers(
    part: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xllamacpp")
    monkeypatch.setattr(local, "ANSWERS", 1)
    monkeypatch.setattr(local, "SETTLE_S", 0.4)
    local.main(["--only", part, *TINY])
    assert re.search(told, capsys.readouterr().out)


def test_a_part_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        local.main(["--only", "cost,speed"])
    assert "there is no speed" in capsys.readouterr().err
