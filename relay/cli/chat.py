"""`relay chat`: one question, or a conversation.

Every answer runs in the event loop, every prompt outside of it, so that Ctrl-C means the answer
while there is one, and the prompt otherwise.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import typer

from relay.cli.conversation import Conversation
from relay.cli.endpoint import explain_api, list_models, open_endpoint
from relay.cli.here import api_here
from relay.cli.prompt import read_message
from relay.cli.terminal import fail, note, say
from relay.errors import BackendError
from relay.types import Backend

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it: 128 + SIGINT."""

HELP = '''/model [NAME]    another model; alone: which one it is
/system [TEXT]   another system prompt; alone: which one it is
/history         what was said so far
/reset           forget it
/quit            leave (or Ctrl-D)
A line that ends in a backslash goes on in the next; """ begins and ends a block of lines.
Ctrl-C stops an answer. A space before a slash makes it a message.'''


def run(
    prompt: str | None, *, url: str | None, key: str | None, model: str | None, system: str | None
) -> None:
    """Answer `prompt`, or what comes through a pipe, or talk until the user leaves."""
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read()
    if prompt is not None and not prompt.strip():
        fail("there is no question: give one as an argument or through a pipe", code=2)
    url = url or api_here()
    backend = open_endpoint(url, key)
    with asyncio.Runner() as runner:
        try:
            chosen = model or runner.run(_first_model(backend, url))
            chat = _Chat(runner, Conversation(backend, model=chosen, system=system), url)
            code = chat.talk() if prompt is None else chat.answer(prompt)
        except KeyboardInterrupt:
            code = INTERRUPTED
        finally:
            runner.run(backend.aclose())
    raise typer.Exit(code)


async def _first_model(backend: Backend, url: str) -> str:
    try:
        cards = await list_models(backend)
    except BackendError as exc:
        fail(explain_api(exc, url))
    if not cards:
        fail(f"{url} has no models; name one with --model")
    return str(cards[0]["id"])


class _Chat:
    """A conversation at the terminal."""

    def __init__(self, runner: asyncio.Runner, conversation: Conversation, url: str) -> None:
        self._runner = runner
        self._conversation = conversation
        self._url = url
        self._commands = {
            "/help": lambda _: note(HELP),
            "/model": self._model,
            "/system": self._system,
            "/history": self._history,
            "/reset": self._reset,
        }

    def talk(self) -> int:
        """Questions and answers until the user leaves; returns the exit status."""
        note(f"{self._conversation.model} at {self._url}; /help tells more.")
        while (message := read_message()) is not None and message.strip() != "/quit":
            # Ctrl-C just before or after an answer must not end the conversation either.
            with contextlib.suppress(KeyboardInterrupt):
                self._take(message)
        return 0

    def answer(self, question: str) -> int:
        """Show the answer to one question; returns what the exit status would be."""
        last = "\n"

        def show(piece: str) -> None:
            nonlocal last
            say(piece)
            last = piece

        try:
            reason = self._runner.run(_interruptible(self._conversation.ask(question, show)))
        except BackendError as exc:
            self._end_line(last)
            note(f"relay: {explain_api(exc, self._url)}", style="red")
            return 1
        self._end_line(last)
        if reason is None:
            note("(stopped)")
            return INTERRUPTED
        if reason != "stop":
            note(f"(ended: {reason})")
        return 0

    def _take(self, message: str) -> None:
        if not message.startswith("/") or "\n" in message:
            self.answer(message)
            return
        command, _, rest = message.partition(" ")
        if command in self._commands:
            self._commands[command](rest.strip())
        else:
            note(f"There is no {command}; /help tells what there is.")

    def _end_line(self, last: str) -> None:
        if not last.endswith("\n"):
            say("\n")

    def _model(self, name: str) -> None:
        self._conversation.model = name or self._conversation.model
        note(f"model: {self._conversation.model}")

    def _system(self, text: str) -> None:
        self._conversation.system = text or self._conversation.system
        note(f"system: {self._conversation.system or '(none)'}")

    def _history(self, _: str) -> None:
        for turn in self._conversation.turns:
            note(f"{turn['role']}: {turn['content']}")
        if not self._conversation.turns:
            note("Nothing was said yet.")

    def _reset(self, _: str) -> None:
        self._conversation.turns.clear()
        note("Forgotten.")


async def _interruptible(work: Coroutine[Any, Any, str]) -> str | None:
    """Its result, or None when Ctrl-C cancelled it. A second Ctrl-C does not disturb its end."""
    task = asyncio.ensure_future(work)

    def interrupt() -> None:
        if not task.cancelling():
            task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        await asyncio.wait([task])
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    return None if task.cancelled() else task.result()
