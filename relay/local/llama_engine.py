"""The engine: xllamacpp's server, held by us, with one way to open it and four to ask it.

Everything here blocks, and belongs into a thread. While a file is being loaded the engine holds
Python's lock, so the process is quiet for that time (0.3 to 1.5 s for the small model).
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.errors import InvalidRequest
from relay.local.gguf import GgufHead, NotGguf, read_head
from relay.local.llama_chunks import first_line, refusal
from relay.local.llama_schema import Rule
from relay.local.resident import Unloadable

CACHE_MIB = 64
"""Memory for the prompts of earlier requests; the engine's default is 8192."""

SILENT = -1
"""The engine's verbosity at which it prints nothing."""

LISTENER_THREADS = 1
"""Threads for the engine's own listener, which nobody uses."""

OVERHEAD_BYTES = 150 * 1024 * 1024
"""What the engine takes beside weights and cache: buffers of one batch, the tables of words."""

KNOWN_RULES = 10_000
"""How many grammars are remembered that the engine can use; by 32 bytes each."""

TRIAL_TOKENS = 4
"""Some grammars fail behind an opening brace only."""

Body = dict[str, Any]
Take = Callable[[dict[str, Any]], bool]
"""Called for each chunk; True stops the engine."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a file is opened: room for `parallel` requests of `context_tokens` each."""

    path: Path
    context_tokens: int
    parallel: int
    threads: int = 0
    chat_template: Path | None = None
    embeddings: bool = False
    batch_tokens: int = 24

    def head(self) -> GgufHead:
        """What the file says of itself.

        Raises:
            Unloadable: it is missing, damaged, or no GGUF file.
        """
        try:
            return read_head(self.path)
        except NotGguf as exc:
            reason = str(exc)
        except OSError as exc:
            reason = "it is missing" if isinstance(exc, FileNotFoundError) else str(exc.strerror)
        raise Unloadable(f"The model file {self.path.name} could not be loaded: {reason}.")

    def weigh(self) -> int:
        """About the memory it will take, in bytes.

        Raises:
            Unloadable: as `head`.
        """
        return self.head().needed_bytes(self.context_tokens * self.parallel) + OVERHEAD_BYTES


