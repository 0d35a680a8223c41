// Asks a relay (or anything that speaks OpenAI's API) and reads the answer as it comes.
//
//     const answer = await ask({ model, messages }, { key, signal });
//     for await (const chunk of answer.chunks) show(chunk.choices[0]?.delta.content);
//
// Throws a Failure: `status` 0 when nobody was reached. After the first chunk that may be an error
// event of the relay, or, with the code "cut", a stream that ended without its [DONE].

export class Failure extends Error {
  constructor(message, { status = 0, code = null, requestId = null, waitS = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
    this.waitS = waitS; // as long as the relay asks to wait before the next try
  }
}

/** Ask for a streamed answer, its usage included. */
export async function ask(request, { key = null, signal } = {}) {
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await call("/v1/chat/completions", { key, signal, body });
  const requestId = response.headers.get("x-request-id");
  const upstream = response.headers.get("x-relay-upstream");
  return { requestId, upstream, chunks: chunks(response, requestId) };
}

/** One request of the API, with the key if there is one; a body makes it a POST. */
export async function call(path, { key = null, signal, body } = {}) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    const method = body === undefined ? "GET" : "POST";
    response = await fetch(path, { method, headers, signal, body: JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("", { code: "unreachable" });
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response) {
  const { status, headers } = response;
  const told = await response.json().catch(() => null);
  const waitS = Number.parseFloat(headers.get("retry-after"));
  return new Failure(told?.error?.message ?? `HTTP ${status}`, {
    status,
    code: told?.error?.code ?? told?.error?.type ?? null,
    requestId: headers.get("x-request-id"),
    waitS: Number.isFinite(waitS) ? waitS : null,
  });
}

async function* chunks(response, requestId) {
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
    yield whole(await response.json()); // an upstream that does not stream
    return;
  }
  try {
    for await (const { data } of events(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Failure(chunk.error.message, { code: chunk.error.code, requestId });
      yield chunk;
    }
  } catch (error) {
    if (error instanceof Failure || error.name === "AbortError") throw error;
    throw new Failure("", { code: "cut", requestId });
  }
  throw new Failure("", { code: "cut", requestId });
}

const whole = (answer) => ({
  ...answer,
  choices: (answer.choices ?? []).map((choice) => ({ ...choice, delta: choice.message ?? {} })),
});

/** Server-sent events as they are complete: `{id, event, data}`; pings (comments) are none. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  let event = {};
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (waiting + value).split(/\r\n|\n|\r(?!$)/);
      waiting = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (event.data !== undefined) yield event;
          event = {};
          continue;
        }
        const [, field, text] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
        if (field === "data" && event.data !== undefined) event.data += `\n${text ?? ""}`;
        else if (field) event[field] = text ?? "";
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // nobody reads on: the relay ends the upstream's work
  }
}
