// Numbers, money, times: as people read them, in their language.

import { locale, say } from "./words.js";

export function count(value) {
  const options = value >= 10000 ? { notation: "compact", maximumFractionDigits: 1 } : { maximumFractionDigits: 1 };
  return new Intl.NumberFormat(locale(), options).format(value);
}

export const exact = (value) => new Intl.NumberFormat(locale(), { maximumFractionDigits: 2 }).format(value);

/** Dollars: cents where that says enough, more places where it does not. */
export function usd(value) {
  const small = value > 0 && value < 0.1;
  const options = value >= 10000
    ? { notation: "compact", maximumFractionDigits: 1 }
    : small ? { maximumSignificantDigits: 2 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  return `$${new Intl.NumberFormat(locale(), options).format(value)}`;
}

/** Dollars on an axis, which are round ones and have little room. */
export const usdAxis = (value) => (value === 0 || value >= 10 ? `$${count(value)}` : usd(value));

export function share(part, whole) {
  const options = { style: "percent", maximumFractionDigits: part && part / whole < 0.1 ? 2 : 1 };
  return new Intl.NumberFormat(locale(), options).format(whole ? part / whole : 0);
}

/** Seconds, in the unit that suits them. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 0.9995) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 600) return `${new Intl.NumberFormat(locale(), { maximumSignificantDigits: seconds < 10 ? 2 : 3 }).format(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** A moment (Unix seconds) in the reader's own zone. */
export function moment(at) {
  if (at === null || at === undefined) return say("never");
  const year = new Date(at * 1000).getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return new Intl.DateTimeFormat(locale(), {
    year, month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
  }).format(at * 1000);
}

/** The beginning of a day (UTC's) or of an hour, on an axis or in full. */
export function bucket(at, unit, long = false) {
  if (unit === "day") {
    return new Intl.DateTimeFormat(locale(), { month: "short", day: "numeric", timeZone: "UTC", ...(long ? { weekday: "short" } : {}) }).format(at * 1000);
  }
  const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  const day = { month: "short", day: "numeric" };
  const midnight = new Date(at * 1000).getHours() === 0;
  return new Intl.DateTimeFormat(locale(), long ? { ...day, ...time } : midnight ? day : time).format(at * 1000);
}
