"""A model that a program has in hand: `relay.serve(model=model, tokenizer=tokenizer)`."""

from typing import Any

from relay.local.chatglm import ChatGlmModel, is_chat_model
from relay.local.hf import HfBackend, HfOptions
from relay.local.model import LocalBackend
from relay.local.threaded import ThreadedBackend
from relay.settings import Settings, SettingsError


class Handed:
    """A ChatGLM-style object, or a causal language model of transformers."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Raises: SettingsError: it is neither."""
        self._model = model
        self._tokenizer = tokenizer
        self._chat = ChatGlmModel(model, tokenizer) if is_chat_model(model) else None
        # What its own chat methods do is theirs; else the template is how it is talked to.
        if self._chat is None and not (
            callable(getattr(model, "generate", None))
            and callable(getattr(tokenizer, "apply_chat_template", None))
        ):
            raise SettingsError(
                f"a {type(model).__name__} with a {type(tokenizer).__name__} is no chat model: "
                "it has neither 'chat' and 'stream_chat', nor 'generate' and a chat template"
            )

    def open(self, settings: Settings) -> LocalBackend:
        """The backend around it."""
        if self._chat is not None:
            return ThreadedBackend(self._chat, parallel=1)
        options = HfOptions(settings.local_context_tokens, settings.local_parallel)
        name = type(self._model).__name__.lower()
        return HfBackend(self._model, self._tokenizer, name=name, options=options)
