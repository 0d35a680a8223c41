"""The local model of a relay: whether it is opened, and when it is loaded.

    serves, or is a model's target      loaded at the start
    may step in, and was chosen         loaded at the start, in the background: later is too late
    may be switched to by hand          loaded then

*Chosen*: the operator named it. One that nobody chose (the small model, or the echo) is no answer
to an outage.
"""

from relay.local.model import LocalBackend
from relay.settings import Settings


def is_chosen(settings: Settings) -> bool:
    """Whether the operator named a local model."""
    return not {"local", "local_models"}.isdisjoint(settings.model_fields_set)


def is_needed(settings: Settings) -> bool:
    """Whether calls go to the local model without anybody moving them there."""
    return (
        settings.mode == "local"
        or not settings.all_upstreams()
        or any(target.local for model in settings.models for target in model.all_targets())
    )


def may_be_needed(settings: Settings) -> bool:
    """Whether calls may ever go there."""
    steps_in = is_chosen(settings) and settings.mode == "auto"
    return is_needed(settings) or steps_in or settings.admin_key is not None


class Standby:
    """A local backend that is loaded once: at the start, or when it is needed first."""

    def __init__(self, backend: LocalBackend, *, chosen: bool, needed: bool) -> None:
        self.backend = backend
        self.chosen = chosen
        self._at_start = chosen or needed
        self._loading = False

    @property
    def begun(self) -> bool:
        """Whether it is loaded, or being loaded."""
        return self._loading

    def start(self) -> None:
        """The relay starts: load what should not be waited for."""
        if self._at_start:
            self.load()

    def load(self) -> None:
        """Begin to load it, unless that was done before; to be called in the event loop."""
        if not self._loading:
            self._loading = True
            self.backend.start()