class LlamaEngine:
    """A loaded file. Asking it returns when the answer has ended, or was stopped."""

    def __init__(self, opening: Opening) -> None:
        """Load it; takes seconds.

        Raises:
            Unloadable: the engine cannot take it.
        """
        import xllamacpp  # noqa: PLC0415  # an optional extra of 34 MB: only its users load it

        params = xllamacpp.CommonParams()
        params.model.path = str(opening.path)
        params.n_ctx = opening.context_tokens * opening.parallel
        params.n_parallel = opening.parallel
        # A batch carries a token of each answer, too: with less room than that the engine aborts.
        batch_tokens = max(opening.batch_tokens, 2 * opening.parallel)
        params.n_batch = params.n_ubatch = batch_tokens
        params.cache_ram_mib = CACHE_MIB
        params.verbosity = SILENT
        params.warmup = False
        for cores in (params.cpuparams, params.cpuparams_batch):
            # Its threads would keep each core for milliseconds: they give way to those that wake.
            cores.priority = xllamacpp.ggml_sched_priority.GGML_SCHED_PRIO_LOW
            if opening.threads:
                cores.n_threads = opening.threads
        if opening.chat_template is not None:
            params.chat_template = _read_template(opening.chat_template)
        if opening.embeddings:
            params.embedding = True
            params.cache_ram_mib = 0  # each text is read whole: what was kept would never be used
            params.n_batch = params.n_ubatch = opening.context_tokens  # a text is one batch
            if not opening.head().pooled:
                params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        # It cannot be kept from listening on a port of the loopback, but nobody can use it.
        params.api_keys = [secrets.token_hex(32)]
        params.n_threads_http = LISTENER_THREADS
        params.ui = False
        params.endpoint_slots = False
        params.cors_origins = "null"
        try:
            self._server = xllamacpp.Server(params)
        except Exception as exc:  # the engine's own words for it say nothing to an operator
            raise Unloadable(
                f"The model file {opening.path.name} could not be loaded: it is damaged, larger "
                "than the free memory, or of a kind that xllamacpp does not know."
            ) from exc
        self._held_to: set[bytes] = set()
        # Warms it up, and proves that its loop runs: freed before that, the engine waits for ever.
        if opening.embeddings:
            self._server.handle_embeddings({"input": "a"})
        else:
            self._server.handle_completions(
                {"prompt": " ", "n_predict": 1, "stream": True}, lambda _: False
            )

    def ask(self, body: Body, take: Take, *, chat: bool) -> None:
        """Answer a request chunk by chunk.

        Raises:
            InvalidRequest: the engine cannot read it, or cannot use its schema or template.
            RuntimeError: it failed when the answer had begun.
        """
        began = False

        def watch(chunk: dict[str, Any] | None) -> bool:
            nonlocal began
            if chunk is None:  # the engine begins so when it was given several prompts
                return False
            began = began or "prompt_progress" not in chunk
            return take(chunk)

        server = self._server
        try:
            (server.handle_chat_completions if chat else server.handle_completions)(body, watch)
        except (ValueError, TypeError, RuntimeError) as exc:
            if began:
                raise
            raise InvalidRequest(
                f"The local model cannot take this request: {first_line(str(exc))}"
            ) from exc

    def count(self, body: Body, *, chat: bool) -> int:
        """The tokens of its prompt, also of one that is too long; some milliseconds.

        Raises:
            InvalidRequest: as `ask`.
        """
        seen: list[dict[str, Any]] = []

        def look(chunk: dict[str, Any]) -> bool:
            seen.append(chunk)  # what is raised in here is lost
            return True

        self.ask(body | {"stream": True, "return_progress": True}, look, chat=chat)
        first = seen[0] if seen else {}
        if "prompt_progress" in first:
            return int(first["prompt_progress"]["total"])
        error = first.get("error", {})
        if "n_prompt_tokens" not in error:
            raise refusal(error)
        return int(error["n_prompt_tokens"])

    def check_rule(self, rule: Rule) -> None:
        """See that answers are held to a grammar: of one that it cannot use, the engine is silent.

        So it is asked for a few tokens that should be line breaks above all: none may come. It
        answers nobody else while it reads the grammar.

        Raises:
            InvalidRequest: they are not.
        """
        key = hashlib.sha256(rule.grammar.encode()).digest()
        if key in self._held_to:
            return
        said = ""

        def look(chunk: dict[str, Any]) -> bool:
            nonlocal said
            said += "".join(choice["text"] for choice in chunk.get("choices", ()))
            return False

        trial = {"prompt": "A", "max_tokens": TRIAL_TOKENS, "stream": True, "temperature": 0}
        self.ask(trial | {"grammar": rule.grammar, "logit_bias": {"\n": 100}}, look, chat=False)
        if "\n" in said or said[:1].isspace():
            raise InvalidRequest(rule.refusal, param=rule.param)
        if len(self._held_to) < KNOWN_RULES:
            self._held_to.add(key)

    def embed(self, texts: list[Any]) -> dict[str, Any]:
        """The embeddings of texts or token lists, as OpenAI's answer.

        Raises:
            InvalidRequest, BackendError: the engine does not take them, or failed.
        """
        try:
            answer: dict[str, Any] = self._server.handle_embeddings({"input": texts})
        except (ValueError, TypeError, RuntimeError) as exc:
            raise InvalidRequest(
                f"The local model cannot embed this: {first_line(str(exc))}", param="input"
            ) from exc
        if "error" not in answer:
            return answer
        failure = refusal(answer["error"], param="input")
        failure.param = failure.param or "input"
        raise failure


def _read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise Unloadable(f"The chat template {path.name} cannot be read.") from exc
