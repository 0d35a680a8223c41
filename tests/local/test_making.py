"""What a plug-in offers, made with the options of the configuration."""

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from relay.local import Options
from relay.local.making import check_options, make, options_of
from relay.settings import SettingsError

if TYPE_CHECKING:
    from decimal import Decimal as Unknown


class Own(Options):
    size: int = Field(1, ge=1)


class Loose(BaseModel):
    model_config = {"extra": "allow"}


class Model:
    def __init__(self, options: Own) -> None:
        self.options = options


class Plain:
    pass


def factory(options: Own | None) -> Any:
    return options


def of_something_else(size: int = 3) -> int:
    return size


def of_nobody_knows(size: "Unknown | None" = None) -> str:
    return "made"


def test_a_class_or_a_function_gets_its_options_checked() -> None:
    assert make(Model, {"size": "2"}).options == Own(size=2)
    assert make(Model, {}).options == Own()
    assert make(factory, {"size": 3}) == Own(size=3)


@pytest.mark.parametrize("made", [Plain, of_something_else, of_nobody_knows, dict])
def test_what_names_no_options_is_made_without(made: Any) -> None:
    assert options_of(made) is None
    make(made, {})
    with pytest.raises(SettingsError, match="it takes no options, but is given size"):
        make(made, {"size": 1})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sise": 1}, "there is no option 'sise'; did you mean size?"),
        ({"size": 0}, "option 'size': Input should be greater than or equal to 1"),
        ({"size": "canary"}, "option 'size': "),
    ],
)
def test_a_wrong_option_is_named_and_its_value_is_not(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_options(Own, options)
    assert said in str(refused.value)
    assert "canary" not in str(refused.value)


def test_who_takes_anything_gets_anything() -> None:
    assert check_options(Loose, {"x": 1}).model_extra == {"x": 1}
