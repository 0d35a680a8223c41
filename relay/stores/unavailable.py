"""The one error of stores: the database cannot be reached, read or written just now."""


class StoreUnavailable(Exception):
    """One sentence that says which database, what is wrong, and what to do; never a password.

    Not a client's error: requests go on without the store. Asking again later is always right, and
    nothing has to be opened anew for that.
    """
