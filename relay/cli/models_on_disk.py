"""`relay local list`, `add` and `remove`."""

import json
from pathlib import Path
from urllib.parse import urlsplit

from rich.text import Text

from relay.cli import small_model
from relay.cli.adding import Adding, CannotAdd
from relay.cli.terminal import fail, note, print_table, say
from relay.local import find_smollm2
from relay.local.shelf import SUFFIX, NotAModel, Shelf
from relay.settings import Settings, SettingsError, load_settings

SMOLLM2 = "smollm2"


def show(*, config: str | None, as_json: bool) -> None:
    """Print the models of the folder, and the small one where its package is installed."""
    shelf = _shelf(config)
    models = [
        {
            "name": model.name,
            "bytes": model.size_bytes,
            "path": str(model.path),
            "source": model.source,
            "sha256": model.sha256,
        }
        for model in shelf.all()
    ]
    packaged = find_smollm2()
    if packaged is not None and shelf.find(SMOLLM2) is None:
        source = f"the package {small_model.PACKAGE}"
        size = packaged.stat().st_size
        models.append(
            {"name": SMOLLM2, "bytes": size, "path": str(packaged), "source": source, "sha256": ""}
        )
    if as_json:
        say(json.dumps(models, indent=2) + "\n")
        return
    if not models:
        note(f"There are no models in {shelf.folder}; relay local add brings one.")
        return
    rows = [[m["name"], megabytes(int(str(m["bytes"]))), m["source"], m["path"]] for m in models]
    print_table(["name", "size", "from", "file"], [[Text(str(c)) for c in row] for row in rows])


def add(source: str, *, name: str | None, sha256: str | None, config: str | None) -> None:
    """Bring a model into the folder."""
    shelf = _shelf(config)
    path = Path(source).expanduser()
    try:
        adding = Adding(shelf, sha256=sha256)
        if "://" in source:
            added = adding.from_url(source, name or _stem(urlsplit(source).path))
        elif source == SMOLLM2 and not path.exists():
            added = adding.from_package(name or SMOLLM2)
        else:
            added = adding.from_file(path, name or _stem(path.name))
    except (NotAModel, CannotAdd) as exc:
        fail(f"{source} was not added: {exc}")
    except OSError as exc:
        fail(f"{source} was not added: {exc.strerror or exc}: {exc.filename or shelf.folder}")
    what = SMOLLM2 if added.name == SMOLLM2 else f"llama:{added.name}"
    note(f"added {added.name}, {megabytes(added.size_bytes)}, sha256 {added.sha256}")
    note(f"serve it with RELAY_LOCAL={what}", style="")


def remove(name: str, *, config: str | None) -> None:
    """Delete a model from the folder."""
    try:
        gone = _shelf(config).remove(name)
    except NotAModel as exc:
        fail(str(exc))
    note(f"removed {gone.name}, {megabytes(gone.size_bytes)}")


def settings_of(config: str | None) -> Settings:
    """The settings, or the end of the program with what is wrong with them."""
    try:
        return load_settings({}, config=config)
    except SettingsError as exc:
        fail(str(exc), code=2)


def megabytes(size_bytes: int) -> str:
    """A size, for people."""
    return f"{size_bytes / 10**6:,.1f} MB"


def _shelf(config: str | None) -> Shelf:
    return Shelf(settings_of(config).local_folder)


def _stem(name: str) -> str:
    return Path(name).name.removesuffix(SUFFIX)
