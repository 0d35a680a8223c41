"""What a writer of keys and teams is told when somebody else was faster."""


class Superseded(Exception):
    """The record was changed since it was read; nothing was written. Read it again, then decide."""
