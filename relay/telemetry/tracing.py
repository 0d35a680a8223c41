"""Where traces go, as the settings say: to a collector, or nowhere."""

import importlib
from functools import partial
from importlib.util import find_spec
from typing import cast

from relay.settings import Settings, SettingsError, headers_in, variable
from relay.telemetry.span_sender import Collector, SpanSender
from relay.telemetry.traces import NO_TRACES, NoTraces, Traces

MODULE = "relay.telemetry.spans"

NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")


def open_traces(settings: Settings) -> Traces | NoTraces:
    """What notes the traces of a relay with those settings; connects to nothing yet.

    Raises:
        SettingsError: the extra is not installed.
    """
    if settings.traces_url is None:
        return NO_TRACES
    check_installed()
    return Traces(SpanSender(partial(connect, settings)), sample=settings.traces_sample)


def check_installed() -> None:
    """Look for the extra without loading it. Raises: SettingsError: it is not there."""
    if not all(map(_is_there, NEEDED)):
        raise SettingsError(
            f"{variable('traces_url')} is set, but the extra is not installed: "
            "pip install 'openai-relay[otel]'"
        )


def connect(settings: Settings, *, patience_s: float | None = None) -> Collector:
    """The collector of those settings; loads OpenTelemetry's library."""
    secret = settings.traces_headers
    headers = {} if secret is None else headers_in(secret.get_secret_value())
    kind = importlib.import_module(MODULE).OtlpCollector
    more = {} if patience_s is None else {"patience_s": patience_s}
    return cast(Collector, kind(settings.traces_url, headers, **more))


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
