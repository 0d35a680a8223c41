"""`relay serve`: what it prints before the server runs, and what it says when it cannot."""

import errno
import json
import os
from typing import Any

from relay import __version__
from relay.cli.outline import admission, keys_in_database, serves_locally, steps_in
from relay.cli.terminal import fail, note
from relay.local import LocalBackend, open_locals, opens_lightly
from relay.reload import Sources, held
from relay.serving import serve
from relay.settings import Settings, SettingsError
from relay.workers import WorkerFailed


def run(flags: dict[str, Any], config: str | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    sources = Sources(flags, config)
    try:
        with held():  # opening a model may take its time
            settings = sources.load()
            # With workers, what takes memory to open is opened once, in the process that has it.
            here = settings.workers == 1 or opens_lightly(settings)
            there = serves_locally(settings) and here
            local = open_locals(settings) if there else None
            _listen(settings, local, sources)
    except SettingsError as exc:
        fail(str(exc), code=2)
    except WorkerFailed as exc:
        fail(str(exc))


def _listen(settings: Settings, local: LocalBackend | None, sources: Sources) -> None:
    def announce(port: int) -> None:
        _announce(settings.model_copy(update={"port": port}), local)

    readable = announce if settings.log_format == "text" else None
    try:
        serve(settings, announce=readable, sources=sources, opened=local)
    except OSError as exc:
        place = f"port {settings.port} of {settings.host}"
        if exc.errno == errno.EADDRINUSE:
            fail(f"{place} is in use already; choose another with --port")
        # What `socket` adds to the system's own words is Python's, so ask the system again.
        reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror
        fail(f"cannot listen on {place}: {reason}")


def _announce(settings: Settings, local: LocalBackend | None) -> None:
    if serves_locally(settings):
        source = f"the local model {settings.local if local is None else _first_id(local)}"
    else:
        source = ", ".join(upstream.base_url for upstream in settings.all_upstreams())
    note(f"relay {__version__} on {settings.address}/v1", style="bold")
    note(f"  serves from {source}", style="")
    if steps_in(settings):
        name = settings.local or settings.local_models[0].id
        note(f"  while the network is away from the local model {name}", style="")
    kept = keys_in_database(settings)
    note(f"  for {admission(settings, in_database=kept)}", style="")
    keyed = settings.has_keys or bool(kept) or not settings.anonymous
    note(f"  {_curl(settings, local, keyed=keyed)}", style="")


def _curl(settings: Settings, local: LocalBackend | None, *, keyed: bool) -> str:
    """A command that asks something, to be copied."""
    named = [model.id for model in settings.models if "*" not in model.id]
    model = named[0] if named else "MODEL" if local is None else _first_id(local)
    body = {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    authorization = "-H 'authorization: Bearer KEY' " if keyed else ""
    return (
        f"curl -N {settings.address}/v1/chat/completions {authorization}"
        f"-H 'content-type: application/json' -d '{json.dumps(body)}'"
    )


def _first_id(local: LocalBackend) -> str:
    cards = local.cards()
    return cards[0].id if cards else local.name
