#!/bin/sh
# The relay from the command line.
url=${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}
key="authorization: Bearer ${OPENAI_API_KEY:-none}"
json='content-type: application/json'

echo '# models'
curl -sS "$url/models" -H "$key"
echo

echo '# a plain answer'
curl -sS "$url/chat/completions" -H "$key" -H "$json" \
  -d '{"model": "smollm2", "max_tokens": 30, "messages": [{"role": "user", "content": "Say hello."}]}'
echo

echo '# a stream'
curl -sSN "$url/chat/completions" -H "$key" -H "$json" \
  -d '{"model": "smollm2", "max_tokens": 30, "stream": true, "messages": [{"role": "user", "content": "Say hello."}]}'

echo '# an error, in the envelope'
curl -sS "$url/chat/completions" -H "$key" -H "$json" -d '{"model": "smollm2", "messages": []}'
echo
