"""A back-end that gives its pages a short-lived token for the relay; the key stays with it."""

import os

import httpx
import uvicorn
from fastapi import FastAPI, Response

RELAY = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
KEY = {"authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}"}
PAGE = os.environ.get("PAGE_ORIGIN", "http://localhost:3000")
app = FastAPI()


@app.post("/")
def token() -> Response:  # here you know who is logged in, and whether he may chat at all
    wish = {"expires_in_s": 300, "origins": [PAGE], "max_requests": 20}
    made = httpx.post(f"{RELAY}/client_secrets", json=wish, headers=KEY)
    cors = {"access-control-allow-origin": PAGE}
    return Response(made.content, made.status_code, cors, "application/json")


uvicorn.run(app, port=int(os.environ.get("PORT", "3001")))
