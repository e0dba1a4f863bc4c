"use strict";
// Charts as vector graphics, without a library: scales, axes, points that say what they are, zoom by dragging.
const SVG = "http://www.w3.org/2000/svg";
const LIGHT = ["#00224e", "#31446b", "#666970", "#958f78", "#cab969", "#fee838"]; // cividis: also in grey
const DARK = ["#4f8fe6", "#7a9bc8", "#9c9fa3", "#b9b07e", "#d8c95c", "#fee838"]; // its dark end would be lost on a dark page
const dark = matchMedia("(prefers-color-scheme: dark)");

function el(name, attributes = {}, text = null, space = null) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "style" && value) made.style.cssText = value; // the page's policy refuses the attribute
    else if (value !== null) made.setAttribute(key, value);
  }
  if (text !== null) made.textContent = text;
  return made;
}
const draw = (name, attributes, text = null) => el(name, attributes, text, SVG);

const known = (value) => typeof value === "number" && Number.isFinite(value);
function short(value) {
  if (!known(value)) return value === null || value === undefined ? "–" : String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e4 || size < 1e-3 ? value.toExponential(0).replace("e+", "e") : String(+value.toPrecision(3));
}
function exact(values) {
  if (!values || !known(values[0])) return "–";
  const half = known(values[3]) ? ` ± ${values[3].toFixed(3)}` : "";
  return Math.abs(values[0]) < 1000 ? values[0].toFixed(3).replace(/^-(0\.0+)$/, "$1") + half : short(values[0]);
}

// A scale maps values to [0, 1] and knows its ticks; kind: linear, log or names.
function scaleOf(kind, values, names = [], pad = 0.05) {
  if (kind === "names") {
    const at = new Map(names.map((name, k) => [name, (k + 0.5) / Math.max(1, names.length)]));
    return { kind, at: (v) => at.get(String(v)), ticks: names.map((v) => [v, at.get(v)]) };
  }
  const log = kind === "log";
  const forth = log ? Math.log10 : (v) => v;
  const there = values.filter((v) => known(v) && (!log || v > 0)).map(forth);
  let [low, high] = there.length ? [Math.min(...there), Math.max(...there)] : [0, 1];
  if (low === high) [low, high] = [low - (log ? 0.3 : Math.abs(low) * 0.1 + 1e-6), high + (log ? 0.3 : Math.abs(high) * 0.1 + 1e-6)];
  const room = (high - low) * pad;
  [low, high] = [low - room, high + room];
  const at = (v) => (known(v) && (!log || v > 0) ? (forth(v) - low) / (high - low) : undefined);
  const back = (share) => (log ? 10 ** (low + share * (high - low)) : low + share * (high - low));
  return { kind, at, back, ticks: ticks(low, high, log).map((v) => [short(v), at(v)]) };
}
function ticks(low, high, log) {
  if (log) {
    const found = [];
    for (let power = Math.floor(low); power <= Math.ceil(high); power++)
      for (const digit of high - low > 2 ? [1] : high - low > 1 ? [1, 3] : [1, 2, 5]) {
        const at = power + Math.log10(digit);
        if (at >= low && at <= high) found.push(digit * 10 ** power);
      }
    if (found.length > 1) return found;
    return ticks(10 ** low, 10 ** high, false).filter((v) => v > 0);
  }
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((s) => s >= rough);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(+v.toPrecision(12));
  return found;
}
function shade(share) {
  const shades = dark.matches ? DARK : LIGHT;
  const at = Math.max(0, Math.min(1, share)) * (shades.length - 1);
  const [a, b] = [shades[Math.floor(at)], shades[Math.ceil(at)]];
  const mix = (k) => Math.round(parseInt(a.slice(k, k + 2), 16) * (1 - (at % 1)) + parseInt(b.slice(k, k + 2), 16) * (at % 1));
  return `rgb(${mix(1)},${mix(3)},${mix(5)})`;
}

