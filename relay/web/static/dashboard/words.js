// What the dashboard says, in English and Chinese.
//
//     say("found", { count: 12 })                     a sentence
//     <p data-say="keys">, data-say-label, -hint      text, aria-label, placeholder

const KEPT = "relay-language";

const ENGLISH = {
  act: "Act", actions: "Actions", active: "active", all: "all", allStates: "Any state", answered: "answered",
  anyKey: "Any key", anyModel: "Any model", anyStatus: "Any status", asTable: "As a table", asChart: "As a chart", asked: "Model asked",
  attempts: "Attempts", attemptsLost: "{count} cancelled, as another was faster", attemptsTold: "{count} of them",
  audit: "Audit", auditNone: "Nothing has been done over the admin API yet.", auto: "auto",
  breakdown: "Who and what", breakerClosed: "working", breakerHalf: "being tried", breakerOpen: "left alone for {time}",
  budgetUsd: "Budget (USD)", by: "by {name}", cached: "cached", caller: "Caller", calls: "Calls",
  cancel: "Cancel", change: "Change", charts: "Charts", close: "Close", completion: "completion", copied: "Copied", copy: "Copy",
  cost: "Cost", costUnit: "USD", create: "Make a key", createdKey: "Key “{name}”", createIt: "Make it", dark: "Dark or light",
  dashboard: "Dashboard", day: "day", detail: "Detail", editKey: "Change “{name}”", ended: "That is all.",
  error: "Error", errors: "Errors", errorRate: "{share} failed", estimated: "estimated", expired: "expired", expires: "Expires",
  failed: "failed", failures: "Failures", firstTokenPair: "First token p50 / p95", graceDay: "a day more", graceHour: "an hour more", graceNone: "not at all", graceWeek: "a week more", hour: "hour", in: "in", latencyPair: "Latency p50 / p95", out: "out", filter: "Only {what}", firstToken: "First token",
  firstTokenTitle: "Time to first token", forget: "Forget the key", grace: "The old key holds for",

  inFlight: "In flight", key: "Key", keyAsk: "Admin key", keyHint: "The value of RELAY_ADMIN_KEY. It stays in this tab, and goes when the tab does.",
  keyLost: "This is the only time that it is shown. Keep it now.", keyUse: "Open", keyWrong: "The relay does not take that key.", keys: "Keys",
  keysNone: "There are no keys yet.", keysNoneFound: "No key is like that.", language: "中文", lastError: "Last error", lastUsed: "Last used",
  latency: "Latency", latencyTitle: "Latency of answers", limits: "Limits", local: "local", month: "month", mode: "Mode", modeKept: "The mode is {mode} now.",
  modeNotKept: "The mode is {mode} in this worker only: the file for the others cannot be written.", model: "Model", models: "Models", modelsHint: "All, or patterns: gpt-4o*, local",
  moment: "Time", more: "More", name: "Name", never: "never", next: "Next", noDatabase: "Nothing is kept here",
  noDatabaseHint: "This relay has no database (RELAY_DATABASE_URL is none), so there are no figures, keys or requests to show. The mode can be switched above; the upstreams are under Charts.",
  noData: "Nothing yet", noDataHint: "No request has come in this time. Send one, and it is here a second later.", none: "none", noUpstreams: "No upstream is configured: the local model answers.", unreachable: "unreachable",
  nobody: "nobody", notReached: "The relay does not answer: {why}", offHint: "Set RELAY_ADMIN_KEY (a long random text) and start the relay again, or reload its configuration. Then open this page and type that key.",
  offTitle: "There is no dashboard here yet", origins: "Origins", originsHint: "Any, or https://app.example", others: "others", page: "{from}–{to} of {count}", pagePart: "{from}–{to}",
  parallel: "at once", parallelLimit: "Calls at once", path: "Path", prefix: "Key", previous: "Previous", previousUntil: "The key before holds until {time}.", prompt: "prompt", range: "Time",
  range1: "24 hours", range7: "7 days", range30: "30 days", range90: "90 days", reachable: "within reach", refresh: "Refresh", remote: "remote", request: "Request", requests: "Requests", requestsNone: "No request is like that.",
  retired: "{count} of {all} keys not working", revoke: "Revoke", revokeAsk: "Revoke “{name}”? Whoever uses it is refused within seconds, for good.", revoked: "revoked", rotate: "Rotate", rotateAsk: "Another key in the place of “{name}”, with the same limits.",
  rotateIt: "Make another", rpm: "Requests/min", save: "Save", saved: "Saved", search: "Search by name, key or team", searchedTo: "Looked back to {time}.", section: "Sections", served: "Model served", serving: "serving: {side}",
  source: "From", spentOf: "{spent} of {budget}", split: "Split by", splitNone: "nothing", state: "State", status: "Status", stream: "Streamed", subject: "To what", team: "Team", teams: "Teams", teamsNone: "There are no teams. Make one with POST /admin/teams.",
  tokens: "Tokens", total: "Total", totalWindow: "in all", tpm: "Tokens/min", unlimited: "unlimited", unpriced: "{count} without a price", updated: "As of {time}", upstream: "Upstream", upstreams: "Upstreams", usable: "Usable", waiting: "{count}, {waiting} waiting", week: "week", window: "Per", yes: "yes", no: "no", keysIn: "Keys",
};

