"""Models in this process: how one is written, found and named.

A local model is one small class (`LocalModel`): a blocking generator of text pieces. The relay
gives it a thread, turns its pieces into chunks, and handles stop strings, limits, usage and
cancellation.
An engine with a wire format of its own implements `LocalBackend` instead (see `llama.py`).

    RELAY_LOCAL                  what answers
    smollm2                      the bundled small model, through xllamacpp
    llama:PATH.gguf, llama:NAME  any GGUF file, through xllamacpp
    transformers:DIR             a folder of transformers, with a chat template
    chatglm:DIR                  a folder whose own code has `chat` and `stream_chat`
    echo                         repeats the question; needs nothing
    package.module:attribute     a LocalModel, a LocalBackend, or a callable that returns one
    NAME                         an entry point of the group `relay.local`

    model.py     the protocols                     opening.py   from a name to a backend
    threaded.py  a LocalModel as a backend         llama.py     GGUF files
    turns.py     who may generate, who waits       feed.py      from a thread to the event loop
    chunks.py    the wire                          stop.py      stop strings
    lazy.py      what takes long to make           detokenizer.py  from tokens to text
    chatglm.py   what has `chat`, `stream_chat`    hf.py, hf_batch.py  models of transformers
    hf_folder.py models in folders                 handed.py    models that a program has in hand
    shelf.py     models on disk that have a name
    standby.py   whether it is opened, and when it is loaded

With several workers the model is in one more process, which all of them ask (`host.py` there,
`shared.py` in a worker, `frames.py` between).
"""

from relay.local.handed import Handed
from relay.local.model import LocalBackend, LocalModel, Prompt
from relay.local.opening import as_backend, find_smollm2, open_local, opens_lightly
from relay.local.standby import Standby, is_chosen, is_needed, may_be_needed

__all__ = [
    "Handed",
    "LocalBackend",
    "LocalModel",
    "Prompt",
    "Standby",
    "as_backend",
    "find_smollm2",
    "is_chosen",
    "is_needed",
    "may_be_needed",
    "open_local",
    "opens_lightly",
]
