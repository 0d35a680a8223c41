"""Certificates for tests, made by `openssl` when they are needed."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2")


@dataclass(frozen=True)
class Certificate:
    """PEM files: a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; `root.cert` is what those who trust it need."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        self.root = self._make("authority", "-addext", usage)

    def issue(self, name: str, *, san: str) -> Certificate:
        """A certificate for `san`, such as `DNS:localhost,IP:127.0.0.1`."""
        signing = ["-CA", str(self.root.cert), "-CAkey", str(self.root.key)]
        leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName={san}"]
        return self._make(name, *signing, *leaf)

    def _make(self, name: str, *more: str) -> Certificate:
        made = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        files = ["-out", str(made.cert), "-keyout", str(made.key)]
        command = ["openssl", "req", "-x509", "-subj", f"/CN={name}", *KEY, *files, *more]
        subprocess.run(command, check=True, capture_output=True)
        return made
