"""Models in this process: how one is written, found and named.

A local model is one small class (`LocalModel`): a blocking generator of text pieces. The relay
gives it a thread, turns its pieces into chunks, and handles stop strings, limits, usage and
cancellation.
What has a wire format of its own implements `Backend`, or `LocalBackend` where it has something to
load (see `llama.py`). How to write and install one: docs/local.md.

    RELAY_LOCAL                  what answers
    smollm2                      the bundled small model, through xllamacpp
    llama:PATH.gguf, llama:NAME  any GGUF file, through xllamacpp
    transformers:DIR             a folder of transformers, with a chat template
    chatglm:DIR                  a folder whose own code has `chat` and `stream_chat`
    echo                         repeats the question; needs nothing
    package.module:attribute     a LocalModel, a Backend, or what makes one
    NAME                         an entry point of the group `relay.local`

    model.py     the protocols                     opening.py   from a name to a backend
    making.py    options of plug-ins               several.py   which model answers for which id
    threaded.py  a LocalModel as a backend         llama*.py    GGUF files
    ready.py     a Backend as a local one          gguf.py      what a file says of itself
    turns.py     who may generate, who waits       feed.py      from a thread to the event loop
    resident.py  a file in memory, or not          memory.py    the room they share
    chunks.py    the wire of chats                 stop.py      stop strings
    answering.py whole or in pieces                completions.py, embeddings.py   the other wires
    given.py     whatever a user gives             handed.py    models that a program has in hand
    lazy.py      what takes long to make           detokenizer.py  from tokens to text
    chatglm.py   what has `chat`, `stream_chat`    hf.py, hf_batch.py  models of transformers
    hf_folder.py models in folders                 shelf.py     models on disk that have a name
    standby.py   whether it is opened, and when it is loaded

With several workers the model is in one more process, which all of them ask (`host.py` there,
`shared.py` in a worker, `frames.py` between).
"""

from relay.local.handed import Handed
from relay.local.model import LocalBackend, LocalModel, Options, Prompt, ToolCall, paths_of
from relay.local.opening import (
    as_backend,
    find_smollm2,
    installed_plugins,
    open_local,
    open_locals,
    opens_lightly,
)
from relay.local.standby import Standby, is_chosen, is_needed, may_be_needed

__all__ = [
    "Handed",
    "LocalBackend",
    "LocalModel",
    "Options",
    "Prompt",
    "Standby",
    "ToolCall",
    "as_backend",
    "find_smollm2",
    "installed_plugins",
    "is_chosen",
    "is_needed",
    "may_be_needed",
    "open_local",
    "open_locals",
    "opens_lightly",
    "paths_of",
]
