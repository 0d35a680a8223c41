"""A watched file that changes is told once it rests; a file that is not there may come."""

import asyncio
from pathlib import Path

from relay.watch import FileWatch


async def test_each_change_is_told_once_it_rests(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    told = asyncio.Event()
    watch = FileWatch(lambda: [file], told.set)
    watch.switch(True)
    watch.switch(True)
    for text in ("one", "three"):
        file.write_text(text)
        await told.wait()
        told.clear()
    file.unlink()
    await told.wait()
    watch.switch(False)
    watch.switch(False)
