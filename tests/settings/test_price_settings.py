"""`[[prices]]`, as they are read."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from relay.settings import Settings, SettingsError

UPSTREAM = '[[upstreams]]\nname = "vllm"\nbase_url = "http://127.0.0.1:9/v1"\n'


def test_prices_are_exact(place) -> None:
    place.write("relay.toml", '[[prices]]\nmodel = "m"\nprompt_usd = 0.0375\ncached_usd = "0.01"')
    [price] = place.load().prices
    assert (price.prompt_usd, price.cached_usd) == (Decimal("0.0375"), Decimal("0.01"))
    assert (price.completion_usd, price.reasoning_usd) == (0, None)


def test_a_price_is_for_an_upstream_that_is_there_or_for_the_local_model(place) -> None:
    price = '[[prices]]\nmodel = "*"\nupstream = "{}"\n'
    for name in ("vllm", "local"):
        place.write("relay.toml", UPSTREAM + price.format(name))
        assert place.load().prices[0].upstream == name
    place.write("relay.toml", UPSTREAM + price.format("vlm"))
    with pytest.raises(SettingsError, match="'vlm', which is not there; did you mean vllm"):
        place.load()


def test_a_wrong_price_is_named(place) -> None:
    place.write("relay.toml", '[[prices]]\nmodel = "m"\npromt_usd = 1')
    with pytest.raises(SettingsError, match="did you mean prompt_usd"):
        place.load()
    for wrong in (-1, "much", "nan", "inf"):
        with pytest.raises(ValidationError):
            Settings.model_validate({"prices": [{"model": "m", "prompt_usd": wrong}]})
