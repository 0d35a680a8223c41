"""Logs on standard error, as text or JSON lines; each line is an event name and its fields.

Keys never get here: whatever looks like one, or stands behind a word that announces one, is
replaced in every line, tracebacks included.
"""

import json
import logging
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime

from relay.events import (
    AttemptLost,
    Event,
    Observer,
    Reloaded,
    ReloadRefused,
    RequestEnded,
    RestartNeeded,
    ignore,
)
from relay.secret_forms import FORMS
from relay.types import Usage

ROOT = "relay"

_SECRETS = re.compile(
    rf"""(?ix)
    (?: (?<=bearer\s) | (?<=api-key:\s) | (?<=api_key=)
      | (?<=key\.) (?! (?: create | update | rotate | revoke ) (?: [\s"',;] | $ ) ) ) [^\s"',;]+
    | {FORMS}
    """
)
"""`key.KEY` is a subprotocol of sockets; acts of the admin API, as `key.create`, look like it."""


def redact(text: str) -> str:
    """The text with everything that looks like a key replaced."""
    return _SECRETS.sub("[redacted]", text)


class TextLines(logging.Formatter):
    """`2026-01-02T03:04:05.678Z INFO request_ended status=200 …`"""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        line = f"{_stamp(record)} {record.levelname} {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return redact(line)


class JsonLines(logging.Formatter):
    """`{"time": …, "level": …, "event": …, fields…}`, one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, ensure_ascii=False, default=str))


def configure(level: str, form: str) -> None:
    """Send the logs of the relay and of its server to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    # The server's own start and stop lines say nothing that ours do not; that a collector of traces
    # is away would be told every few seconds.
    levels = {ROOT: level.upper(), "uvicorn": "WARNING", "opentelemetry": "CRITICAL"}
    for name, least in levels.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(least)


def observer(level: int, name: str) -> Observer:
    """Writes events as log lines called `name`; `ignore` when nobody would read that level."""
    logger = logging.getLogger(ROOT)
    if not logger.isEnabledFor(level):
        return ignore

    def observe(event: Event, /) -> None:
        if isinstance(event, AttemptLost):
            return  # nothing went wrong: another attempt had won
        fields = _ended(event) if isinstance(event, RequestEnded) else asdict(event)
        logger.log(level, name, extra={"fields": fields})

    return observe


_FIRST = ("request_id", "method", "path", "status", "duration_s")
"""What is looked for in the line of a request stands at its head."""


def _ended(event: RequestEnded) -> dict[str, object]:
    fields = event._asdict()
    usage = fields.pop("usage")
    first = {name: fields.pop(name) for name in _FIRST}
    others = {name: value for name, value in fields.items() if name not in Usage._fields}
    return first | others | ({} if usage is None else usage._asdict())


def of_requests() -> Observer:
    """For `RequestEnded`: one line a request, at debug."""
    return observer(logging.DEBUG, "request_ended")


def of_attempts() -> Observer:
    """For `AttemptFailed`: a warning."""
    return observer(logging.WARNING, "attempt_failed")


def of_moves() -> Observer:
    """For `ModeChanged`: a warning."""
    return observer(logging.WARNING, "mode_changed")


def of_keys() -> Observer:
    """For `KeyRetired`: an error, since only the operator can mend it."""
    return observer(logging.ERROR, "key_retired")


_RELOADS = {
    Reloaded: (logging.INFO, "reloaded"),
    RestartNeeded: (logging.WARNING, "restart_needed"),
    ReloadRefused: (logging.ERROR, "reload_refused"),
}


def of_reload(event: Reloaded | RestartNeeded | ReloadRefused, /) -> None:
    """Writes what became of a reload. Not built beforehand: a reload may change the level."""
    level, name = _RELOADS[type(event)]
    fields = {
        name: ", ".join(value) if isinstance(value, tuple) else value
        for name, value in asdict(event).items()
    }
    logging.getLogger(ROOT).log(level, name, extra={"fields": fields})


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, "fields", {})
    return fields


def _stamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quoted(value: object) -> str:
    text = f"{value:.6f}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text
