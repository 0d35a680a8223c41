// What the page says, in English and Chinese.
//
//     say("tokens", { count: 12 })                    a sentence
//     <button data-say="send">, data-say-label, -hint  text, aria-label with title, placeholder

const KEPT = "relay-language";

const ENGLISH = {
  answered: "The answer is there.",
  answering: "An answer is being written.",
  archive: "Keep and bring",
  ask: "Ask something",
  badgeHint: "Where answers come from now: a remote upstream, or the local model",
  cancel: "Cancel",
  close: "Close",
  conversations: "Conversations",
  copied: "Copied",
  copy: "Copy the text",
  copyCode: "Copy this code",
  cut: "The answer was cut off before its end.",
  dark: "Dark or light",
  delete: "Delete",
  deleteAsked: "Delete “{title}”? It is nowhere but in this browser.",
  details: "Request {id}",
  edit: "Edit and ask anew",
  editing: "Your question",
  emptyHint: "Conversations stay in this browser.",
  emptyTitle: "What would you like to know?",
  error: "error",
  exportAll: "Export all",
  exported: "Exported",
  failedImport: "That file holds no conversations: {why}",
  forget: "Forget the key",
  free: "free",
  idea1: "Explain how a hash table works, with a small example in Python.",
  idea2: "Write a polite mail that moves a meeting to Thursday.",
  idea3: "Compare TCP and UDP in a table.",
  import: "Import",
  imported: "Imported: {count}",
  jump: "To the latest",
  keptNot: "This browser does not keep the conversation any more: {why} Export all, then delete some.",
  keyAsked: "This relay asks for a key",
  keyHint: "It stays in this tab, and goes when the tab does.",
  keyUse: "Use it",
  keyWrong: "The relay does not take that key.",
  language: "中文",
  local: "local",
  maxTokens: "Longest answer",
  messages: "Messages",
  model: "Model",
  modelName: "The model’s name",
  modelOther: "Another …",
  modelsNone: "no model",
  new: "New conversation",
  next: "Later version",
  none: "Nothing found",
  penaltyFrequency: "Frequency penalty",
  penaltyPresence: "Presence penalty",
  picture: "Picture",
  pictureAdd: "Add a picture",
  pictureRemove: "Take this picture out",
  pictureWrong: "{name} is no picture that can be sent.",
  previous: "Earlier version",
  question: "Message",
  reasoning: "Thoughts",
  remote: "remote",
  rename: "Rename",
  renameAsked: "Name of the conversation",
  reset: "Back to the model’s own",
  retry: "Try again",
  save: "Keep",
  search: "Search",
  seconds: "{count} s",
  seed: "Seed",
  send: "Send",
  settings: "Settings",
  settingsHint: "They hold for this conversation. What is empty is left to the model.",
  settingsUsual: "Use for new conversations",
  settingsUsualDone: "New conversations begin so.",
  shortcuts: "Keyboard",
  sidebar: "Show or hide the conversations",
  stop: "Stop",
  stopped: "stopped",
  stopStrings: "Stop at (one a line)",
  system: "Instructions (system prompt)",
  systemHint: "How should it answer?",
  temperature: "Temperature",
  tokens: "{prompt} → {completion} tokens",
  tokensHint: "Tokens of the question with all before it, and of the answer",
  topP: "Top p",
  unreachable: "The relay cannot be reached.",
  untitled: "New conversation",
  version: "Version {number} of {count}",
  wait: "It asks to wait {count} s.",
  you: "you",
  keysSend: "Send",
  keysLine: "New line",
  keysStop: "Stop the answer, close what is open",
  keysSearch: "Search the conversations",
  keysNew: "New conversation",
  keysSettings: "Settings",
  keysLast: "Edit the last question, when nothing is written",
  keysWrite: "Go to where one writes",
  keysHelp: "This list",
};

