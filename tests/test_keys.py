"""The keyring; how it looks over HTTP is in web/test_door.py."""

import pytest

from relay.errors import InvalidApiKey
from relay.keys import MAX_KEY_BYTES, Keyring
from relay.types import ANONYMOUS


def test_without_keys_everybody_is_anonymous() -> None:
    keyring = Keyring([])
    assert keyring.empty
    assert keyring.identify([]) is ANONYMOUS
    assert keyring.identify_key(b"anything") is ANONYMOUS


def test_a_key_has_a_name_that_does_not_tell_it() -> None:
    keyring = Keyring(["rk-secret-value"])
    identity = keyring.identify([(b"authorization", b"Bearer rk-secret-value")])
    assert identity.name.startswith("key-")
    assert "secret" not in identity.name
    assert "secret" not in repr(vars(keyring))
    assert keyring.identify_key(b" rk-secret-value ") == identity


@pytest.mark.parametrize("key", [b"", b"rk-secret-valu", b"x" * (MAX_KEY_BYTES + 1), b"\xff"])
def test_every_other_key_is_refused_alike(key: bytes) -> None:
    with pytest.raises(InvalidApiKey) as refused:
        Keyring(["rk-secret-value"]).identify_key(key)
    assert "secret" not in str(refused.value)
