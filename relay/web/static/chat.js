// The classic chat page: one socket, a list of `sender: text`, one answer at a time.

const element = (id) => document.getElementById(id);
const KEY = "relay-key"; // in session storage, so that it goes with the tab
const LOOK_MS = 2000; // between two looks at what serves, while somebody sees the page

let ws = null;
let history = [];
let query = null; // the question that is being answered
let answer = null; // the list item its answer grows in

function appendMessage(sender, text, kind = "") {
  const item = document.createElement("li");
  item.className = kind;
  const name = document.createElement("b");
  name.textContent = `${sender}: `;
  const body = document.createElement("span");
  body.textContent = text;
  item.append(name, body);
  element("messages").append(item);
  item.scrollIntoView({ block: "end" });
  return body;
}

function showState(text) {
  element("state").textContent = text;
}

function answering(running) {
  element("send").hidden = running;
  element("stop").hidden = !running;
  if (!running) {
    query = answer = null;
    element("query").focus();
  }
}

async function showServing() {
  if (document.hidden) return;
  const badge = element("serving");
  try {
    const { serving } = await (await fetch("/readyz")).json(); // also when it is not ready
    badge.textContent = badge.className = serving;
    badge.hidden = false;
  } catch {
    badge.hidden = true; // nobody is there to say
  }
}

function askForKey() {
  element("keys").hidden = false;
  element("key").focus();
}

function receive(frame) {
  if (frame.status === 202) {
    answer ??= appendMessage("relay", "");
    answer.textContent = frame.response;
    answer.parentElement.scrollIntoView({ block: "end" });
    history = frame.history;
  } else if (frame.status === 200) {
    answering(false);
  } else if (frame.error) {
    if (frame.error.code === "invalid_api_key") {
      sessionStorage.removeItem(KEY);
      askForKey();
    }
    appendMessage("error", frame.error.message, "error");
    answering(false);
  }
}

function connect() {
  return new Promise((resolve, reject) => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws`);
    socket.onopen = () => {
      const key = sessionStorage.getItem(KEY);
      if (key) socket.send(JSON.stringify({ key }));
      showState("connected");
      resolve(socket);
    };
    socket.onmessage = (event) => receive(JSON.parse(event.data));
    socket.onerror = () => reject(new Error("The relay cannot be reached."));
    socket.onclose = () => {
      showState("not connected");
      if (query !== null) {
        appendMessage("error", "The connection was lost before the answer was whole.", "error");
        answering(false);
      }
      ws = null;
    };
  });
}

async function sendMessage() {
  const input = element("query");
  const text = input.value.trim();
  if (query !== null || text === "") return;
  query = text;
  input.value = "";
  appendMessage("you", text, "you");
  answering(true);
  try {
    ws ??= await connect();
    ws.send(JSON.stringify({ query: text, history }));
  } catch (error) {
    appendMessage("error", error.message, "error");
    answering(false);
  }
}

element("chat").addEventListener("submit", (event) => {
  event.preventDefault();
  sendMessage();
});

element("stop").addEventListener("click", () => ws?.send(JSON.stringify({ type: "stop" })));

element("keys").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = element("key").value.trim();
  if (key === "") return;
  sessionStorage.setItem(KEY, key);
  element("key").value = "";
  element("keys").hidden = true;
  ws?.close(); // the next question opens a socket with the key
  ws = null;
  element("query").focus();
});

connect().then((socket) => { ws = socket; }, () => showState("not connected"));
showServing();
setInterval(showServing, LOOK_MS);
document.addEventListener("visibilitychange", showServing);
