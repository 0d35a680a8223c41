"""The streams of this process that may be taken up again, by the ids of their events.

    id: rs_5f0c1a9e.9b2f61d0a3c84e57.17      process, stream, number of the event

A full shelf makes room by giving up streams that have ended, the oldest first; streams that go on
stay, so a new one may find no room: then it is an ordinary stream.
"""

import re
import secrets
from collections import Counter
from collections.abc import Hashable

from relay.errors import StreamNotFound
from relay.types import Identity
from relay.web.tape import LAST_EVENT_ID, Room, Tape

Owner = tuple[str, str, str]

_ID = re.compile(rb"(rs_([0-9a-f]{8})\.[0-9a-f]{32})\.(\d{1,9})")


class Shelf:
    """Tapes by their names."""

    def __init__(self) -> None:
        self.process = secrets.token_hex(4)
        self._tapes: dict[str, Tape] = {}
        self._owned: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._tapes)

    def open(self, identity: Identity, room: Room) -> Tape | None:
        """A new tape; None when there is no room for one more."""
        owner = owner_of(identity)
        if self._owned[owner] >= room.streams_per_key and not self._make_room(owner):
            return None
        if len(self._tapes) >= room.streams and not self._make_room(None):
            return None
        name = f"rs_{self.process}.{secrets.token_hex(16)}"
        tape = self._tapes[name] = Tape(name, owner, room, over=self._drop)
        self._owned[owner] += 1
        return tape

    def elsewhere(self, event_id: bytes) -> str | None:
        """The process that has the stream of that event, if it is another one."""
        found = _ID.fullmatch(event_id)
        process = found[2].decode() if found is not None else self.process
        return None if process == self.process else process

    def find(self, event_id: bytes, owner: Owner) -> tuple[Tape, int]:
        """The tape that holds the event of that id, and the event's number.

        Raises:
            StreamNotFound: it is nobody's any more, or not that caller's.
        """
        found = _ID.fullmatch(event_id)
        tape = self._tapes.get(found[1].decode()) if found is not None else None
        if found is None or tape is None or tape.owner != owner:
            raise not_found()
        return tape, int(found[3])

    def _make_room(self, owner: Hashable) -> bool:
        for tape in self._tapes.values():
            if tape.ended and owner in (None, tape.owner):
                tape.close()
                return True
        return False

    def _drop(self, tape: Tape) -> None:
        if self._tapes.pop(tape.name, None) is not None:
            self._owned[tape.owner] -= 1
            if not self._owned[tape.owner]:
                del self._owned[tape.owner]


def owner_of(identity: Identity) -> Owner:
    """Who may take a stream up; a token is its key."""
    return identity.key_id, identity.team_id, identity.name


def not_found() -> StreamNotFound:
    """What everybody is told for whom there is no such stream, for whatever reason."""
    return StreamNotFound(
        "There is no such stream of this key, or not any more: ask again from the beginning.",
        param=LAST_EVENT_ID,
    )
