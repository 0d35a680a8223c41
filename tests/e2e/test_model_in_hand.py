"""`relay.serve(model=..., tokenizer=...)`: the classic program, whole."""

from pathlib import Path

import httpx
import pytest
from running import chat, program

from relay import Settings, create_app, serve
from relay.settings import SettingsError

PROGRAM = """
import relay
from classic import model, tokenizer
relay.serve(model=model, tokenizer=tokenizer)
"""
CLASSIC = """
class Model:
    def chat(self, tokenizer, query, history=[]):
        for response, history in self.stream_chat(tokenizer, query, history):
            pass
        return response, history

    def stream_chat(self, tokenizer, query, history=[]):
        said = ""
        for word in tokenizer.split(query):
            said += word[::-1] + " "
            yield said, history + [(query, said)]

class Tokenizer:
    def split(self, text):
        return text.split()

model, tokenizer = Model(), Tokenizer()
"""


def test_the_classic_program_is_three_lines(tmp_path: Path) -> None:
    (tmp_path / "classic.py").write_text(CLASSIC)
    with (
        program(tmp_path, "-c", PROGRAM) as root,
        httpx.Client(base_url=root, timeout=30, trust_env=False) as http,
    ):
        answer = http.post("/v1/chat/completions", json=chat("abc def")).json()
        assert answer["choices"][0]["message"]["content"] == "cba fed "
        [card] = http.get("/v1/models").json()["data"]
        assert card["id"] == "model"


def test_what_is_no_model_is_said_before_anything_listens() -> None:
    for take in (create_app, serve):
        with pytest.raises(SettingsError, match="is no chat model"):
            take(Settings(port=0), model=7)
