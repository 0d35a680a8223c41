import json

from fake_script import Script
from fake_upstream import FakeUpstream
from transcripts import models_body

from cli.program import Program


def test_the_models_are_a_table_of_ids_and_owners(relay: Program, fake: FakeUpstream) -> None:
    shown = relay("models", "--url", fake.url, "--key", "sk-canary")

    assert shown.returncode == 0
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert rows == [["model", "owner"], ["fake-1", "fake"], ["fake-2", "fake"]]


def test_the_models_can_be_had_as_json(relay: Program, fake: FakeUpstream) -> None:
    shown = relay("models", "--json", "--url", fake.url, "--key", "sk-canary")

    assert json.loads(shown.stdout) == json.loads(models_body("fake-1", "fake-2"))["data"]


def test_url_and_key_come_from_the_variables_of_the_openai_package(
    relay: Program, fake: FakeUpstream
) -> None:
    shown = relay("models", env={"OPENAI_BASE_URL": fake.url, "OPENAI_API_KEY": "sk-canary"})

    assert shown.returncode == 0
    assert "fake-1" in shown.stdout


def test_a_key_can_stand_in_another_variable(relay: Program, fake: FakeUpstream) -> None:
    shown = relay("models", "--url", fake.url, "--key", "env:MY_KEY", env={"MY_KEY": "sk-canary"})

    assert shown.returncode == 0


def test_a_refused_key_is_said_and_not_shown(relay: Program, fake: FakeUpstream) -> None:
    shown = relay("models", "--url", fake.url, "--key", "sk-wrong-canary")

    assert shown.returncode == 1
    assert shown.stdout == ""
    assert shown.stderr == (
        "relay: the key is missing or refused: give one with --key or in OPENAI_API_KEY\n"
    )


def test_a_malformed_url_is_a_mistake_of_the_user(relay: Program) -> None:
    shown = relay("models", "--url", "localhost:8000")

    assert shown.returncode == 2
    assert shown.stderr.startswith("relay: --url: a base URL starts with http://")


def test_a_url_without_its_path_is_told(relay: Program, fake: FakeUpstream) -> None:
    root = fake.url.removesuffix("/v1")
    shown = relay("models", "--url", f"{root}/", "--key", "sk-canary")

    assert shown.returncode == 1
    assert shown.stderr == f"relay: no API at {root}/; did you mean {root}/v1?\n"


def test_a_malformed_key_is_not_shown(relay: Program) -> None:
    shown = relay("models", "--key", "sk canary")

    assert shown.returncode == 2
    assert shown.stderr.startswith("relay: --key: ")
    assert "canary" not in shown.stderr


def test_local_models_show_whether_they_are_loaded(relay: Program, fake: FakeUpstream) -> None:
    cards = json.loads(models_body("loading", "elsewhere"))
    cards["data"][0]["status"] = {"value": "loading", "progress": 0.4}
    fake.answer(
        Script(body=json.dumps(cards).encode(), headers=[(b"content-type", b"application/json")])
    )
    shown = relay("models", "--url", fake.url, "--key", "sk-canary")
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert rows == [
        ["model", "owner", "state"],
        ["loading", "fake", "loading", "40", "%"],
        ["elsewhere", "fake"],
    ]