const CHINESE = {
  act: "操作", actions: "操作", active: "有效", all: "全部", allStates: "任何状态", answered: "已回答",
  anyKey: "任何密钥", anyModel: "任何模型", anyStatus: "任何状态", asTable: "显示为表格", asChart: "显示为图表", asked: "请求的模型",
  attempts: "尝试次数", attemptsLost: "其中 {count} 次因另一次更快而取消", attemptsTold: "共 {count} 次",
  audit: "审计", auditNone: "还没有通过管理接口进行过任何操作。", auto: "自动",
  breakdown: "明细", breakerClosed: "正常", breakerHalf: "试探中", breakerOpen: "暂停 {time}",
  budgetUsd: "预算（美元）", by: "按{name}", cached: "缓存", caller: "调用者", calls: "调用",
  cancel: "取消", change: "修改", charts: "图表", close: "关闭", completion: "输出", copied: "已复制", copy: "复制",
  cost: "费用", costUnit: "美元", create: "新建密钥", createdKey: "密钥“{name}”", createIt: "新建", dark: "深色或浅色",
  dashboard: "控制台", day: "天", detail: "细节", editKey: "修改“{name}”", ended: "已全部显示。",
  error: "错误", errors: "错误", errorRate: "{share} 失败", estimated: "估计值", expired: "已过期", expires: "到期",
  failed: "失败", failures: "失败", firstTokenPair: "首个令牌 p50 / p95", graceDay: "一天", graceHour: "一小时", graceNone: "立即失效", graceWeek: "一周", hour: "小时", in: "输入", latencyPair: "延迟 p50 / p95", out: "输出", filter: "仅 {what}", firstToken: "首个令牌",
  firstTokenTitle: "首个令牌时间", forget: "忘记密钥", grace: "旧密钥继续有效",

  inFlight: "进行中", key: "密钥", keyAsk: "管理密钥", keyHint: "RELAY_ADMIN_KEY 的值。只保存在此标签页中，关闭即消失。",
  keyLost: "密钥只显示这一次，请立即保存。", keyUse: "打开", keyWrong: "relay 不接受此密钥。", keys: "密钥",
  keysNone: "还没有密钥。", keysNoneFound: "没有符合条件的密钥。", language: "English", lastError: "最近错误", lastUsed: "最近使用",
  latency: "延迟", latencyTitle: "回答延迟", limits: "限额", local: "本地", month: "月", mode: "模式", modeKept: "模式现在为：{mode}。",
  modeNotKept: "模式 {mode} 仅在此进程中有效：无法写入供其他进程使用的文件。", model: "模型", models: "模型", modelsHint: "全部，或模式：gpt-4o*, local",
  moment: "时间", more: "更多", name: "名称", never: "从未", next: "下一页", noDatabase: "此处不保存数据",
  noDatabaseHint: "此 relay 没有数据库（RELAY_DATABASE_URL 为 none），因此没有数据、密钥或请求可显示。模式可在上方切换，上游见“图表”。",
  noData: "暂无数据", noDataHint: "此时间段内没有请求。发送一个请求，一秒后即可在此看到。", none: "无", noUpstreams: "没有配置上游：由本地模型回答。", unreachable: "无法连接",
  nobody: "无人", notReached: "relay 没有响应：{why}", offHint: "设置 RELAY_ADMIN_KEY（一段长随机文本）并重新启动 relay 或重新加载配置，然后打开此页面并输入该密钥。",
  offTitle: "控制台尚未开启", origins: "来源", originsHint: "任何，或 https://app.example", others: "其他", page: "第 {from}–{to} 项，共 {count} 项", pagePart: "第 {from}–{to} 项",
  parallel: "并发", parallelLimit: "并发调用", path: "路径", prefix: "密钥", previous: "上一页", previousUntil: "之前的密钥有效至 {time}。", prompt: "输入", range: "时间",
  range1: "24 小时", range7: "7 天", range30: "30 天", range90: "90 天", reachable: "可以连接", refresh: "刷新", remote: "远程", request: "请求", requests: "请求", requestsNone: "没有符合条件的请求。",
  retired: "{all} 个密钥中 {count} 个不可用", revoke: "吊销", revokeAsk: "吊销“{name}”？使用者将在数秒内被永久拒绝。", revoked: "已吊销", rotate: "轮换", rotateAsk: "用新密钥替换“{name}”，限额不变。",
  rotateIt: "生成新密钥", rpm: "请求/分钟", save: "保存", saved: "已保存", search: "按名称、密钥或团队搜索", searchedTo: "已查找至 {time}。", section: "栏目", served: "实际模型", serving: "服务方：{side}",
  source: "来源", spentOf: "已用 {spent}，共 {budget}", split: "拆分", splitNone: "不拆分", state: "状态", status: "状态", stream: "流式", subject: "对象", team: "团队", teams: "团队", teamsNone: "还没有团队。用 POST /admin/teams 新建。",
  tokens: "令牌", total: "合计", totalWindow: "总计", tpm: "令牌/分钟", unlimited: "不限", unpriced: "{count} 个没有价格", updated: "截至 {time}", upstream: "上游", upstreams: "上游", usable: "可用", waiting: "{count}，其中 {waiting} 个等待", week: "周", window: "周期", yes: "是", no: "否", keysIn: "密钥数",
};

const WORDS = { en: ENGLISH, zh: CHINESE };

const kept = localStorage.getItem(KEPT);
let language = kept in WORDS ? kept : navigator.language.startsWith("zh") ? "zh" : "en";

/** A word or sentence; {names} in it are replaced. */
export function say(word, values = {}) {
  const text = WORDS[language][word] ?? word;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Which language it is now, as HTML and Intl name it. */
export const locale = () => language;

/** Take the other language, and keep it. */
export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem(KEPT, language);
}

/** Fill in everything below that names a word. */
export function translate(root = document) {
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const element of root.querySelectorAll("[data-say-label]")) {
    element.setAttribute("aria-label", say(element.dataset.sayLabel));
  }
  for (const element of root.querySelectorAll("[data-say-hint]")) {
    element.setAttribute("placeholder", say(element.dataset.sayHint));
  }
}
