"""A folder with its files and an environment, for settings to be loaded from."""

from pathlib import Path

import pytest

from relay.settings import Settings, SettingsError, load_settings


class Place:
    """A folder with its files and an environment: what `load_settings` looks at."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch

    def environment(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def load(self, flags: dict | None = None, *, config: str | None = None) -> Settings:
        return load_settings(flags, config=config, directory=self.folder)

    def fault(self, flags: dict | None = None, *, config: str | None = None) -> str:
        with pytest.raises(SettingsError) as caught:
            self.load(flags, config=config)
        return str(caught.value)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)
