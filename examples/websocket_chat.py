"""Two questions at once on one WebSocket, each answer told as it comes.

pip install websockets
python examples/websocket_chat.py "Say hello." "Count to five."
"""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect

BASE = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("OPENAI_API_KEY", "none")
MODEL = os.environ.get("MODEL", "smollm2")


async def main(questions: list[str]) -> None:
    address = BASE.replace("http", "ws", 1).removesuffix("/v1") + "/ws"
    headers = {"Authorization": f"Bearer {KEY}"}
    async with connect(address, additional_headers=headers, proxy=None) as socket:
        answers = {}
        for number, question in enumerate(questions, start=1):
            request = {"model": MODEL, "messages": [{"role": "user", "content": question}]}
            await socket.send(json.dumps({"type": "chat", "id": str(number), "request": request}))
            answers[str(number)] = ""
        running = len(answers)
        while running:
            frame = json.loads(await socket.recv())
            if frame["type"] == "chunk":
                for choice in frame["data"]["choices"]:
                    answers[frame["id"]] += choice["delta"].get("content") or ""
            elif frame["type"] == "error":
                sys.exit(f"{frame['id']}: {frame['error']['message']}")
            else:  # done
                running -= 1
                print(f"# {frame['id']}\n{answers[frame['id']]}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["Say hello.", "Count to five."]))
