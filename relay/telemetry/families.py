"""What `GET /metrics` tells: each family with its kind, its labels and a sentence.

A label's value is a word of ours, a name of the configuration, or the name of a model that has
answered; never a key, its id, or who calls.
"""

from typing import Literal, NamedTuple


class Family(NamedTuple):
    """One metric; `merge` is what becomes of the numbers of several processes."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    merge: Literal["sum", "min", "max"] = "sum"
    buckets: tuple[float, ...] = ()


REQUEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_TOKEN_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

FAMILIES = (
    Family(
        "relay_requests_total",
        "counter",
        ("path", "model", "upstream", "status"),
        "Requests that ended, turns of WebSockets among them.",
    ),
    Family(
        "relay_request_duration_seconds",
        "histogram",
        ("upstream",),
        "From a request's head to its end, of those that a target was asked for.",
        buckets=REQUEST_BUCKETS,
    ),
    Family(
        "relay_first_token_seconds",
        "histogram",
        ("upstream",),
        "From a request's head to the first bytes of its answer, of streams.",
        buckets=FIRST_TOKEN_BUCKETS,
    ),
    Family(
        "relay_tokens_total",
        "counter",
        ("upstream", "model", "kind"),
        "Tokens: prompt, with cached as a part; completion, with reasoning; audio of both.",
    ),
    Family(
        "relay_requests_estimated_total",
        "counter",
        ("upstream",),
        "Requests whose tokens nobody told, so that they are estimated.",
    ),
    Family("relay_cost_usd_total", "counter", ("upstream", "model"), "What requests cost."),
    Family(
        "relay_requests_unpriced_total",
        "counter",
        ("upstream",),
        "Requests that used tokens of a model without a price.",
    ),
    Family(
        "relay_attempts_failed_total",
        "counter",
        ("upstream",),
        "Attempts at a target that failed, whatever became of their requests.",
    ),
    Family(
        "relay_attempts_lost_total",
        "counter",
        ("upstream",),
        "Attempts that were cancelled since a hedged one answered first.",
    ),
    Family(
        "relay_limit_refusals_total",
        "counter",
        ("code",),
        "Requests that a limit of ours refused: rate_limit_exceeded or insufficient_quota.",
    ),
    Family("relay_requests_in_flight", "gauge", (), "Requests and turns that are being answered."),
    Family("relay_websockets_open", "gauge", (), "WebSockets that are open."),
    Family(
        "relay_upstream_breaker",
        "gauge",
        ("upstream", "state"),
        "Processes whose breaker of that upstream is closed, open or half-open.",
    ),
    Family(
        "relay_upstream_in_flight", "gauge", ("upstream",), "Attempts that are open at an upstream."
    ),
    Family(
        "relay_upstream_waiting", "gauge", ("upstream",), "Calls that wait for max_parallel there."
    ),
    Family("relay_serving", "gauge", ("side",), "Processes that serve from remote or local."),
    Family(
        "relay_moves_total", "counter", ("side",), "Times a process began to serve from that side."
    ),
    Family("relay_ledger_rows_waiting", "gauge", (), "Rows that are not in the database yet."),
    Family("relay_ledger_rows_lost_total", "counter", (), "Rows that never will be."),
    Family(
        "relay_reloads_total",
        "counter",
        ("result",),
        "Reloads of the configuration, by process: applied or refused.",
    ),
    Family("relay_build_info", "gauge", ("version", "python"), "1, with what runs.", merge="max"),
    Family("relay_processes", "gauge", (), "Processes whose numbers these are."),
    Family("process_cpu_seconds_total", "counter", (), "CPU time, user and system."),
    Family("process_resident_memory_bytes", "gauge", (), "Memory; shared pages count each time."),
    Family("process_virtual_memory_bytes", "gauge", (), "Address space."),
    Family("process_open_fds", "gauge", (), "Open descriptors."),
    Family("process_max_fds", "gauge", (), "How many there may be."),
    Family(
        "process_start_time_seconds",
        "gauge",
        (),
        "When the oldest process began, since the epoch.",
        merge="min",
    ),
)
BY_NAME = {family.name: family for family in FAMILIES}
