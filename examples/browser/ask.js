// Streams an answer of the relay into the page, with nothing but fetch.
const relay = new URLSearchParams(location.search).get("relay") ?? "http://127.0.0.1:8000/v1";
const output = document.querySelector("#answer");

async function* events(response) {
  let text = "";
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    text += piece;
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const event of whole) yield event.replace(/^data: /, "");
  }
}

async function ask(question) {
  output.textContent = "";
  const response = await fetch(`${relay}/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "smollm2",
      stream: true,
      messages: [{ role: "user", content: question }],
    }),
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  let whole = false;
  for await (const data of events(response)) {
    if (data === "[DONE]") { whole = true; break; }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    output.textContent += chunk.choices[0]?.delta.content ?? "";
  }
  if (!whole) throw new Error("the answer was cut off");
}

document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask(document.querySelector("#question").value);
    output.dataset.state = "done";
  } catch (error) {
    output.textContent += `\n[${error.message}]`;
    output.dataset.state = "failed";
  }
});
