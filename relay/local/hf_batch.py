"""Generating with transformers: requests that wait together are computed together.

    answers wait --> one batch --> model.generate --each step--> a token for each row
                      |                 |
                      who has a seed    StoppingCriteria: done, or nobody listens any more
                      goes alone

Rows choose their tokens by themselves (temperature, seed and so on are each request's own): a
logits processor samples, and leaves `generate` only the token that was taken. What comes while a
batch runs waits for its end. A request with a seed is never mixed with others: sums are rounded
otherwise in another batch, which may turn a near-tie.
"""

import logging
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

SEED_BITS = 63

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. `temperature` 0: the likeliest; `top_k` 0 and `top_p` 1: of all."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None


class Row:
    """One answer that is being generated: tokens come out of `tokens`, None at the end."""

    def __init__(self, prompt: Sequence[int], limit: int, sampling: Sampling) -> None:
        self.prompt = prompt
        self.limit = limit
        self.sampling = sampling
        self.tokens: SimpleQueue[int | Exception | None] = SimpleQueue()
        self.count = 0
        self.ended = False
        self.left = False

    def leave(self) -> None:
        """Nobody wants the rest."""
        self.left = True
        self.tokens.put(None)

    def give(self, token: int, *, last: bool) -> None:
        """The next token."""
        self.count += 1
        self.ended = last or self.count >= self.limit
        self.tokens.put(token)
        if self.ended:
            self.tokens.put(None)

    @property
    def done(self) -> bool:
        """Whether nothing more is to be computed for it."""
        return self.ended or self.left


class _Abandoned(Exception):
    """Everybody has left, in the middle of a step."""


@dataclass
class Batcher:
    """Runs what is submitted on one model, in one thread, at most `places` rows at a time."""

    model: Any
    pad_token: int
    end_tokens: frozenset[int]
    places: int
    _waiting: deque[list[Row]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: bool = False
    _rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        import torch  # noqa: PLC0415  # an optional extra: only its users load it

        # A long prompt is one step: between its layers everybody may have left, too.
        for module in self.model.modules():
            if isinstance(module, torch.nn.ModuleList):
                for layer in module:
                    layer.register_forward_pre_hook(self._check)

    def submit(self, rows: list[Row]) -> None:
        """Have the answers of one request generated; they come together."""
        with self._lock:
            self._waiting.append(rows)
            if self._running:
                return
            self._running = True
        # A daemon: a model that is stuck must not keep the process from exiting.
        threading.Thread(target=self._run, name="relay-batch", daemon=True).start()

    def _run(self) -> None:
        while rows := self._take():
            self._rows = rows
            try:
                self._generate(rows)
            except _Abandoned:
                logger.debug("local_batch_abandoned")
            except Exception as exc:  # the engine's: its readers must be told
                for row in rows:
                    row.tokens.put(exc)
            finally:
                self._rows = []
                for row in rows:
                    row.tokens.put(None)

    def _take(self) -> list[Row]:
        """The rows of the next batch, first come first served; none is the end of the thread."""
        with self._lock:
            rows: list[Row] = []
            while self._waiting and len(rows) + len(self._waiting[0]) <= self.places:
                alone = any(row.sampling.seed is not None for row in self._waiting[0])
                if alone and rows:
                    break
                rows += [row for row in self._waiting.popleft() if not row.left]
                if alone and rows:
                    break
            self._running = bool(rows)
            return rows

    def _generate(self, rows: list[Row]) -> None:
        import torch  # noqa: PLC0415  # see above
        import transformers  # noqa: PLC0415

        longest = max(len(row.prompt) for row in rows)
        padding = [longest - len(row.prompt) for row in rows]
        tokens = [
            [self.pad_token] * count + list(row.prompt)
            for row, count in zip(rows, padding, strict=True)
        ]
        mask = [[0] * count + [1] * (longest - count) for count in padding]
        device = self.model.device
        sampler = Sampler(rows, device)
        config = transformers.GenerationConfig(
            max_new_tokens=max(row.limit for row in rows),
            do_sample=False,
            num_beams=1,
            pad_token_id=self.pad_token,
            eos_token_id=sorted(self.end_tokens) or None,
        )

        def step(ids: Any, _scores: Any, **_: object) -> Any:
            last = ids[:, -1].tolist()
            for row, token in zip(rows, last, strict=True):
                if not row.done:
                    row.give(token, last=token in self.end_tokens)
            return torch.tensor([row.done for row in rows], device=ids.device)

        with torch.inference_mode():
            self.model.generate(
                torch.tensor(tokens, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=config,
                logits_processor=transformers.LogitsProcessorList([sampler]),
                stopping_criteria=transformers.StoppingCriteriaList([step]),
            )

    def _check(self, *_: object) -> None:
        if self._rows and all(row.done for row in self._rows):
            raise _Abandoned


class Sampler:
    """A logits processor that takes a token for each row, by the row's own rules."""

    def __init__(self, rows: Sequence[Row], device: Any) -> None:
        import torch  # noqa: PLC0415  # see above

        self._torch = torch
        self._rows = rows
        self._generators = []
        for row in rows:
            seed = row.sampling.seed
            if seed is None:
                seed = secrets.randbits(SEED_BITS)
            generator = torch.Generator(device)
            generator.manual_seed(seed % 2**SEED_BITS)
            self._generators.append(generator)

    def __call__(self, ids: Any, scores: Any) -> Any:
        """Scores that leave one token in each row."""
        left = self._torch.full_like(scores, -float("inf"))
        for number, row in enumerate(self._rows):
            token = 0
            if not row.done:
                answered = ids[number, -row.count :] if row.count else ids[number, :0]
                token = self._choose(scores[number], row.sampling, answered, number)
            left[number, token] = 0.0
        return left

    def _choose(self, scores: Any, sampling: Sampling, answered: Any, number: int) -> int:
        torch = self._torch
        scores = scores.float()
        for token, bias in sampling.bias:
            scores[token] += bias
        if sampling.presence_penalty or sampling.frequency_penalty:
            counts = torch.bincount(answered, minlength=scores.shape[0])
            scores -= counts * sampling.frequency_penalty
            scores -= (counts > 0) * sampling.presence_penalty
        if sampling.temperature == 0:
            return int(scores.argmax())
        ordered, tokens = (scores / sampling.temperature).sort(descending=True)
        if sampling.top_k:
            ordered[sampling.top_k :] = -float("inf")
        chances = ordered.softmax(-1)
        # The likeliest stays whatever top_p is; then as many as it takes to reach it.
        chances[1:][chances.cumsum(-1)[:-1] >= sampling.top_p] = 0
        return int(tokens[torch.multinomial(chances, 1, generator=self._generators[number])])
