"""One document of a server that is no upstream, such as the public keys of an identity provider."""

from urllib.parse import urlsplit

from relay.settings import Timeouts, UpstreamSettings
from relay.types import Call
from relay.upstream.direct import DirectUpstream

LIMITS = Timeouts(connect_s=2, first_byte_s=2, idle_s=2, total_s=3)


async def fetch(url: str) -> bytes:
    """What `GET url` answers. Redirects are not followed.

    Raises:
        BackendError: it cannot be had in time, or is an error.
    """
    parts = urlsplit(url)
    settings = UpstreamSettings(
        name="document", base_url=f"{parts.scheme}://{parts.netloc}", timeouts=LIMITS
    )
    path = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    client = DirectUpstream(settings)
    try:
        return (await client.complete(Call(path=path, method="GET"))).body
    finally:
        await client.aclose()
