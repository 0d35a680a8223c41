"""The backends of one configuration: opened, or kept from the one before where nothing changed.

A client that is kept keeps its connections and all that it has learnt; a local model is not loaded
a second time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from relay.local import (
    LocalBackend,
    LocalModel,
    Standby,
    as_backend,
    is_chosen,
    is_needed,
    may_be_needed,
    open_locals,
)
from relay.routing import LOCAL
from relay.settings import Settings, SettingsError, UpstreamSettings
from relay.telemetry import logs
from relay.types import Backend
from relay.upstream import Upstream, open_upstream

_LOCAL_SETTINGS = tuple(name for name in Settings.model_fields if name.split("_")[0] == "local")

Mark = tuple[object, ...]
"""What a backend was made from; another mark makes another backend."""


@dataclass(frozen=True, slots=True)
class Backends:
    """What answers calls. `marks` tell what each was made from, by name; the local one's is ``."""

    upstreams: Mapping[str, Upstream]
    standby: Standby | None
    marks: Mapping[str, Mark]

    @property
    def local(self) -> LocalBackend | None:
        """The local model, loaded or not."""
        return None if self.standby is None else self.standby.backend

    def all(self) -> list[Backend]:
        """Every one of them."""
        local = [] if self.local is None else [self.local]
        return [*self.upstreams.values(), *local]

    def shared_with(self, other: "Backends") -> set[str]:
        """The names of the targets that are the same ones there."""
        names = {name for name in self.upstreams if name in other.upstreams}
        same = {name for name in names if self.upstreams[name] is other.upstreams[name]}
        return same | ({LOCAL} if self.local is not None and self.local is other.local else set())


class Sharing(Protocol):
    """In a worker: where the local model is that all of them share."""

    @property
    def given(self) -> bool:
        """It was given in Python, so it is there whatever the settings name."""
        ...

    def open(self, settings: Settings) -> LocalBackend:
        """The model of those settings."""
        ...


def open_backends(
    settings: Settings,
    *,
    given: LocalModel | LocalBackend | None = None,
    sharing: Sharing | None = None,
    before: Backends | None = None,
) -> Backends:
    """What those settings name; of `before` what would be the same. Starts and loads nothing.

    `given` takes the place of the local backend that the settings name; with `sharing` it is in
    another process, whichever it is.

    Raises:
        SettingsError: a backend cannot be opened.
    """
    is_given = given is not None or (sharing is not None and sharing.given)
    marks = marks_of(settings, given=is_given)
    kept = {} if before is None else {n: m for n, m in before.marks.items() if marks.get(n) == m}
    upstreams = {
        upstream.name: before.upstreams[upstream.name]
        if before is not None and upstream.name in kept
        else open_upstream(upstream, logs.of_keys())
        for upstream in settings.all_upstreams()
    }
    standby: Standby | None = None
    if before is not None and "" in kept:
        standby = before.standby
    elif "" in marks:
        if sharing is not None:
            local = sharing.open(settings)
        elif given is not None:
            local = as_backend(given, settings)
        else:
            local = open_locals(settings)
        chosen = is_given or is_chosen(settings)
        standby = Standby(local, chosen=chosen, needed=is_needed(settings))
    return Backends(upstreams, standby, marks)


def already_open(settings: Settings, local: LocalBackend | None) -> Backends | None:
    """What is there when somebody has opened the local backend of those settings before us."""
    if local is None:
        return None
    standby = Standby(local, chosen=is_chosen(settings), needed=is_needed(settings))
    return Backends({}, standby, {"": local_mark(settings)})


def marks_of(settings: Settings, *, given: bool = False) -> dict[str, Mark]:
    """What the backends of those settings are made from; `given`: a local one was given in Python.

    Raises:
        SettingsError: a certificate has gone.
    """
    marks: dict[str, Mark] = {
        upstream.name: (upstream, *_certificates(upstream)) for upstream in settings.all_upstreams()
    }
    if given or may_be_needed(settings):
        marks[""] = local_mark(settings)
    return marks


def local_mark(settings: Settings) -> Mark:
    """What the local backend of those settings is made from."""
    return tuple(getattr(settings, name) for name in _LOCAL_SETTINGS)


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
