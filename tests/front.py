"""A real nginx in front of relays, by the configuration that is shipped: only its places differ."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from running import ROOT, accepts

CONFIGURATION = ROOT / "deploy" / "nginx" / "nginx.conf"


@contextmanager
def in_front(folder: Path, roots: Sequence[str]) -> Iterator[str]:
    """One address for all of those relays."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "nginx.conf").write_text(placed(folder, roots, port))
    command = [
        *(program(), "-c", str(folder / "nginx.conf"), "-e", str(folder / "errors")),
        *("-g", "daemon off;" + (" user root;" if os.geteuid() == 0 else "")),
    ]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    nginx = subprocess.Popen(command)
    root = f"http://127.0.0.1:{port}"
    try:
        while not accepts(root):
            assert nginx.poll() is None, (folder / "errors").read_text()
        yield root
    finally:
        nginx.terminate()
        nginx.wait()


def program() -> str:
    """Debian has it where only root's path leads."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip("nginx is not installed")
    return found


def placed(folder: Path, roots: Sequence[str], port: int) -> str:
    """The configuration for these relays, with everything it writes in that folder."""
    text = CONFIGURATION.read_text()
    pattern = re.compile(r"^( +)server relay-1:8000( .*;)\n +server relay-2:8000\2$", re.MULTILINE)
    (found,) = pattern.finditer(text)
    servers = [f"{found[1]}server {httpx.URL(root).netloc.decode()}{found[2]}" for root in roots]
    places = {
        found[0]: "\n".join(servers),
        "listen 8080;": f"listen 127.0.0.1:{port};",
        " /tmp/": f" {folder}/",
        "/dev/stderr": f"{folder}/errors",
        "/dev/stdout": f"{folder}/calls",
        "worker_processes auto;": "worker_processes 1;",
    }
    for ours, theirs in places.items():
        assert ours in text, ours
        text = text.replace(ours, theirs)
    return text
