"""Secrets: where they may stand, and that nothing ever shows one."""

import traceback

import pytest
from pydantic import SecretStr

from relay.settings import Settings, SettingsError, UpstreamSettings

CANARY = "sk-canary-1f0d5c"


def test_a_secret_may_stand_in_a_variable_or_a_file(place):
    place.environment(MY_KEY=CANARY)
    place.write(".env", "OTHER_KEY=k2\n")
    path = place.write("key", f"{CANARY}\n")
    place.environment(
        RELAY_API_KEYS=f"env:MY_KEY,env:OTHER_KEY,file:{path}", RELAY_REDIS_URL=f"file:{path}"
    )
    settings = place.load({"upstream_api_key": "env:MY_KEY"})
    found = [key.get_secret_value() for key in settings.api_keys]
    assert found == [CANARY, "k2", CANARY]
    assert settings.upstream_api_key == SecretStr(CANARY)
    assert settings.redis_url == CANARY


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("env:NO_SUCH_KEY", "the environment variable NO_SUCH_KEY is not set"),
        ("env:EMPTY_KEY", "the environment variable EMPTY_KEY is not set"),
        ("file:missing", "cannot read the file missing: No such file or directory"),
        ("file:binary", "cannot read the file binary: not UTF-8 text"),
        ("file:blank", "a key is printable ASCII without spaces, and not empty"),
    ],
)
def test_one_that_is_not_there_is_named_by_its_place(place, monkeypatch, value, told):
    monkeypatch.chdir(place.folder)
    (place.folder / "binary").write_bytes(b"\xff")
    place.write("blank", "\n")
    place.environment(EMPTY_KEY="", RELAY_ADMIN_KEY=value)
    assert place.fault() == f"RELAY_ADMIN_KEY: {told}"


@pytest.mark.parametrize(
    "text",
    [
        "api_keys = ['{} x']",
        "upstream_api_key = 'ü{}'",
        "admin_key = ['{}']",
        "upstream_url = 'http://me:{}@h/v1'",
        "upstream_url = 'http://h/v1?key={}'",
        "[[upstreams]]\nname = '{} '\nbase_url = '{}'\nheaders = { a = '{} ' }",
        "{} = 'twice'\n{} = 'twice'",
        "api_keys = '{}",
        "redis_url = ['{}']",
        "timeouts = '{}'",
        "port = '{}'",
        "mode = '{}'",
    ],
)
def test_no_message_shows_one(place, text):
    place.write("relay.toml", text.replace("{}", CANARY))
    with pytest.raises(SettingsError) as caught:
        place.load()
    error = caught.value
    assert CANARY not in f"{error!r} {''.join(traceback.format_exception(error))}"


def test_no_repr_shows_one():
    settings = Settings(
        api_keys=CANARY,
        admin_key=f"admin-{CANARY}",
        upstreams=(
            UpstreamSettings(
                name="a",
                base_url="http://h",
                api_keys=(CANARY,),
                headers={"x": CANARY},
            ),
        ),
        database_url=f"postgresql://me:{CANARY}@h/d",
        redis_url=f"redis://:{CANARY}@h",
    )
    assert CANARY not in f"{settings} {settings!r} {settings.all_upstreams()!r}"
    assert CANARY in settings.database_url
