// A chat stream that survives a broken connection: it has ids, and the last one brings the rest.
//   for await (const chunk of chat("http://127.0.0.1:8000/v1/chat/completions", request)) …

class Refused extends Error {}

export async function* chat(url, request, { key = "none", signal, tries = 6, pauseMs = 250 } = {}) {
  const headers = {
    "content-type": "application/json",
    authorization: `Bearer ${key}`,
    "x-relay-resume": "1",
  };
  const body = JSON.stringify({ ...request, stream: true });
  let last = null, over = false;
  try {
    for (let failed = 0; !over; ) {
      try {
        const response = await fetch(url, last === null
          ? { method: "POST", signal, headers, body }
          : { method: "POST", signal, headers: { ...headers, "last-event-id": last } });
        if (response.status >= 400) throw new Refused((await response.json()).error.message);
        if (response.status === 204) over = true;  // there is no more
        else for await (const event of events(response.body)) {
          failed = 0;
          last = event.id ?? last;
          over = event.data === "[DONE]";
          if (over) break;
          const chunk = JSON.parse(event.data);
          if (chunk.error) throw new Refused(chunk.error.message);
          yield chunk;
        }
        if (over) break;
      } catch (error) {
        over = error instanceof Refused;
        if (over || signal?.aborted) throw error;
        if (last === null) throw error;  // not begun, or the relay keeps no streams
      }
      if (last === null || ++failed > tries) throw new Error("the answer was cut off");
      await new Promise((done) => setTimeout(done, pauseMs * failed));
    }
  } finally {
    if (!over && last !== null) {  // whoever stops says so, or the relay goes on for a while
      const stop = { ...headers, "last-event-id": last, "x-relay-resume": "stop" };
      fetch(url, { method: "POST", headers: stop, keepalive: true }).catch(() => {});
    }
  }
}

async function* events(body) {
  let text = "", id = null, data = [];
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    const lines = (text + piece).split(/\r?\n/);
    text = lines.pop();
    for (const line of lines) {
      if (line.startsWith("id:")) id = line.slice(3).trim();
      else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      else if (line === "" && data.length) {
        yield { id, data: data.join("\n") };
        data = [];
      }
    }
  }
}
