"""`GET /v1/models` and `GET /v1/models/{id}`: what may be asked for, from whatever serves.

With one upstream and no `[[models]]` its own answer passes, bytes, status and errors; else the list
is the catalogue's.
"""

import json
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from relay.attempts import Trail
from relay.engine import Engine
from relay.errors import ModelNotFound, NoUpstream
from relay.keys import allows
from relay.routing import LOCAL
from relay.schema import ErrorResponse, ModelCard, ModelList
from relay.types import Call, Completion, Identity, RawHeaders
from relay.upstream import upward
from relay.web.catalogue import Catalogue
from relay.web.presence import Presence
from relay.web.replies import JSON, visit


class Models:
    """What is known of the models: the configuration's, the local one's, or the upstream's own."""

    def __init__(self, engine: Engine, catalogue: Catalogue, *, default: str | None = None) -> None:
        self._engine = engine
        self._default = default
        self._catalogue = catalogue

    async def cards(self) -> list[ModelCard] | None:
        """The models that may be asked for; None when the one upstream's own answer says it.

        Raises:
            NoUpstream: no model is known, as no upstream tells what it has.
        """
        local = self._engine.router.serving == LOCAL
        if self._catalogue.of_one_upstream and not local:
            return None
        return await self._catalogue.cards(local=local)

    async def default(self, identity: Identity) -> str:
        """The model to ask when that client names none: the first that it may use.

        Raises:
            BackendError: the upstream cannot be asked, or has no model.
        """
        if self._default is not None and allows(identity, self._default):
            return self._default
        cards = await self.cards()
        if cards is None:
            answer = await self.ask(Call(path="models", method="GET"), Trail())
            names = [name for card in _entries(answer.body) if (name := _id(card)) is not None]
        else:
            names = [card.id for card in cards]
        for name in names:
            if allows(identity, name):
                return name
        raise NoUpstream("No model is known here; set RELAY_DEFAULT_MODEL.")

    async def ask(self, call: Call, trail: Trail) -> Completion:
        """What the upstream says of its models."""
        return await self._engine.complete(call, trail, self._engine.router.default())

    def router(self, presence: Presence) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["models"])

        async def relayed(request: Request, path: str) -> Response:
            here = visit(request.scope)
            call = Call(
                path=path,
                method="GET",
                request_id=here.request_id,
                # Whose call it is stays here: a list is nothing that counts.
                headers=upward(request.scope["headers"]),
            )
            with presence.watch(here) as watch:
                watch.listen()
                answer = await self.ask(call, here.trail)
            body, headers = answer.body, answer.headers
            if here.identity.models and path == "models":
                body, headers = _filtered(body, here.identity), _without_body(headers)
            reply = Response(body, answer.status)
            reply.raw_headers.extend(headers)
            return reply

        @router.get(
            "/v1/models",
            summary="List models",
            response_model=ModelList,
            responses={401: {"model": ErrorResponse}, 502: {"model": ErrorResponse}},
        )
        async def list_models(request: Request) -> Response:
            """What may be asked for: the configured models, or what the upstreams have."""
            cards = await self.cards()
            if cards is None:
                return await relayed(request, "models")
            identity = visit(request.scope).identity
            usable = [card for card in cards if allows(identity, card.id)]
            return _json(ModelList(object="list", data=usable))

        @router.get(
            "/v1/models/{model_id:path}",
            summary="Retrieve a model",
            response_model=ModelCard,
            responses={401: {"model": ErrorResponse}, 404: {"model": ErrorResponse}},
        )
        async def retrieve_model(request: Request, model_id: str) -> Response:
            """One model by its id; an id may contain slashes."""
            if not allows(visit(request.scope).identity, model_id):
                raise _unknown(model_id)
            cards = await self.cards()
            if cards is None:
                if not {".", ".."}.isdisjoint(model_id.split("/")):
                    raise _unknown(model_id)  # as a path it would lead out of the base URL
                return await relayed(request, f"models/{quote(model_id, safe='')}")
            for card in cards:
                if card.id == model_id:
                    return _json(card)
            raise _unknown(model_id)

        return router


def _entries(body: bytes) -> list[Any]:
    """The entries of a list of models; none of what is no such list."""
    try:
        entries = json.loads(body)["data"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
    return entries if isinstance(entries, list) else []


def _id(card: Any) -> str | None:
    name = card.get("id") if isinstance(card, dict) else None
    return name if isinstance(name, str) else None


def _filtered(body: bytes, identity: Identity) -> bytes:
    """An upstream's list with those models only that the caller may use."""
    usable = [
        card
        for card in _entries(body)
        if (name := _id(card)) is not None and allows(identity, name)
    ]
    return json.dumps({"object": "list", "data": usable}).encode()


def _without_body(headers: RawHeaders) -> RawHeaders:
    """Headers less those that describe the body that the upstream sent."""
    kept = [pair for pair in headers if pair[0] not in (b"content-encoding", b"etag", JSON[0])]
    return [*kept, JSON]


def _unknown(model_id: str) -> ModelNotFound:
    return ModelNotFound(f"The model '{model_id}' does not exist here.", param="model")


def _json(body: ModelList | ModelCard) -> Response:
    return Response(body.model_dump_json(exclude_none=True), media_type="application/json")
