"""Makes a model or backend from what a plug-in offers, with the options of the configuration.

class Parrot:
    def __init__(self, options: ParrotOptions): ...     # a pydantic model: checked, then given
def make() -> Parrot: ...                               # takes none
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from relay.schema import field_path
from relay.settings import SettingsError
from relay.settings.nearest import did_you_mean

Checked = TypeVar("Checked", bound=BaseModel)


def make(factory: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """What the class or function makes.

    Raises:
        SettingsError: the options are not its own.
    """
    wanted = options_of(factory)
    if wanted is not None:
        return factory(check_options(wanted, options))
    if options:
        raise SettingsError(
            f"it takes no options, but is given {', '.join(sorted(options))}; a parameter that is "
            "annotated with a pydantic model would take them"
        )
    return factory()


def options_of(factory: Callable[..., Any]) -> type[BaseModel] | None:
    """The pydantic model that its one parameter is annotated with; None when there is none."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # made in C, so it says nothing of itself
        return None
    if not parameters:
        return None
    function = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]  # looked at only
    try:
        hint = typing.get_type_hints(function).get(parameters[0].name)
    except NameError:  # named only for type checkers
        return None
    for one in (hint, *typing.get_args(hint)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def check_options(wanted: type[Checked], options: Mapping[str, Any]) -> Checked:
    """The options, checked.

    Raises:
        SettingsError: one is unknown or wrong; the text names each, and no value.
    """
    known = list(wanted.model_fields)
    if wanted.model_config.get("extra") != "allow":
        for name in options:
            if name not in known:
                raise SettingsError(f"there is no option '{name}'{did_you_mean(name, known)}")
    try:
        return wanted.model_validate(dict(options))
    except ValidationError as exc:
        faults = exc.errors(include_url=False, include_input=False, include_context=False)
        told = "; ".join(f"option '{field_path(one['loc'])}': {one['msg']}" for one in faults)
        raise SettingsError(told) from exc
