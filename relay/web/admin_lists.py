"""How the lists of the admin API are asked for and answered, page by page, as OpenAI's lists are.

?limit=100               {"object": "list", "data": […], "first_id", "last_id", "has_more": true}
?limit=100&after=LAST_ID the next page; without a limit everything comes at once
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.responses import Response

MOST = 1000
"""As many of a list as one answer may be asked for, and as are made into text in one go."""


def printable(text: str) -> str:
    """Raises: ValueError: it is not; PostgreSQL, for one, takes no NUL."""
    if not text.isprintable():
        raise ValueError("it has to be printable text")
    return text


Word = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(printable)]


class PageAsked(BaseModel):
    """Which page of a list, as the query says it."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[
        int | None, Field(ge=1, le=MOST, description="How many at most. Default: all there are")
    ] = None
    after: Annotated[
        Word | None, Field(description="Only those behind the one with that id: a `last_id`")
    ] = None
    order: Annotated[
        Literal["asc", "desc"], Field(description="By when they were made; `desc`: newest first")
    ] = "asc"


class PageList(BaseModel):
    """A page of a list; `has_more`: there is another one after `last_id`."""

    object: Literal["list"] = "list"
    first_id: str | None
    last_id: str | None
    has_more: bool


Shown = list[dict[str, Any]]


async def answer_list(
    asked: PageAsked, read: Callable[[str | None], Awaitable[tuple[Shown, bool]]]
) -> Response:
    """The page that was asked for, or all pages as one.

    `read` gives the page behind an id (of `MOST` where no limit is told), and whether more come.
    """
    shown: Shown = []
    after, more = asked.after, True
    while more and (asked.limit is None or not shown):
        page, more = await read(after)
        shown += page
        after = page[-1]["id"] if page else None
    answer = {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": after,
        "has_more": more,
    }
    # Of 20,000 keys it is 12 MB, on which json would spend a tenth of a second of everybody's.
    return Response(orjson.dumps(answer), media_type="application/json")
