"""The upstream client: one OpenAI-format server, behind the `Backend` protocol.

Two implementations stand behind one contract (`tests/upstream/contract.py`):

    via_httpx.HttpxUpstream    httpx: proxies, HTTP/2, custom transports; the reference

`open_upstream` picks one from the upstream's settings.
"""
