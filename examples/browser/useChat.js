// A React hook: const { messages, busy, error, send, stop } = useChat(url, { key })
import { useRef, useState } from "react";
import { chat } from "./resume.js";

export function useChat(url, { key, model = "smollm2" } = {}) {
  const [messages, setMessages] = useState([]);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const running = useRef(null);

  async function send(content) {
    const asked = [...messages, { role: "user", content }];
    const { signal } = (running.current = new AbortController());
    let text = "";
    setMessages(asked);
    setBusy(true);
    setError(null);
    try {
      for await (const chunk of chat(url, { model, messages: asked }, { key, signal })) {
        text += chunk.choices[0]?.delta.content ?? "";
        setMessages([...asked, { role: "assistant", content: text }]);
      }
    } catch (failure) {
      if (!signal.aborted) setError(failure.message);
    }
    setBusy(false);
  }

  return { messages, busy, error, send, stop: () => running.current?.abort() };
}
