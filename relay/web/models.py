"""`GET /v1/models` and `GET /v1/models/{id}`: what may be asked for, from whatever serves.

With one upstream and no `[[models]]` its own answer passes, bytes, status and errors; else the list
is the catalogue's.
"""

import json
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from relay.attempts import Trail
from relay.engine import Engine
from relay.errors import ModelNotFound, NoUpstream
from relay.routing import LOCAL
from relay.schema import ErrorResponse, ModelCard, ModelList
from relay.types import Call, Completion
from relay.upstream import upward
from relay.web.catalogue import Catalogue
from relay.web.presence import Presence
from relay.web.replies import visit


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

    async def default(self) -> str:
        """The model to ask when a client names none.

        Raises:
            BackendError: the upstream cannot be asked, or has no model.
        """
        if self._default is not None:
            return self._default
        cards = await self.cards()
        if cards is None:
            answer = await self.ask(Call(path="models", method="GET"), Trail())
            try:
                return str(json.loads(answer.body)["data"][0]["id"])
            except (ValueError, LookupError, TypeError):
                cards = []
        if not cards:
            raise NoUpstream("No model is known here; set RELAY_DEFAULT_MODEL.")
        return cards[0].id

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
                identity=here.identity,
                headers=upward(request.scope["headers"]),
            )
            with presence.watch(here) as watch:
                watch.listen()
                answer = await self.ask(call, here.trail)
            reply = Response(answer.body, answer.status)
            reply.raw_headers.extend(answer.headers)
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
            return _json(ModelList(object="list", data=cards))

        @router.get(
            "/v1/models/{model_id:path}",
            summary="Retrieve a model",
            response_model=ModelCard,
            responses={401: {"model": ErrorResponse}, 404: {"model": ErrorResponse}},
        )
        async def retrieve_model(request: Request, model_id: str) -> Response:
            """One model by its id; an id may contain slashes."""
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


def _unknown(model_id: str) -> ModelNotFound:
    return ModelNotFound(f"The model '{model_id}' does not exist here.", param="model")


def _json(body: ModelList | ModelCard) -> Response:
    return Response(body.model_dump_json(exclude_none=True), media_type="application/json")