// A frame: its box, ticks that never overlap, and titles. Returns what draws into it.
function frame(title, x, y, xName, yName, { width = 420, height = 260, left = 58 } = {}) {
  const box = { left, top: 12, right: 14, bottom: 44 };
  const inner = { width: width - box.left - box.right, height: height - box.top - box.bottom };
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title, class: "chart" });
  const px = (v) => { const at = x.at(v); return at === undefined ? undefined : box.left + at * inner.width; };
  const py = (v) => { const at = y.at(v); return at === undefined ? undefined : box.top + (1 - at) * inner.height; };
  const axes = draw("g", { class: "axes" });
  axes.append(draw("path", { d: `M${box.left} ${box.top}V${box.top + inner.height}H${box.left + inner.width}`, class: "line" }));
  const room = inner.width / Math.max(1, x.ticks.length);
  let end = -Infinity;
  for (const [text, at] of x.ticks) {
    if (at < -1e-6 || at > 1 + 1e-6) continue;
    const place = box.left + at * inner.width;
    const most = x.kind === "names" ? Math.max(3, Math.floor(room / 6.4)) : 12;
    const said = text.length > most ? text.slice(0, most - 1) + "…" : text;
    const half = said.length * 3.2;
    if (place - half < end + 4 || place + half > width) continue;
    end = place + half;
    const tick = draw("text", { x: place, y: box.top + inner.height + 15, "text-anchor": "middle" }, said);
    if (said !== text) tick.append(draw("title", {}, text));
    axes.append(tick);
  }
  for (const [text, at] of y.ticks) {
    if (at < -1e-6 || at > 1 + 1e-6) continue;
    const place = box.top + (1 - at) * inner.height;
    axes.append(draw("path", { d: `M${box.left} ${place}h${inner.width}`, class: "grid" }));
    axes.append(draw("text", { x: box.left - 6, y: place + 4, "text-anchor": "end" }, text.length > 9 ? text.slice(0, 8) + "…" : text));
  }
  axes.append(draw("text", { x: box.left + inner.width / 2, y: height - 8, "text-anchor": "middle", class: "name" }, xName));
  axes.append(draw("text", { transform: `translate(12 ${box.top + inner.height / 2}) rotate(-90)`, "text-anchor": "middle", class: "name" }, yName));
  const clip = `clip${frame.count = (frame.count || 0) + 1}`;
  const path = draw("clipPath", { id: clip });
  path.append(draw("rect", { x: box.left - 4, y: box.top - 4, width: inner.width + 8, height: inner.height + 8 }));
  const marks = draw("g", { "clip-path": `url(#${clip})` });
  svg.append(path, axes, marks);
  return { svg, marks, px, py, box, inner, x, y };
}

// -- hover ------------------------------------------------------------------------------------------

const tip = el("div", { class: "tip", role: "status", hidden: "" });
function tell(event, lines) {
  tip.replaceChildren(...lines.map((line, k) => el(k ? "div" : "b", {}, line)));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const x = event.clientX + 14 + width > innerWidth ? event.clientX - width - 14 : event.clientX + 14;
  const y = Math.min(event.clientY + 14, innerHeight - height - 6);
  tip.style.transform = `translate(${Math.max(4, x)}px, ${y}px)`;
}
const hush = () => { tip.hidden = true; };

// The nearest mark within reach speaks; marks: [[x, y, lines, emphasise]] in the chart's own units.
function speaks(chart, marks, reach = 24) {
  chart.svg.addEventListener("pointermove", (event) => {
    const [x, y] = inside(chart.svg, event);
    let best = null;
    for (const mark of marks) {
      const far = Math.hypot(mark[0] - x, mark[1] - y);
      if (far <= (best ? best[0] : reach)) best = [far, mark];
    }
    if (best) tell(event, best[1][2]); else hush();
  });
  chart.svg.addEventListener("pointerleave", hush);
}
function inside(svg, event) {
  const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
  return [((event.clientX - box.left) / box.width) * view.width, ((event.clientY - box.top) / box.height) * view.height];
}

// Dragging over a chart reports the rectangle in shares of its inner box; a double click asks for the whole.
function zooms(chart, report) {
  const { svg, box, inner } = chart;
  let from = null, mark = null;
  const share = ([x, y]) => [(x - box.left) / inner.width, 1 - (y - box.top) / inner.height];
  svg.addEventListener("pointerdown", (event) => {
    from = inside(svg, event);
    mark = draw("rect", { class: "brush" });
    svg.append(mark);
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = inside(svg, event);
    for (const [key, value] of Object.entries({ x: Math.min(from[0], to[0]), y: Math.min(from[1], to[1]), width: Math.abs(to[0] - from[0]), height: Math.abs(to[1] - from[1]) }))
      mark.setAttribute(key, value);
  });
  svg.addEventListener("pointerup", (event) => {
    const [a, b] = [share(from), share(inside(svg, event))];
    from = null;
    mark.remove();
    const [x0, x1] = [Math.min(a[0], b[0]), Math.max(a[0], b[0])], [y0, y1] = [Math.min(a[1], b[1]), Math.max(a[1], b[1])];
    if (x1 - x0 > 0.03 && y1 - y0 > 0.03) report([x0, x1, y0, y1]);
  });
  svg.addEventListener("dblclick", () => report(null));
}
// The part of a scale between two shares of it.
function part(scale, low, high) {
  const at = (v) => { const whole = scale.at(v); return whole === undefined ? undefined : (whole - low) / (high - low); };
  const back = scale.back && ((share) => scale.back(low + share * (high - low)));
  if (scale.kind === "names") return { kind: "names", at, ticks: scale.ticks.map(([text, place]) => [text, (place - low) / (high - low)]) };
  const log = scale.kind === "log";
  const ends = [scale.back(low), scale.back(high)].map((v) => (log ? Math.log10(v) : v));
  return { kind: scale.kind, at, back, ticks: ticks(ends[0], ends[1], log).map((v) => [short(v), at(v)]) };
}
