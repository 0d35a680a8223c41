// A chart over time, as SVG: stacked bars of amounts, or lines of times. It has axes with units, a
// legend, a tooltip for the pointer and for the arrow keys, and is a table for who wants one.

import { draw, make, table } from "./elements.js";
import { bucket } from "./format.js";
import { say } from "./words.js";

const HEIGHT = 208;
const LEFT = 52;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 24;
const STEPS = [1, 2, 2.5, 5, 10];
const LABEL_WIDTH = 62;

const tables = new Set(); // titles of those that are shown as tables, over a refresh

/**
 * `times` are the beginnings of the buckets, `unit` is "hour" or "day". A series is
 * { name, colour, values }; `colour` is a class, a value may be null in lines. `format` shows a value;
 * `whole` ones have no fractions on their axis.
 */
export function chart({ id, title, note, lines = false, whole = false, times, unit, series, format, axis = format }) {
  const plot = make("div", { class: "plot", tabindex: "0", role: "group", "aria-roledescription": say("charts") });
  const tip = make("div", { class: "tip", role: "status", hidden: true });
  const frame = make("div", { class: "frame" }, plot, tip);
  const rows = () => times.map((at, place) => [
    bucket(at, unit, true),
    ...series.map((one) => (one.values[place] === null ? "–" : format(one.values[place]))),
  ]).reverse();
  const heads = [["moment", ""], ...series.map((one) => [one.name, "number", true])];
  const asTable = make("div", { class: "as-table", hidden: true });
  const toggle = make("button", { type: "button", class: "button bare quiet", "aria-pressed": "false" });
  const show = (wanted) => {
    asTable.hidden = !wanted;
    frame.hidden = wanted;
    if (wanted) asTable.replaceChildren(table(title, heads, rows()));
    toggle.textContent = say(wanted ? "asChart" : "asTable");
    toggle.setAttribute("aria-label", `${toggle.textContent}: ${title}`);
    tables[wanted ? "add" : "delete"](id);
  };
  toggle.addEventListener("click", () => show(asTable.hidden));
  show(tables.has(id));

  plot.setAttribute("aria-label", summary(title, series, format, lines));
  const view = { lines, whole, times, unit, series, format, axis };
  let drawn = null;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0 && width !== drawn?.width) {
      drawn = picture(width, view);
      plot.replaceChildren(drawn.svg);
      tip.hidden = true;
    }
  }).observe(plot);
  pointing(plot, tip, () => drawn, view);
  return make(
    "figure",
    { class: "card chart", "data-chart": id },
    make("figcaption", {}, make("h2", {}, title), make("span", { class: "note" }, note), toggle),
    frame,
    asTable,
    make("ul", { class: "legend" }, series.map((one) => make("li", { class: one.colour }, one.name))),
  );
}

function summary(title, series, format, lines) {
  const said = series.map((one) => {
    const values = one.values.filter((value) => value !== null);
    const shown = lines ? values.at(-1) ?? null : values.reduce((sum, value) => sum + value, 0);
    return `${one.name} ${shown === null ? "–" : format(shown)}`;
  });
  return `${title}: ${said.join(", ")}`;
}

