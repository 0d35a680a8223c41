"""The model that a form names (`multipart/form-data`), such as a transcription's.

A file may be long, and is sent on while it comes; OpenAI's clients write the other fields before
it. So the model is looked for in the beginning of a body, and in all of it when it is short.

Source: RFC 7578.
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace

from relay.errors import InvalidRequest
from relay.types import Call

MEDIA_TYPE = b"multipart/form-data"

_BOUNDARY = re.compile(rb';\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_IS_MODEL = re.compile(
    rb'\r\ncontent-disposition:\s*form-data\s*;\s*name=(?:"model"|model)\s*(?:\r\n|$)',
    re.IGNORECASE,
)


def is_form(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a body is a form."""
    return headers.get(b"content-type", b"")[: len(MEDIA_TYPE)].lower() == MEDIA_TYPE


@dataclass(frozen=True, slots=True)
class NamedModel:
    """Where the model stands in a form: its bytes from `start` to `end`."""

    name: str
    start: int
    end: int

    @classmethod
    def find(cls, beginning: bytes, headers: Mapping[bytes, bytes]) -> "NamedModel | None":
        """The model that the beginning of a form names; None when it does not, or not yet.

        Raises:
            InvalidRequest: it names two.
        """
        found = [*_models(beginning, headers.get(b"content-type", b""))]
        if len(found) > 1:
            raise InvalidRequest("The form names more than one model.", param="model")
        return found[0] if found else None

    def put(self, beginning: bytes, name: str) -> bytes:
        """The beginning of the form with another name."""
        return beginning[: self.start] + name.encode() + beginning[self.end :]


@dataclass(frozen=True, slots=True)
class Begun:
    """A body of which the beginning has been read already; iterated, it gives all of it."""

    beginning: bytes
    rest: AsyncIterator[bytes]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.beginning
        async for piece in self.rest:
            yield piece


def named(call: Call, model: NamedModel | None) -> Call:
    """The call with the model that its form names, which can be called otherwise (`rename`)."""
    if model is None:
        return call

    def rename(call: Call, name: str) -> Call:
        more = len(name.encode()) - (model.end - model.start)
        if not isinstance(call.content, Begun):
            return replace(call, model=name, body=model.put(call.body, name))
        content = replace(call.content, beginning=model.put(call.content.beginning, name))
        length = None if call.content_length is None else call.content_length + more
        return replace(call, model=name, content=content, content_length=length)

    return replace(call, model=model.name, rename=rename)


def _models(form: bytes, content_type: bytes) -> Iterator[NamedModel]:
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        return
    line = b"\r\n--" + (boundary[1] or boundary[2])
    form = b"\r\n" + form  # the first boundary has no line break before it
    place = form.find(line)
    while place >= 0 and form.startswith(b"\r\n", place + len(line)):
        head = place + len(line) + 2
        start = form.find(b"\r\n\r\n", head) + 4
        place = form.find(line, start - 2) if start >= 4 else -1
        if place >= 0 and _IS_MODEL.search(form, head - 2, start - 4):
            name = form[start:place].decode("utf-8", "replace")
            if name:
                yield NamedModel(name, start - 2, place - 2)
