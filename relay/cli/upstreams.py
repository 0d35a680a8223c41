"""What is set of each upstream beside its address, as `relay check` shows it.

    what          where    state   detail
    eu, as set             ok      200 at once, 50 wait; probed every 5 s; connect_s 2; by a proxy

Only what somebody has set: defaults are in docs/routing.md. A secret is never among it.
"""

from collections.abc import Iterator

from relay.cli.finding import Finding
from relay.settings import Settings, UpstreamSettings


def of_upstreams(settings: Settings) -> Iterator[Finding]:
    """A row for each upstream of which something is set."""
    for upstream in settings.all_upstreams():
        if traits := list(_traits(upstream)):
            yield Finding(f"{upstream.name}, as set", "", "ok", "; ".join(traits))


def _traits(upstream: UpstreamSettings) -> Iterator[str]:
    told = upstream.model_fields_set
    if "max_parallel" in told:
        yield f"{upstream.max_parallel} at once"
    if "max_queued" in told:
        yield f"{upstream.max_queued} wait"
    if upstream.probe_s:
        yield f"probed every {upstream.probe_s:g} s"
    for section in (upstream.timeouts, upstream.breaker):
        wanted = section.model_dump(include=section.model_fields_set)
        yield from (f"{name} {value:g}" for name, value in wanted.items())
    if upstream.api_version is not None:
        yield f"api_version {upstream.api_version}"
    if upstream.headers:
        yield f"headers {', '.join(upstream.headers)}"
    for name in ("ca_file", "cert_file"):
        if (path := getattr(upstream, name)) is not None:
            yield f"{name} {path}"
    if upstream.proxy is not None:
        yield "by a proxy"
    if upstream.http2:
        yield "HTTP/2"
    if upstream.transport != "auto":
        yield f"transport {upstream.transport}"
