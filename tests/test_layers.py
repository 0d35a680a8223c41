"""Imports go one way only, foreign packages stay behind their border, and importing does nothing.

The table is the one of docs/design.md. A new file or package under relay/ needs its row here.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYERS = (
    ("errors", "types", "schema", "origins", "secret_forms"),
    ("header_lines", "history", "sse", "splice", "settings", "plugins", "events"),
    ("stores", "usage", "dialects"),
    (
        "keys",
        "limits",
        "ledger",
        "prices",
        "telemetry",
        "upstream",
        "local",
        "health",
        "switch",
        "first_token",
    ),
    ("verdict",),
    ("policies", "probing"),
    ("routing", "flights"),
    ("attempts", "course"),
    ("engine",),
    ("sessions",),
    ("web",),
    (
        "app",
        "backends",
        "books",
        "built",
        "model_process",
        "reload",
        "scraping",
        "serving",
        "watch",
        "workers",
        "cli",
        "__main__",
    ),
)
"""A unit, which is a file or a folder of relay/, may import those of the layers before its own."""

KNOW_EACH_OTHER = (0, len(LAYERS) - 1)
"""The nouns are made of one another, and those who wire see everything."""

BORDERS = {
    "fastapi": ("web", "built"),
    "starlette": ("web", "app", "built"),
    "sse_starlette": ("web", "serving"),
    "httpx": ("upstream",),
    "httpx2": ("upstream",),
    "httptools": ("upstream", "web"),
    "websockets": ("upstream", "web"),
    "sqlite3": ("stores",),
    "aiosqlite": ("stores",),
    "asyncpg": ("stores",),
    "psycopg": ("stores",),
    "redis": ("stores",),
    "prometheus_client": ("telemetry",),
    "opentelemetry": ("telemetry",),
    "requests": ("telemetry",),
}
"""Foreign packages, and the only units that may import them."""

LATE_IMPORTS = {
    "cli": "the help is there at once, without what the commands need",
    "local": "an engine is an optional extra",
    "telemetry": "what sends traces opens a socket when it is imported",
    "scraping": "Prometheus' library takes 30 ms, and the first scrape is early enough for it",
    "upstream": "httpx takes a tenth of a second, and is for proxies and HTTP/2 only",
}
"""Units that may import inside a function, and why."""

LONGEST_FILE = 400

WATCHED_IMPORT = """
import importlib, json, os, sys, threading
seen = []
def watch(event, args):
    if event in {"socket.__new__", "socket.bind", "socket.connect", "subprocess.Popen", "os.fork"}:
        seen.append(event)
    elif event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        seen.append(f"open {args[0]}")
sys.addaudithook(watch)
for name in sys.argv[1:]:
    importlib.import_module(name)
if threading.active_count() > 1:
    seen.append("a thread")
print(json.dumps({"seen": seen, "modules": list(sys.modules)}))
"""


@dataclass(frozen=True)
class Import:
    """An import statement: who imports what, where, and whether inside a function."""

    unit: str
    module: str
    place: str
    late: bool


def source_files() -> list[Path]:
    return sorted((ROOT / "relay").rglob("*.py"))


def unit_of(path: Path) -> str:
    """`relay/web/chat.py` belongs to `web`, `relay/app.py` is `app`; the package itself is ``."""
    first = path.relative_to(ROOT / "relay").parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def walk(node: ast.AST, late: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below one, and whether it runs only when a function is called."""
    for child in ast.iter_child_nodes(node):
        inside = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield child, inside
        yield from walk(child, inside)


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


@cache
def imports() -> list[Import]:
    return [
        Import(unit_of(path), module, f"{path.relative_to(ROOT)}:{node.lineno}", late)
        for path in source_files()
        for node, late in walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in imported(node)
    ]


def our_units(imports: list[Import]) -> Iterator[tuple[Import, str]]:
    """Imports of our own and the units they reach; `from relay import __version__` has none."""
    units = {unit_of(path) for path in source_files()}
    for one in imports:
        package, _, rest = one.module.partition(".")
        unit = rest.partition(".")[0]
        if package == "relay" and unit in units:
            yield one, unit


def layer_of(unit: str) -> int:
    return next(number for number, units in enumerate(LAYERS) if unit in units)


def may_import(unit: str, other: str) -> bool:
    if unit == other:
        return True
    below, above = layer_of(other), layer_of(unit)
    return below < above or (below == above and above in KNOW_EACH_OTHER)


def test_every_file_has_its_layer():
    known = {unit for units in LAYERS for unit in units} | {""}
    strangers = sorted({unit_of(path) for path in source_files()} - known)
    assert not strangers, f"give {strangers} a layer, here and in docs/design.md"


def test_imports_go_down_the_layers():
    # The package only promises its public names to type checkers; nothing is imported by it.
    upward = [
        f"{one.place}: {one.unit} may not import {other}"
        for one, other in our_units(imports())
        if one.unit and not may_import(one.unit, other)
    ]
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize("package", BORDERS)
def test_a_foreign_package_is_imported_only_behind_its_border(package):
    strays = [
        f"{one.place}: {package} belongs into {' and '.join(BORDERS[package])}"
        for one in imports()
        if one.module.partition(".")[0] == package and one.unit not in BORDERS[package]
    ]
    assert not strays, "\n".join(strays)


def test_the_environment_is_read_only_by_the_settings_and_the_commands_and_never_at_import():
    strays = []
    for path in source_files():
        for node, late in walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
            if named and not (late and unit_of(path) in ("settings", "cli")):
                strays.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not strays, f"the environment is read in {strays}"


def test_nothing_is_imported_inside_a_function_but_where_there_is_a_reason():
    late = [one.place for one in imports() if one.late and one.unit not in LATE_IMPORTS]
    assert not late, f"move to the top of the file: {late}"


def test_no_file_is_longer_than_one_noun():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in source_files()
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE}
    assert not too_long, f"split what is longer than {LONGEST_FILE} lines: {too_long}"


def watched_import(*modules: str) -> dict[str, list[str]]:
    """What importing them does that an import should not, and what is loaded then."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED_IMPORT, *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_every_module_does_nothing():
    modules = [module_of(path) for path in source_files()]
    assert watched_import(*modules)["seen"] == []


def test_the_server_loads_no_httpx_before_an_upstream_wants_it():
    loaded = {name.partition(".")[0] for name in watched_import("relay.app")["modules"]}
    assert "fastapi" in loaded
    assert "httpx" not in loaded


def test_the_library_of_prometheus_is_loaded_by_the_first_scrape():
    loaded = {name.partition(".")[0] for name in watched_import("relay.serving")["modules"]}
    assert "prometheus_client" not in loaded


def test_the_library_of_opentelemetry_is_loaded_by_what_sends_traces():
    watched = watched_import("relay.serving", "relay.telemetry.tracing")
    loaded = {name for name in watched["modules"] if name.startswith("opentelemetry")}
    assert not any(
        name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")) for name in loaded
    )


@pytest.mark.parametrize("module", ["relay", "relay.cli"])
def test_what_starts_first_loads_no_pydantic_and_no_network_client(module):
    loaded = {name.partition(".")[0] for name in watched_import(module)["modules"]}
    assert loaded.isdisjoint({"pydantic", "fastapi", "httpx", "uvicorn", "xllamacpp"})
