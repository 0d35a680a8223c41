"""Remote or local: which side serves, who decides that, and how the calls on their way hear of it.

    mode      serves from
    remote    the upstreams, always
    local     the local model, always
    auto      the upstreams; the local model while none of them is within reach, or there is none

Only *offline* moves anything (no route, no such host, no connection, at every upstream); an error
that an upstream answers, or an answer that is late while connections can be made, does not.

    switch.py    the rules, and the attempts that end when the network goes away
    reach.py     which upstreams are within reach
    kept.py      a mode that was set by hand, in a file that all workers watch
"""

from relay.switch.kept import MODES, KeptMode
from relay.switch.reach import Probe, Reach
from relay.switch.spread import Spread
from relay.switch.switch import LOCAL, REMOTE, Attempt, Side, Switch

__all__ = [
    "LOCAL",
    "MODES",
    "REMOTE",
    "Attempt",
    "KeptMode",
    "Probe",
    "Reach",
    "Side",
    "Spread",
    "Switch",
]
