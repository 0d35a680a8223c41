"""WebSockets: `/ws` for chats, and those that are passed on to an upstream.

gate.py          the ASGI application: handshake, origin, which of the two it is
credential.py    where a handshake has its key
wire.py          one open socket: frames in and out
wishes.py        the models that a session's events name, held against the key's
crowd.py         all open sockets: how many of a key, and their end when the relay stops
conversation.py  the frames of a client on /ws, and the turns that they begin
turn.py          one question and its answer, with its accounts
classic.py       how classic frames ask and are answered     chat.py   likewise chat frames
frames.py        reading frames, and errors as frames
protocol.py      a socket's connection under our own server: sizes, pings, slow readers
"""

from relay.web.sockets.crowd import Crowd
from relay.web.sockets.gate import PATH, Gate
from relay.web.sockets.protocol import SocketProtocol
from relay.web.sockets.turn import Turns

__all__ = ["PATH", "Crowd", "Gate", "SocketProtocol", "Turns"]
