"""The classic `openai_api.py` in three lines: a ChatGLM-style model behind OpenAI's API.

    pip install 'openai-relay[transformers]'
    python examples/chatglm_server.py FOLDER

Any object with `chat` and `stream_chat` will do, and any chat model of transformers.
"""

import sys

from transformers import AutoModel, AutoTokenizer

import relay

if __name__ == "__main__":
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)
    model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
    relay.serve(model=model, tokenizer=tokenizer)
