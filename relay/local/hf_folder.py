"""Models in folders, as transformers saves them: found, checked and loaded.

    transformers:DIR    a causal language model with a chat template
    chatglm:DIR         a model whose own code, in that folder, has `chat` and `stream_chat`

Code of a folder is run for `chatglm:` only: whoever writes that has said so.
"""

import importlib.util
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from relay.local.chatglm import ChatGlmModel, is_chat_model
from relay.local.hf import HfBackend, HfOptions
from relay.local.lazy import CannotLoad, LazyBackend
from relay.local.model import LocalBackend
from relay.local.threaded import ThreadedBackend
from relay.settings import SettingsError

NEEDED = ("transformers", "torch")
CONFIG_FILE = "config.json"


def open_folder(kind: str, folder: Path, options: HfOptions) -> LocalBackend:
    """The model in that folder, not loaded yet; `kind` is `transformers` or `chatglm`.

    Raises:
        SettingsError: there is no model, or what it needs is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        raise SettingsError(
            f"{kind}:DIR needs transformers and torch: pip install 'openai-relay[transformers]'"
        )
    if not (folder / CONFIG_FILE).is_file():
        raise SettingsError(
            f"there is no model in {folder}: name a folder with a {CONFIG_FILE}, as transformers "
            f"saves one, as {kind}:DIR"
        )
    name = folder.resolve().name
    load = _load_chatglm if kind == "chatglm" else _load_transformers
    return LazyBackend(name, partial(load, folder, name, options))


def _load_transformers(folder: Path, name: str, options: HfOptions) -> LocalBackend:
    import transformers  # noqa: PLC0415  # an optional extra of a gigabyte: only its users load it

    loaded = _load(transformers.AutoModelForCausalLM, folder, options, trusted=False)
    if loaded.tokenizer.chat_template is None:
        raise CannotLoad(f"The model {name} has no chat template, so it is no chat model.")
    return HfBackend(loaded.model, loaded.tokenizer, name=name, options=options)


def _load_chatglm(folder: Path, name: str, options: HfOptions) -> LocalBackend:
    import transformers  # noqa: PLC0415  # see above

    loaded = _load(transformers.AutoModel, folder, options, trusted=True)
    if not is_chat_model(loaded.model):
        raise CannotLoad(
            f"The code of the model {name} has no 'chat' and 'stream_chat': "
            "name it as transformers:DIR."
        )
    model = ChatGlmModel(loaded.model, loaded.tokenizer, name=name)
    return ThreadedBackend(model, parallel=1)


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: Any
    tokenizer: Any


def _load(kind: Any, folder: Path, options: HfOptions, *, trusted: bool) -> _Loaded:
    import torch  # noqa: PLC0415  # see above
    import transformers  # noqa: PLC0415

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cuda = torch.cuda.is_available()
    if options.threads and not cuda:
        torch.set_num_threads(options.threads)
    # Half precision is what graphics cards are for; processors compute it slowly, if at all.
    dtype = "auto" if cuda else torch.float32
    local = {"local_files_only": True, "trust_remote_code": trusted}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
    model = kind.from_pretrained(folder, dtype=dtype, **local)
    return _Loaded(model.to("cuda" if cuda else "cpu").eval(), tokenizer)
