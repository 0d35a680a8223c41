"""`relay models`: what a server has to offer."""

import asyncio
import json

from rich.text import Text

from relay.cli.endpoint import explain_api, list_models, open_endpoint
from relay.cli.here import api_here
from relay.cli.terminal import fail, print_table, printable, say
from relay.errors import BackendError
from relay.local.states import in_words
from relay.types import Backend


def run(*, url: str | None, key: str | None, as_json: bool) -> None:
    """Print the models of the server at `url`, as a table or as JSON."""
    url = url or api_here()
    asyncio.run(_show(open_endpoint(url, key), url, as_json=as_json))


async def _show(backend: Backend, url: str, *, as_json: bool) -> None:
    try:
        cards = await list_models(backend)
    except BackendError as exc:
        fail(explain_api(exc, url))
    finally:
        await backend.aclose()
    if as_json:
        say(json.dumps(cards, indent=2) + "\n")
        return
    head = ["model", "owner"]
    rows = [[card["id"], str(card.get("owned_by", ""))] for card in cards]
    if any("status" in card for card in cards):  # local models, which may have to be loaded
        head.append("state")
        for row, card in zip(rows, cards, strict=True):
            row.append(in_words(card["status"]) if "status" in card else "")
    print_table(head, [[Text(printable(cell)) for cell in row] for row in rows])
