"""The backends of one configuration: opened, or kept from the one before where nothing changed.

A client that is kept keeps its connections and all that it has learnt; a local model is not loaded
a second time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.local import LocalBackend, LocalModel, as_backend, open_local
from relay.routing import LOCAL
from relay.settings import Settings, SettingsError, UpstreamSettings
from relay.telemetry import logs
from relay.types import Backend
from relay.upstream import open_upstream

_LOCAL_SETTINGS = ("local", "local_context_tokens", "local_parallel", "local_threads")

Mark = tuple[object, ...]
"""What a backend was made from; another mark makes another backend."""


@dataclass(frozen=True, slots=True)
class Backends:
    """What answers calls. `marks` tell what each was made from, by name; the local one's is ``."""

    upstreams: Mapping[str, Backend]
    local: LocalBackend | None
    marks: Mapping[str, Mark]

    def all(self) -> list[Backend]:
        """Every one of them."""
        local = [] if self.local is None else [self.local]
        return [*self.upstreams.values(), *local]

    def shared_with(self, other: "Backends") -> set[str]:
        """The names of the targets that are the same ones there."""
        names = {name for name in self.upstreams if name in other.upstreams}
        same = {name for name in names if self.upstreams[name] is other.upstreams[name]}
        return same | ({LOCAL} if self.local is not None and self.local is other.local else set())


def open_backends(
    settings: Settings,
    *,
    given: LocalModel | LocalBackend | None = None,
    before: Backends | None = None,
) -> Backends:
    """What those settings name; of `before` what would be the same. Starts and loads nothing.

    `given` takes the place of the local backend that the settings name.

    Raises:
        SettingsError: a backend cannot be opened.
    """
    marks = marks_of(settings, given=given)
    kept = {} if before is None else {n: m for n, m in before.marks.items() if marks.get(n) == m}
    upstreams = {
        upstream.name: before.upstreams[upstream.name]
        if before is not None and upstream.name in kept
        else open_upstream(upstream, logs.of_keys())
        for upstream in settings.all_upstreams()
    }
    local: LocalBackend | None = None
    if before is not None and "" in kept:
        local = before.local
    elif given is not None:
        local = as_backend(given, settings)
    elif "" in marks:
        local = open_local(settings.local, settings)
    return Backends(upstreams, local, marks)


def already_open(settings: Settings, local: LocalBackend | None) -> Backends | None:
    """What is there when somebody has opened the local backend of those settings before us."""
    return None if local is None else Backends({}, local, {"": local_mark(settings)})


def marks_of(
    settings: Settings, *, given: LocalModel | LocalBackend | None = None
) -> dict[str, Mark]:
    """What the backends of those settings are made from.

    Raises:
        SettingsError: a certificate has gone.
    """
    marks: dict[str, Mark] = {
        upstream.name: (upstream, *_certificates(upstream)) for upstream in settings.all_upstreams()
    }
    if given is not None or _needs_local(settings):
        marks[""] = local_mark(settings)
    return marks


def local_mark(settings: Settings) -> Mark:
    """What the local backend of those settings is made from."""
    return tuple(getattr(settings, name) for name in _LOCAL_SETTINGS)


def _needs_local(settings: Settings) -> bool:
    return (
        settings.mode == "local"
        or not settings.all_upstreams()
        or any(target.local for model in settings.models for target in model.all_targets())
    )


def _certificates(upstream: UpstreamSettings) -> list[Mark]:
    """When those files were written: a renewed certificate keeps its name."""
    return [
        file_mark(path)
        for path in (upstream.ca_file, upstream.cert_file, upstream.key_file)
        if path is not None
    ]


def file_mark(path: Path) -> Mark:
    """Changes when the file does.

    Raises:
        SettingsError: it cannot be looked at.
    """
    try:
        found = path.stat()
    except OSError as exc:
        raise SettingsError(f"cannot read {path}: {exc.strerror}") from None
    return (found.st_ino, found.st_size, found.st_mtime_ns)
