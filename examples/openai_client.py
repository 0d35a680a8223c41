"""The `openai` package against a relay: plain, streamed, tools."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
model = client.models.list().data[0].id

print("# plain")
answer = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Say hello."}],
    max_tokens=30,
)
print(answer.choices[0].message.content)

print("# streamed")
for chunk in client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Count to five."}],
    max_tokens=30,
    stream=True,
):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

print("# tools")
answer = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "What is the weather in Paris?"}],
    max_tokens=60,
    tools=[
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather of a city",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}},
                    "required": ["city"],
                },
            },
        }
    ],
)
message = answer.choices[0].message
for call in message.tool_calls or []:
    print("the model calls", call.function.name, call.function.arguments)
if not message.tool_calls:
    print("the model answers without a tool:", message.content)
