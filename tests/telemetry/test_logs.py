"""One line an event, as text or JSON, and never a key in it."""

import json
import logging

import pytest

from relay.events import AttemptFailed, KeyRetired, ModeChanged, RequestEnded, ignore
from relay.telemetry import logs
from relay.types import Usage

ENDED = RequestEnded(
    *(0.0, "req_1", "", "", "anonymous", "/v1/chat/completions", "", "", "local", 1, 0, 200, ""),
    *(False, None, None, None, None, None, False, None, None, 0.25, "POST"),
)
FAILED = AttemptFailed(request_id="req_1", target="eu", attempt=1, error="The upstream failed.")


@pytest.fixture(autouse=True)
def restored() -> object:  # type: ignore[misc]  # a generator fixture
    """Puts the loggers back as pytest has them."""
    before = {name: logging.getLogger(name) for name in ("relay", "uvicorn")}
    kept = {n: (lg.handlers[:], lg.propagate, lg.level) for n, lg in before.items()}
    yield
    for name, (handlers, propagate, level) in kept.items():
        before[name].handlers[:] = handlers
        before[name].propagate = propagate
        before[name].setLevel(level)


def test_text_lines_name_the_event_and_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "text")
    logs.of_requests()(ENDED)
    logs.of_attempts()(FAILED)
    first, second = capsys.readouterr().err.splitlines()
    assert " DEBUG request_ended " in first
    assert "status=200 duration_s=0.250000" in first
    assert " WARNING attempt_failed " in second
    assert 'error="The upstream failed."' in second


def test_tokens_are_told_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    logs.of_requests()(ENDED)
    logs.of_requests()(ENDED._replace(prompt_tokens=3, usage=Usage(3, 5, heard_ms=7)))
    none, some = map(json.loads, capsys.readouterr().err.splitlines())
    assert not none.keys() & {"usage", *Usage._fields}
    assert (some["prompt_tokens"], some["completion_tokens"], some["heard_ms"]) == (3, 5, 7)
    assert list(some)[3:8] == ["request_id", "method", "path", "status", "duration_s"]


def test_json_lines_are_objects(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    logs.of_requests()(ENDED)
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger("relay.web").exception("internal_error")
    ended, failed = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ended["event"], ended["level"], ended["status"]) == ("request_ended", "debug", 200)
    assert "RuntimeError: boom" in failed["traceback"]


def test_requests_are_logged_at_debug_only(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    assert logs.of_requests() is ignore
    logs.of_attempts()(FAILED)
    assert "attempt_failed" in capsys.readouterr().err


def test_an_observer_that_would_say_nothing_is_none() -> None:
    logs.configure("error", "text")
    assert logs.of_attempts() is ignore


def test_a_move_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "text")
    logs.of_moves()(ModeChanged("auto", "local", "no upstream is within reach"))
    line = capsys.readouterr().err.strip()
    assert line.endswith(
        'WARNING mode_changed mode=auto serving=local reason="no upstream is within reach"'
    )


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {key}",
        "authorization: bearer {key}",
        "api-key: {key}",
        "got {key} from",
        "/ws key.{key}",
        '{{"k": "{key}"}}',
    ],
)
def test_keys_never_reach_a_line(form: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", form)
    logger = logging.getLogger("relay.test")
    key = "sk-canary-0123456789abcdef"
    try:
        raise RuntimeError(text.format(key=key))
    except RuntimeError:
        logger.exception("failed", extra={"fields": {"detail": text.format(key=key)}})
    written = capsys.readouterr().err
    assert key not in written
    assert "[redacted]" in written


def test_what_was_done_to_a_key_is_no_key() -> None:
    assert logs.redact("act=key.create subject=key_1") == "act=key.create subject=key_1"
    assert logs.redact("relay, key.created") == "relay, key.[redacted]"


def test_a_refused_key_is_an_error_that_names_it_without_showing_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("error", "text")
    logs.of_keys()(KeyRetired(upstream="eu", which="2 (a1b2c3d4)"))
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(' ERROR key_retired upstream=eu which="2 (a1b2c3d4)"')
