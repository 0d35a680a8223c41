"""How much an upstream may make us hold, and for how long we keep a connection that rests."""

MAX_BODY_BYTES = 256 * 1024 * 1024
"""The largest answer that is held in memory: a whole one, or the body of an error."""

MAX_HEAD_BYTES = 64 * 1024
"""The largest head of an answer; also the most of anything else that brings no body with it."""

MAX_HEADERS = 500
"""How many headers an answer may have."""

MAX_UNREAD_BYTES = 256 * 1024
"""How much of a stream may wait for its reader before the upstream has to wait too."""

SLICE_BYTES = 64 * 1024
"""A request body that is longer leaves in slices of this size, as fast as the upstream reads."""

KEEP_ALIVE_S = 30.0
"""How long an idle connection is kept: shorter than common servers do (60 s and up)."""
