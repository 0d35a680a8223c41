"""An identity provider: real keys, a discovery document and a JWK set over HTTP, signed tokens."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "relay"


class IdentityProvider:
    """`jwks` is what it publishes; `asked` the paths it was asked for; `broken` answers 500."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.jwks: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.broken = False
        self.issuer = ""
        self.claims_issuer: str | None = None

    @classmethod
    @contextmanager
    def in_thread(cls) -> Iterator["IdentityProvider"]:
        provider = cls()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                body = provider.answer(self.path)
                self.send_response(500 if body is None else 200)
                self.send_header("content-length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        provider.issuer = f"http://127.0.0.1:{server.server_address[1]}/realm"
        provider.add_key("rsa-1", "RS256")
        provider.add_key("ec-1", "ES256")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, path: str) -> bytes | None:
        if self.broken:
            return None
        if path == "/realm/.well-known/openid-configuration":
            jwks_uri = f"{self.issuer}/keys"
            issuer = self.claims_issuer or self.issuer
            return json.dumps({"issuer": issuer, "jwks_uri": jwks_uri}).encode()
        if path == "/realm/keys":
            return json.dumps({"keys": self.jwks}).encode()
        return None

    def add_key(self, kid: str, algorithm: str) -> None:
        """Make a key and publish it."""
        if algorithm.startswith("ES"):
            key: Any = ec.generate_private_key(ec.SECP256R1())
            public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        else:
            key = rsa.generate_private_key(65537, 2048)
            public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self.keys[kid] = (key, algorithm)
        self.jwks.append({**public, "kid": kid, "alg": algorithm, "use": "sig"})

    def token(
        self, kid: str = "rsa-1", *, headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token signed by that key; claims that are None are left out."""
        key, algorithm = self.keys[kid]
        named = {"kid": kid, **(headers or {})}
        given = {name: value for name, value in named.items() if value is not None}
        return jwt.encode(self.claims(**claims), key, algorithm=algorithm, headers=given)

    def claims(self, **claims: Any) -> dict[str, Any]:
        usual = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "user-1",
            "exp": int(time.time()) + 300,
        }
        return {name: value for name, value in {**usual, **claims}.items() if value is not None}


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