const CHINESE = {
  answered: "回答完毕。",
  answering: "正在回答。",
  archive: "保存与导入",
  ask: "问点什么",
  badgeHint: "当前由谁回答：远程上游，或本地模型",
  cancel: "取消",
  close: "关闭",
  conversations: "对话",
  copied: "已复制",
  copy: "复制文字",
  copyCode: "复制代码",
  cut: "回答没有结束就中断了。",
  dark: "深色或浅色",
  delete: "删除",
  deleteAsked: "删除“{title}”？它只保存在这个浏览器里。",
  details: "请求 {id}",
  edit: "修改并重新提问",
  editing: "你的问题",
  emptyHint: "对话只保存在这个浏览器里。",
  emptyTitle: "想了解什么？",
  error: "错误",
  exportAll: "全部导出",
  exported: "已导出",
  failedImport: "这个文件里没有对话：{why}",
  forget: "忘记密钥",
  free: "免费",
  idea1: "用一个简短的 Python 例子解释哈希表的原理。",
  idea2: "写一封礼貌的邮件，把会议改到星期四。",
  idea3: "用表格比较 TCP 和 UDP。",
  import: "导入",
  imported: "已导入：{count}",
  jump: "到最新处",
  keptNot: "浏览器无法再保存对话：{why} 请先全部导出，再删除一部分。",
  keyAsked: "需要密钥才能使用",
  keyHint: "密钥只留在这个标签页，关闭后即消失。",
  keyUse: "使用",
  keyWrong: "密钥无效。",
  language: "English",
  local: "本地",
  maxTokens: "回答的最大长度",
  messages: "消息",
  model: "模型",
  modelName: "模型名称",
  modelOther: "其他…",
  modelsNone: "没有模型",
  new: "新对话",
  next: "后一个版本",
  none: "没有找到",
  penaltyFrequency: "频率惩罚",
  penaltyPresence: "存在惩罚",
  picture: "图片",
  pictureAdd: "添加图片",
  pictureRemove: "移除这张图片",
  pictureWrong: "{name} 不是可以发送的图片。",
  previous: "前一个版本",
  question: "消息",
  reasoning: "思考过程",
  remote: "远程",
  rename: "重命名",
  renameAsked: "对话名称",
  reset: "恢复模型默认值",
  retry: "重试",
  save: "保存",
  search: "搜索",
  seconds: "{count} 秒",
  seed: "随机种子",
  send: "发送",
  settings: "设置",
  settingsHint: "只对这个对话有效；留空则由模型决定。",
  settingsUsual: "用于新对话",
  settingsUsualDone: "新对话将使用这些设置。",
  shortcuts: "键盘快捷键",
  sidebar: "显示或隐藏对话列表",
  stop: "停止",
  stopped: "已停止",
  stopStrings: "停止词（每行一个）",
  system: "指示（系统提示词）",
  systemHint: "它应该怎样回答？",
  temperature: "温度",
  tokens: "{prompt} → {completion} token",
  tokensHint: "问题（含此前的全部内容）和回答的 token 数",
  topP: "Top p",
  unreachable: "无法连接 relay。",
  untitled: "新对话",
  version: "第 {number} 个版本，共 {count} 个",
  wait: "请等待 {count} 秒。",
  you: "你",
  keysSend: "发送",
  keysLine: "换行",
  keysStop: "停止回答，或关闭打开的窗口",
  keysSearch: "搜索对话",
  keysNew: "新对话",
  keysSettings: "设置",
  keysLast: "输入框为空时，修改上一个问题",
  keysWrite: "回到输入框",
  keysHelp: "显示这个列表",
};

const LANGUAGES = { en: ENGLISH, zh: CHINESE };
const spoken = localStorage.getItem(KEPT) ?? navigator.language.slice(0, 2);
let language = spoken in LANGUAGES ? spoken : "en";

export const inLanguage = () => (language === "zh" ? "zh-CN" : "en");

/** That text in the reader's language, with the values in their places. */
export function say(word, values = {}) {
  return LANGUAGES[language][word].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Write the words of an element that names them, and of all within it. */
export function translate(root) {
  for (const element of [root, ...root.querySelectorAll("*")]) {
    const { say: text, sayLabel, sayHint } = element.dataset ?? {};
    if (text) element.textContent = say(text);
    if (sayLabel) {
      element.setAttribute("aria-label", say(sayLabel));
      element.title = say(sayLabel);
    }
    if (sayHint) element.placeholder = say(sayHint);
  }
}

/** Speak the other language from now on; whoever made sentences hears a "languagechange". */
export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem(KEPT, language);
  speak();
}

export function speak() {
  document.documentElement.lang = inLanguage();
  translate(document.body);
  document.dispatchEvent(new Event("languagechange"));
}
