"""Real models of transformers, tiny ones, made once for all tests."""

import os
import tempfile
from pathlib import Path

import pytest

# Read when transformers is imported: nothing is fetched, and no code is left in a home directory.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="relay-hf-")

from hf.folders import save, save_chat  # see above


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `transformers:`."""
    return save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `chatglm:`."""
    return save_chat(tmp_path_factory.mktemp("models") / "tiny-chat")


@pytest.fixture(autouse=True, scope="session")
def few_threads() -> None:
    """The models are so small that threads only cost."""
    import torch

    torch.set_num_threads(1)