function picture(width, { lines, whole, times, unit, series, axis }) {
  const inner = width - LEFT - RIGHT;
  const high = HEIGHT - TOP - BOTTOM;
  const band = inner / times.length;
  const tops = times.map((_, place) => {
    const values = series.map((one) => one.values[place] ?? 0);
    return lines ? Math.max(...values) : values.reduce((sum, value) => sum + value, 0);
  });
  const ticks = niceTicks(Math.max(...tops), whole);
  const x = (place) => LEFT + band * place;
  const y = (value) => TOP + high * (1 - value / ticks.at(-1));
  const svg = draw("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
  for (const tick of ticks) {
    svg.append(
      draw("line", { class: tick ? "grid" : "ground", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
      draw("text", { class: "label", x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, tick || !lines ? axis(tick) : "0"),
    );
  }
  // Over several days hours say little: then midnights are named.
  const days = unit === "hour" && times.length > 48;
  const named = [...times.keys()].filter((place) => !days || new Date(times[place] * 1000).getHours() === 0);
  const every = Math.ceil(named.length / Math.max(2, Math.floor(inner / LABEL_WIDTH)));
  named.forEach((place, number) => {
    if (number % every) return;
    const at = times[place];
    svg.append(draw("text", { class: "label", x: x(place) + band / 2, y: HEIGHT - 6, "text-anchor": "middle" }, bucket(at, unit)));
  });
  const mark = draw("rect", { class: "mark", y: TOP, width: band, height: high, visibility: "hidden" });
  svg.append(mark, ...(lines ? curves(series, x, y, band) : bars(times, series, x, y, band)));
  return { svg, width, mark, x, band };
}

function bars(times, series, x, y, band) {
  const gap = Math.min(6, band * 0.25);
  return times.flatMap((_, place) => {
    let below = 0;
    return series.flatMap((one) => {
      const value = one.values[place];
      if (!value) return [];
      const bottom = y(below);
      below += value;
      return [draw("rect", {
        class: `bar ${one.colour}`, x: x(place) + gap / 2, y: y(below), width: band - gap,
        // What is there is seen, however little it is.
        height: Math.max(bottom - y(below), 0.75),
      })];
    });
  });
}

function curves(series, x, y, band) {
  return series.flatMap((one) => {
    const points = one.values.map((value, place) => (value === null ? null : [x(place) + band / 2, y(value)]));
    const path = points.map((point, place) => {
      if (point === null) return "";
      return `${points[place - 1] ? "L" : "M"}${point.map((at) => at.toFixed(1)).join(" ")}`;
    }).join("");
    const alone = points.filter((point, place) => point && !points[place - 1] && !points[place + 1]);
    return [
      draw("path", { class: `line ${one.colour}`, d: path }),
      ...alone.map(([cx, cy]) => draw("circle", { class: `dot ${one.colour}`, cx, cy, r: 3 })),
    ];
  });
}

function pointing(plot, tip, picture, { lines, times, unit, series, format }) {
  let at = null;
  const hide = () => {
    at = null;
    tip.hidden = true;
    picture()?.mark.setAttribute("visibility", "hidden");
  };
  const show = (place) => {
    const drawn = picture();
    if (!drawn) return;
    at = Math.max(0, Math.min(times.length - 1, place));
    drawn.mark.setAttribute("x", drawn.x(at));
    drawn.mark.setAttribute("visibility", "visible");
    const shown = series.map((one) => [one.colour, one.name, one.values[at]]);
    if (!lines && series.length > 1) shown.push(["sum", say("total"), shown.reduce((sum, one) => sum + one[2], 0)]);
    tip.replaceChildren(
      make("p", {}, bucket(times[at], unit, true)),
      make("ul", { class: "legend" }, shown.map(([colour, name, value]) =>
        make("li", { class: colour }, `${name} `, make("b", {}, value === null ? "–" : format(value))))),
    );
    tip.hidden = false;
    const middle = drawn.x(at) + drawn.band / 2;
    const left = middle > drawn.width / 2 ? middle - tip.offsetWidth - 12 : middle + 12;
    tip.style.left = `${Math.max(0, Math.min(left, drawn.width - tip.offsetWidth))}px`;
  };
  plot.addEventListener("pointermove", (event) => {
    const drawn = picture();
    const place = Math.floor((event.clientX - plot.getBoundingClientRect().left - LEFT) / (drawn?.band ?? 1));
    if (place >= 0 && place < times.length && place !== at) show(place);
  });
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", (event) => {
    const places = { ArrowLeft: (at ?? times.length) - 1, ArrowRight: (at ?? -1) + 1, Home: 0, End: times.length - 1 };
    if (event.key === "Escape") hide();
    if (!(event.key in places)) return;
    event.preventDefault();
    show(places[event.key]);
  });
}

/** Up to five round numbers from 0 to one that is not below `most`; `whole` ones, if wanted. */
export function niceTicks(most, whole = false) {
  if (!(most > 0)) return [0, 1];
  const size = 10 ** Math.floor(Math.log10(most / 4));
  const steps = STEPS.map((factor) => factor * size).filter((one) => !whole || Number.isInteger(one));
  const step = steps.find((one) => one * 4.0001 >= most) ?? 10 * size;
  const ticks = [0];
  while (ticks.at(-1) < most) ticks.push(ticks.length * step);
  return ticks;
}
