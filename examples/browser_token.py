"""A back-end that gives its pages a short-lived token for the relay; the key stays with it."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx

RELAY = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("OPENAI_API_KEY", "none")
PAGE = os.environ.get("PAGE_ORIGIN", "http://localhost:3000")
PORT = int(os.environ.get("PORT", "3001"))


class BackEnd(BaseHTTPRequestHandler):
    def do_POST(self):
        # Here you know who is logged in, and whether he may chat at all.
        wish = {"expires_in_s": 300, "origins": [PAGE], "max_requests": 20}
        made = httpx.post(
            f"{RELAY}/client_secrets", json=wish, headers={"authorization": f"Bearer {KEY}"}
        )
        self.send_response(made.status_code)
        self.send_header("content-type", "application/json")
        self.send_header("access-control-allow-origin", PAGE)
        self.end_headers()
        self.wfile.write(made.content)  # {"value": "ek-…", "expires_at": …}


print(f"POST http://127.0.0.1:{PORT}/ gives a token", flush=True)
HTTPServer(("127.0.0.1", PORT), BackEnd).serve_forever()
