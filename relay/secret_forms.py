"""What keys and tokens look like in the middle of a text: in logs, in bodies that are kept.

sk-… rk-… ek-… pk-…     keys of providers, of ours, and tokens for browsers: `ek-….SIGNATURE`
eyJ….eyJ….SIGNATURE     JWTs, encrypted ones too, of which parts may be empty; `eyJ` is `{"`
"""

import re

FORMS = r"""\b (?:
      [srep]k - [A-Za-z0-9_-]{8,} (?: \.[A-Za-z0-9_-]+ )?
    | (?-i:eyJ) [A-Za-z0-9_-]{8,} (?: \.[A-Za-z0-9_-]* )*
)"""
"""A regular expression, to be read with `re.VERBOSE`.

`eyJ` in another case would also be the beginning of a volcano's name.
"""

SECRET = re.compile(FORMS, re.VERBOSE)
"""One of these."""
