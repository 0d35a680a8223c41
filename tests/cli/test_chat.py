"""`relay chat`, as one question and as a conversation at a terminal."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from transcripts import chat_stream, error_body, event, models_body

from cli.program import CTRL_C, CTRL_D, Program, Terminal

EVENT_STREAM = (b"content-type", b"text/event-stream")


def says(*pieces: str, **more: Any) -> Script:
    return Script(headers=[EVENT_STREAM], pieces=chat_stream(pieces), **more)


def asked(fake: FakeUpstream) -> list[dict[str, Any]]:
    """The bodies of the chat requests it received."""
    return [json.loads(request.body) for request in fake.requests if request.method == "POST"]


def messages(fake: FakeUpstream) -> list[tuple[str, str]]:
    """The last conversation it received, as (role, content)."""
    return [(turn["role"], turn["content"]) for turn in asked(fake)[-1]["messages"]]


@pytest.fixture
def arguments(fake: FakeUpstream) -> list[str]:
    return ["chat", "--url", fake.url, "--key", "sk-canary"]


class TestOneQuestion:
    def test_the_answer_and_nothing_else_goes_to_standard_output(
        self, relay: Program, fake: FakeUpstream, arguments: list[str]
    ) -> None:
        shown = relay(*arguments, "Grüße an alle")

        assert (shown.returncode, shown.stdout, shown.stderr) == (0, "Grüße an alle\n", "")

    def test_the_question_can_come_through_a_pipe(
        self, relay: Program, fake: FakeUpstream, arguments: list[str]
    ) -> None:
        shown = relay(*arguments, "--model", "m", stdin="one\ntwo")

        assert (shown.returncode, shown.stdout) == (0, "one\ntwo\n")

    def test_the_first_model_is_asked_unless_one_is_named(
        self, relay: Program, fake: FakeUpstream, arguments: list[str]
    ) -> None:
        relay(*arguments, "Hello")
        relay(*arguments, "--model", "fake-2", "Hello")

        assert [body["model"] for body in asked(fake)] == ["fake-1", "fake-2"]

    def test_the_system_prompt_comes_first(
        self, relay: Program, fake: FakeUpstream, arguments: list[str]
    ) -> None:
        relay(*arguments, "--system", "Be brief.", "Hello")

        assert messages(fake) == [("system", "Be brief."), ("user", "Hello")]

    def test_no_question_is_a_mistake_of_the_user(self, relay: Program) -> None:
        shown = relay("chat", stdin=" \n")

        assert shown.returncode == 2
        assert shown.stderr.startswith("relay: there is no question")

    def test_nobody_there_is_one_line(self, relay: Program) -> None:
        shown = relay("chat", "--url", "http://127.0.0.1:1/v1", "Hello")

        assert shown.returncode == 1
        assert shown.stderr == "relay: nothing listens on 127.0.0.1:1\n"

    def test_a_server_without_models_wants_one_to_be_named(
        self, relay: Program, fake: FakeUpstream, arguments: list[str]
    ) -> None:
        fake.answer(Script(body=models_body()))

        shown = relay(*arguments, "Hello")

        assert shown.returncode == 1
        assert "name one with --model" in shown.stderr

    @pytest.mark.parametrize(
        ("script", "complaint", "text"),
        [
            (
                Script(status=429, body=error_body("Slow down.")),
                "relay: 429: Slow down.\n",
                "",
            ),
            (
                Script(headers=[EVENT_STREAM], pieces=chat_stream(["Py"])[:2]),
                "relay: the answer was cut off\n",
                "Py\n",
            ),
            (
                Script(
                    headers=[EVENT_STREAM],
                    pieces=[*chat_stream(["Py"])[:2], event({"error": {"message": "no power"}})],
                ),
                "relay: the answer broke off: no power\n",
                "Py\n",
            ),
            (
                Script(headers=[EVENT_STREAM], body=b"data: <html>\n\n"),
                "relay: the answer holds something that is no chunk\n",
                "",
            ),
            (
                Script(headers=[EVENT_STREAM], body=b"data: [1]\n\n"),
                "relay: the answer holds something that is no chunk\n",
                "",
            ),
            (
                Script(headers=[EVENT_STREAM], body=b"data: " + b"x" * (17 * 1024 * 1024)),
                "relay: the answer holds an event that is too long to be read\n",
                "",
            ),
        ],
    )
    def test_a_failure_is_one_line_and_an_exit_status(
        self,
        relay: Program,
        fake: FakeUpstream,
        arguments: list[str],
        script: Script,
        complaint: str,
        text: str,
    ) -> None:
        fake.answer(script)

        shown = relay(*arguments, "--model", "m", "Hello")

        assert (shown.returncode, shown.stdout, shown.stderr) == (1, text, complaint)

    def test_an_end_other_than_stop_is_told(
        self, relay: Program, fake: FakeUpstream, arguments: list[str]
    ) -> None:
        length = event({"choices": [{"delta": {}, "finish_reason": "length"}]})
        fake.answer(Script(pieces=[*chat_stream(["Py"])[:2], length]))

        shown = relay(*arguments, "--model", "m", "Hello")

        assert (shown.returncode, shown.stdout, shown.stderr) == (0, "Py\n", "(ended: length)\n")

    def test_ctrl_c_ends_it_and_closes_the_connection(
        self, fake: FakeUpstream, arguments: list[str], tmp_path: Path
    ) -> None:
        fake.answer(says("One ", "two", piece_gates={2: Gate()}), path="/v1/chat/completions")
        with Terminal(*arguments, "Hello", directory=tmp_path) as terminal:
            terminal.see("One ")
            terminal.type(CTRL_C)

            assert terminal.exit_status() == 130
        fake.wait_for(lambda: fake.requests[-1].closed_at is not None)

    def test_ctrl_c_ends_it_also_while_the_models_are_asked_for(
        self, fake: FakeUpstream, arguments: list[str], tmp_path: Path
    ) -> None:
        fake.answer(Script(gate=Gate()))
        with Terminal(*arguments, "Hello", directory=tmp_path) as terminal:
            fake.wait_for(lambda: fake.requests)
            terminal.type(CTRL_C)

            assert terminal.exit_status() == 130


class TestConversation:
    @pytest.fixture
    def terminal(self, arguments: list[str], tmp_path: Path) -> Iterator[Terminal]:
        with Terminal(*arguments, directory=tmp_path) as terminal:
            terminal.see("/help tells more.")
            terminal.see("> ")
            yield terminal
            if terminal.process.poll() is None:
                terminal.type(CTRL_D)
                assert terminal.exit_status() == 0

    def ask(self, terminal: Terminal, text: str) -> str:
        """Type it; returns what is seen until the next prompt."""
        terminal.type(f"{text}\n")
        return terminal.see("\n> ")

    def test_each_question_is_sent_with_what_was_said_before(
        self, fake: FakeUpstream, terminal: Terminal
    ) -> None:
        fake.answer(says("Fine", "."), path="/v1/chat/completions")

        assert "Fine." in self.ask(terminal, "How are you?")
        self.ask(terminal, "Really?")

        assert messages(fake) == [
            ("user", "How are you?"),
            ("assistant", "Fine."),
            ("user", "Really?"),
        ]

    def test_ctrl_c_stops_the_answer_and_not_the_program(
        self, fake: FakeUpstream, terminal: Terminal
    ) -> None:
        stuck = says("One ", "two", piece_gates={2: Gate()})
        fake.answer(stuck, path="/v1/chat/completions", times=1)

        terminal.type("Count\n")
        terminal.see("One ")
        terminal.type(CTRL_C)
        terminal.see("(stopped)")
        fake.wait_for(lambda: fake.requests[-1].closed_at is not None)
        terminal.see("> ")
        self.ask(terminal, "Go on")

        assert messages(fake) == [("user", "Count"), ("assistant", "One "), ("user", "Go on")]

    def test_ctrl_c_before_the_first_word_forgets_the_question(
        self, fake: FakeUpstream, terminal: Terminal
    ) -> None:
        fake.answer(Script(gate=Gate()), path="/v1/chat/completions", times=1)

        terminal.type("Count\n")
        fake.wait_for(lambda: fake.requests[-1].method == "POST")
        terminal.type(CTRL_C)
        terminal.see("> ")
        self.ask(terminal, "Hello")

        assert messages(fake) == [("user", "Hello")]

    def test_a_failed_question_can_be_asked_again(
        self, fake: FakeUpstream, terminal: Terminal
    ) -> None:
        broken = Script(status=503, body=error_body("Busy."))
        fake.answer(broken, path="/v1/chat/completions", times=1)

        assert "relay: 503: Busy." in self.ask(terminal, "Hello")
        self.ask(terminal, "Hello")

        assert messages(fake) == [("user", "Hello")]

    def test_a_backslash_continues_the_line(self, fake: FakeUpstream, terminal: Terminal) -> None:
        terminal.type("one \\\n")
        terminal.see("… ")
        self.ask(terminal, "two")

        assert messages(fake) == [("user", "one \ntwo")]

    def test_quotes_hold_a_block_of_lines(self, fake: FakeUpstream, terminal: Terminal) -> None:
        terminal.type('"""\n')
        terminal.see("… ")
        terminal.type("/one\\\n")
        terminal.see("… ")
        terminal.type("\n")
        terminal.see("… ")
        self.ask(terminal, 'two"""')

        assert messages(fake) == [("user", "/one\\\n\ntwo")]

    def test_ctrl_c_drops_what_was_typed(self, fake: FakeUpstream, terminal: Terminal) -> None:
        for _ in range(2):
            terminal.type("one \\\n")
            terminal.see("… ")
            terminal.interrupt_prompt()
            terminal.see("> ")
            terminal.type("half a li")
            terminal.see("half a li")
            terminal.interrupt_prompt()
            terminal.see("> ")
        self.ask(terminal, "two")

        assert messages(fake) == [("user", "two")]

    def test_two_ctrl_c_on_empty_lines_leave(self, terminal: Terminal) -> None:
        terminal.interrupt_prompt()
        terminal.see("Ctrl-C again, or Ctrl-D, leaves.")
        terminal.see("> ")
        terminal.interrupt_prompt()

        assert terminal.exit_status() == 0

    def test_ctrl_d_leaves(self, terminal: Terminal) -> None:
        terminal.type(CTRL_D)

        assert terminal.exit_status() == 0

    def test_quit_leaves(self, terminal: Terminal) -> None:
        terminal.type("\n/quit\n")

        assert terminal.exit_status() == 0

    def test_the_model_can_be_changed(self, fake: FakeUpstream, terminal: Terminal) -> None:
        assert "model: fake-1" in self.ask(terminal, "/model")
        assert "model: fake-2" in self.ask(terminal, "/model fake-2")
        self.ask(terminal, "Hello")

        assert asked(fake)[-1]["model"] == "fake-2"

    def test_the_system_prompt_can_be_changed(self, fake: FakeUpstream, terminal: Terminal) -> None:
        assert "system: (none)" in self.ask(terminal, "/system")
        assert "system: Be kind." in self.ask(terminal, "/system Be kind.")
        self.ask(terminal, "Hello")

        assert messages(fake) == [("system", "Be kind."), ("user", "Hello")]

    def test_the_history_can_be_seen_and_forgotten(
        self, fake: FakeUpstream, terminal: Terminal
    ) -> None:
        fake.answer(says("Fine."), path="/v1/chat/completions")
        assert "Nothing was said yet." in self.ask(terminal, "/history")
        self.ask(terminal, "How are you?")

        history = self.ask(terminal, "/history")
        assert "user: How are you?\r\nassistant: Fine.\r\n" in history
        self.ask(terminal, "/reset")
        self.ask(terminal, "And now?")

        assert messages(fake) == [("user", "And now?")]

    def test_help_names_the_commands(self, terminal: Terminal) -> None:
        shown = self.ask(terminal, "/help")

        for command in ("/model", "/system", "/history", "/reset", "/quit"):
            assert command in shown

    def test_an_unknown_command_is_not_sent(self, fake: FakeUpstream, terminal: Terminal) -> None:
        assert "There is no /hepl" in self.ask(terminal, "/hepl me")
        assert asked(fake) == []

    def test_a_space_makes_a_slash_a_message(self, fake: FakeUpstream, terminal: Terminal) -> None:
        self.ask(terminal, " /etc")

        assert messages(fake) == [("user", " /etc")]

    def test_an_answer_cannot_steer_the_terminal(
        self, fake: FakeUpstream, terminal: Terminal
    ) -> None:
        fake.answer(says("\x1b[2J\rred\x9b1m"), path="/v1/chat/completions")

        assert "[2Jred1m" in self.ask(terminal, "Hello")

    def test_prompts_stay_out_of_a_pipe(
        self, fake: FakeUpstream, arguments: list[str], tmp_path: Path
    ) -> None:
        fake.answer(says("Fine."), path="/v1/chat/completions")
        with Terminal(*arguments, directory=tmp_path, stdout=subprocess.PIPE) as terminal:
            terminal.see("> ")
            self.ask(terminal, "How are you?")
            terminal.type(CTRL_D)

            assert terminal.exit_status() == 0
            assert terminal.process.stdout is not None
            assert terminal.process.stdout.read() == b"Fine.\n"
