"use strict";
// The charts of a page: slices of a measure, two settings, two measures, learning curves, all settings side by side.
const study = JSON.parse(document.getElementById("data").textContent);
const explore = document.getElementById("explore");
const state = { measure: study.by, chosen: new Set(), zoom: {}, brushes: {}, curves: [], pair: null, map: null };
const axisOf = (key) => study.axes.find((a) => a.key === key);
const measureOf = (key) => study.measures.find((m) => m.key === key) ?? { key, name: key, short: key, better: "min" };
const value = (trial, key) => trial.values[key]?.[0];
const dim = (trial) => state.chosen.size && !state.chosen.has(trial.trial);

function about(trial, ...more) {
  const measure = measureOf(state.measure);
  return [trial.label, `${measure.name} ${exact(trial.values[state.measure])}`, ...more,
    `rank ${trial.place} · ${trial.verdict || trial.status}`];
}
function scaleFor(axis) {
  return scaleOf(axis.scale, study.trials.map((t) => t.params[axis.key]), axis.values);
}
function scaleFrom(key, ends = true) {
  return scaleOf("linear", study.trials.flatMap((t) => (ends ? (t.values[key] ?? []).slice(0, 3) : [value(t, key)])));
}
function zoomed(name, x, y) {
  const zoom = state.zoom[name];
  return zoom ? [part(x, zoom[0], zoom[1]), part(y, zoom[2], zoom[3])] : [x, y];
}
// The rectangle in shares of what is shown, as shares of the whole.
function remember(name, found) {
  const was = state.zoom[name] ?? [0, 1, 0, 1];
  if (!found) delete state.zoom[name];
  else state.zoom[name] = [was[0] + found[0] * (was[1] - was[0]), was[0] + found[1] * (was[1] - was[0]), was[2] + found[2] * (was[3] - was[2]), was[2] + found[3] * (was[3] - was[2])];
  show();
}
function points(name, title, x, y, xName, yName, at, options = {}) {
  const [sx, sy] = zoomed(name, x, y);
  const chart = frame(title, sx, sy, xName, yName, options.size);
  const marks = [];
  for (const trial of [...study.trials].reverse().sort((a, b) => dim(b) - dim(a))) { // the best on top
    const [vx, vy, low, high] = at(trial);
    const [cx, cy] = [chart.px(vx), chart.py(vy)];
    if (cx === undefined || cy === undefined) continue;
    const faded = dim(trial) ? " faded" : "";
    if (known(low) && known(high)) chart.marks.append(draw("path", { d: `M${cx} ${chart.py(low)}V${chart.py(high)}`, class: `whisker${faded}` }));
    const fill = options.fill?.(trial) ?? null;
    chart.marks.append(draw("circle", { cx, cy, r: trial.rank === 1 ? 5.5 : 3.6, class: `point${trial.rank === 1 ? " first" : ""}${faded}`, style: fill && `fill:${fill}` }));
    marks.push([cx, cy, about(trial, ...(options.more?.(trial) ?? []))]);
  }
  speaks(chart, marks);
  zooms(chart, (found) => remember(name, found));
  return chart;
}

// -- the panels -------------------------------------------------------------------------------------

function slices() {
  const measure = measureOf(state.measure), y = scaleFrom(state.measure);
  return study.axes.map((axis) => points(`slice ${axis.key}`, `${measure.name} by ${axis.name}, every trial a point`, scaleFor(axis), y, axis.name, measure.name,
    (t) => [t.params[axis.key], ...(t.values[state.measure] ?? [])]).svg);
}
function twoMeasures() {
  const [a, b] = state.pair.map(measureOf);
  const chart = points("pair", `${b.name} against ${a.name}`, scaleFrom(a.key), scaleFrom(b.key), a.name, b.name,
    (t) => [value(t, a.key), ...(t.values[b.key] ?? [])], { more: (t) => [`${a.name} ${exact(t.values[a.key])}`, `${b.name} ${exact(t.values[b.key])}`] });
  const sign = (m) => (m.better === "max" ? -1 : 1);
  const there = study.trials.filter((t) => t.status === "completed" && known(value(t, a.key)) && known(value(t, b.key)))
    .map((t) => [sign(a) * value(t, a.key), sign(b) * value(t, b.key), t]).sort((p, q) => p[0] - q[0] || p[1] - q[1]);
  let best = Infinity;
  const front = there.filter((p) => p[1] < best && ((best = p[1]), true));
  chart.marks.prepend(draw("path", { d: "M" + front.map((p) => `${chart.px(value(p[2], a.key))} ${chart.py(value(p[2], b.key))}`).join("L"), class: "front" }));
  return [chart.svg];
}
function twoSettings() {
  const [a, b] = state.map.map(axisOf), measure = measureOf(state.measure);
  const there = study.trials.filter((t) => known(value(t, state.measure)));
  const values = there.map((t) => value(t, state.measure)), [low, high] = [Math.min(...values), Math.max(...values)];
  const tone = (v) => shade((v - low) / (high - low || 1));
  const chart = points("map", `${measure.name} over ${a.name} and ${b.name}`, scaleFor(a), scaleFor(b), a.name, b.name,
    (t) => [t.params[a.key], t.params[b.key]], { fill: (t) => (known(value(t, state.measure)) ? tone(value(t, state.measure)) : null) });
  const at = there.map((t) => [chart.x.at(t.params[a.key]), chart.y.at(t.params[b.key]), value(t, state.measure)]).filter((p) => p[0] !== undefined && p[1] !== undefined);
  if (at.length > 2) { // between the points: their mean, the near ones counting more, in bands
    const [columns, rows, bands] = [44, 28, 8], area = draw("g", { class: "contour" });
    for (let i = 0; i < columns; i++) for (let k = 0; k < rows; k++) {
      const [x, y] = [(i + 0.5) / columns, (k + 0.5) / rows];
      let [sum, weight] = [0, 0];
      for (const p of at) { const w = 1 / ((p[0] - x) ** 2 + (p[1] - y) ** 2 + 1e-4) ** 1.5; sum += w * p[2]; weight += w; }
      const band = (Math.floor(((sum / weight - low) / (high - low || 1)) * bands * 0.9999) + 0.5) / bands;
      area.append(draw("rect", { x: chart.box.left + (i / columns) * chart.inner.width, y: chart.box.top + (1 - (k + 1) / rows) * chart.inner.height, width: chart.inner.width / columns + 0.6, height: chart.inner.height / rows + 0.6, fill: shade(band) }));
    }
    chart.marks.prepend(area);
  }
  const key = el("p", { class: "soft key" });
  key.append(short(low), ...[0, 0.2, 0.4, 0.6, 0.8, 1].map((s) => el("span", { class: "tone", style: `background:${shade(s)}` })), `${short(high)} ${measure.name}`);
  return [chart.svg, key];
}
function learning() {
  const picked = study.trials.filter((t) => t.curves && state.curves.includes(t.trial));
  const all = picked.flatMap((t) => Object.entries(t.curves).filter(([k]) => k !== "epochs").flatMap(([, v]) => v));
  const [x, y] = zoomed("curves", scaleOf("linear", picked.flatMap((t) => t.curves.epochs), [], 0.02), scaleOf("linear", [...all, 0], [], 0.04));
  const chart = frame("train error (dashed) and held-out error by epoch", x, y, "epoch", "error", { width: 640, height: 300 });
  const marks = [];
  picked.forEach((trial, k) => {
    const held = trial.curves.validation_error ? "validation_error" : "test_error";
    for (const name of ["train_error", held]) {
      const line = trial.curves[name];
      if (!line) continue;
      const spots = trial.curves.epochs.map((e, i) => [chart.px(e), chart.py(line[i]), i]).filter((p) => p[1] !== undefined);
      chart.marks.append(draw("path", { d: "M" + spots.map((p) => `${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("L"), class: `curve c${k % 6}${name === "train_error" ? " train" : ""}` }));
      for (const p of spots) marks.push([p[0], p[1], [trial.label, `${measureOf(name).name} ${line[p[2]].toFixed(3)}`, `epoch ${trial.curves.epochs[p[2]]}`]]);
    }
  });
  speaks(chart, marks, 30);
  zooms(chart, (found) => remember("curves", found));
  const key = el("ul", { class: "key" });
  picked.forEach((trial, k) => { const item = el("li"); item.append(el("span", { class: `swatch c${k % 6}` }), ` ${trial.label}`); key.append(item); });
  return [chart.svg, key];
}
function importance() {
  const names = study.importance.map((i) => axisOf(i.key).short);
  const chart = frame("share of the differences that each setting explains by itself", scaleOf("linear", [0, 1], [], 0), scaleOf("names", [], [...names].reverse()), "share explained", "", { height: 80 + 34 * names.length, left: 110 });
  const marks = study.importance.map((item, k) => {
    const y = chart.py(names[k]), [end, low, high] = [item.share, item.low, item.high].map(chart.px);
    chart.marks.append(draw("rect", { x: chart.box.left, y: y - 9, width: Math.max(0, end - chart.box.left), height: 18, class: `bar${item.told === "told" ? "" : " faint"}` }),
      draw("path", { d: `M${low} ${y}H${high}`, class: "chance" }));
    return [end, y, [axisOf(item.key).name, `explains ${(100 * item.share).toFixed(0)} %`, `${(100 * item.low).toFixed(0)} to ${(100 * item.high).toFixed(0)} %; ${item.told}`]];
  });
  speaks(chart, marks, 200);
  return [chart.svg, el("p", { class: "soft" }, "Share of the differences between trials by a random forest, with its range; grey: not told from a setting that does nothing.")];
}

// All settings side by side: a line a trial; dragging along an axis keeps the lines through that part.
function parallel() {
  const measure = measureOf(state.measure);
  const columns = [...study.axes.map((a) => ({ key: a.key, name: a.short, scale: scaleFor(a), of: (t) => t.params[a.key] })),
    { key: " measure", name: measure.short, scale: scaleFrom(state.measure, false), of: (t) => value(t, state.measure) }];
  const [width, height, top, bottom, side] = [Math.max(640, 150 * columns.length), 300, 34, 20, 70];
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "chart parallel", style: `max-width:${width * 1.15}px`, "aria-label": "all settings of each trial, a line a trial" });
  const at = (k) => side + (k * (width - 2 * side)) / Math.max(1, columns.length - 1);
  const y = (share) => top + (1 - share) * (height - top - bottom);
  const results = study.trials.map((t) => value(t, state.measure)).filter(known), [low, high] = [Math.min(...results), Math.max(...results)];
  const marks = [];
  for (const trial of [...study.trials].sort((a, b) => dim(b) - dim(a))) {
    const spots = columns.map((c, k) => [at(k), c.scale.at(c.of(trial))]);
    if (spots.some((p) => p[1] === undefined)) continue;
    const result = value(trial, state.measure);
    svg.append(draw("path", { d: "M" + spots.map((p) => `${p[0]} ${y(p[1])}`).join("L"), class: `way${dim(trial) ? " faded" : ""}`, style: known(result) ? `stroke:${shade((result - low) / (high - low || 1))}` : null }));
    for (const p of spots) marks.push([p[0], y(p[1]), about(trial)]);
  }
  columns.forEach((column, k) => {
    const brush = state.brushes[column.key];
    svg.append(draw("path", { d: `M${at(k)} ${y(0)}V${y(1)}`, class: "line" }), draw("text", { x: at(k), y: 16, "text-anchor": "middle", class: "name" }, column.name.length > 16 ? column.name.slice(0, 15) + "…" : column.name));
    let last = Infinity;
    for (const [text, share] of column.scale.ticks) {
      if (share < 0 || share > 1 || last - y(share) < 13) continue;
      last = y(share);
      svg.append(draw("text", { x: at(k) + 5, y: y(share) + 4, class: "tick" }, text.length > 13 ? text.slice(0, 12) + "…" : text));
    }
    if (brush) svg.append(draw("rect", { x: at(k) - 8, y: y(brush[1]), width: 16, height: y(brush[0]) - y(brush[1]), class: "brush" }));
    const grip = draw("rect", { x: at(k) - 14, y: y(1), width: 28, height: y(0) - y(1), class: "grip", "data-axis": column.key });
    let from = null;
    const share = (event) => Math.max(0, Math.min(1, 1 - (inside(svg, event)[1] - top) / (height - top - bottom)));
    grip.addEventListener("pointerdown", (event) => { from = share(event); grip.setPointerCapture(event.pointerId); });
    grip.addEventListener("pointerup", (event) => {
      const [a, b] = [Math.min(from, share(event)), Math.max(from, share(event))];
      from = null;
      if (b - a < 0.02) delete state.brushes[column.key]; else state.brushes[column.key] = [a, b];
      choose(columns);
    });
    svg.append(grip);
  });
  speaks({ svg }, marks, 16);
  return [svg];
}
function choose(columns) {
  const brushes = Object.entries(state.brushes);
  const through = (t) => brushes.every(([key, [low, high]]) => {
    const column = columns.find((c) => c.key === key), share = column?.scale.at(column.of(t));
    return share !== undefined && share >= low && share <= high;
  });
  const kept = brushes.length ? study.trials.filter(through).map((t) => t.trial) : [];
  state.chosen = new Set(brushes.length && !kept.length ? [-1] : kept);
  dispatchEvent(new CustomEvent("chosen", { detail: state.chosen.size ? [...state.chosen] : null }));
  show();
}

// -- what is asked of them ----------------------------------------------------------------------------

function menu(name, items, value, change) {
  const label = el("label", {}, `${name} `), select = el("select");
  for (const item of items) select.append(el("option", { value: item.key, ...(item.key === value ? { selected: "" } : {}) }, item.name));
  select.addEventListener("change", () => { change(select.value); show(); });
  label.append(select);
  return label;
}
const panels = [];
function panel(title, make, tools = [], hint = "") {
  const section = el("section", { class: "panel" }), body = el("div", { class: "drawn" });
  section.append(el("h3", {}, title), ...tools, ...(hint ? [el("p", { class: "soft" }, hint)] : []), body);
  panels.push([body, make]);
  return section;
}
function show() {
  hush();
  for (const [body, make] of panels) body.replaceChildren(...make());
}
function begin() {
  const completed = study.trials.filter((t) => known(value(t, study.by)));
  if (completed.length < 2) return;
  state.curves = study.trials.filter((t) => t.curves).slice(0, 3).map((t) => t.trial);
  const names = study.measures.filter((m) => study.trials.some((t) => known(value(t, m.key))));
  state.pair = ["bias2", "variance"].every((k) => names.some((m) => m.key === k)) ? ["bias2", "variance"] : [names[0].key, (names[1] ?? names[0]).key];
  const parts = explore.querySelector(".panels");
  const reset = el("button", { type: "button" }, "Show all trials, whole charts");
  reset.addEventListener("click", () => { state.zoom = {}; state.brushes = {}; choose([]); });
  const bar = el("p", { class: "bar-of-tools" });
  bar.append(menu("measure", names, state.measure, (v) => { state.measure = v; for (const name in state.zoom) delete state.zoom[name]; }), " ", reset);
  parts.before(bar);
  if (study.axes.length) {
    parts.append(panel("By each setting", slices, [], "Each point is a trial with its 95 % interval; other settings vary too. Drag to zoom, double-click for the whole."));
    parts.append(panel("All settings side by side", parallel, [], "Drag along an axis to keep the trials through that part, here, in all charts and in the table; click it to let go."));
  }
  if (study.axes.length > 1) {
    state.map = study.axes.slice(0, 2).map((a) => a.key);
    if (study.importance.length) state.map = study.importance.slice(0, 2).map((i) => i.key);
    parts.append(panel("Two settings", twoSettings, [0, 1].map((k) => menu(k ? "up" : "across", study.axes, state.map[k], (v) => { state.map[k] = v; delete state.zoom.map; })), "Between the points the colour is a mean of those near, and no measurement."));
  }
  parts.append(panel("Two measures", twoMeasures, [0, 1].map((k) => menu(k ? "up" : "across", names, state.pair[k], (v) => { state.pair[k] = v; delete state.zoom.pair; })), "The line joins trials that no other beats on both."));
  if (study.importance.length) parts.append(panel("Importance", importance));
  const drawn = study.trials.filter((t) => t.curves);
  if (drawn.length) {
    const label = el("label", {}, "trials "), select = el("select", { multiple: "", size: "5" });
    for (const t of drawn) select.append(el("option", { value: t.trial, ...(state.curves.includes(t.trial) ? { selected: "" } : {}) }, `${t.place} · ${t.label}`));
    select.addEventListener("change", () => { state.curves = [...select.selectedOptions].slice(0, 6).map((o) => Number(o.value)); show(); });
    label.append(select);
    parts.append(panel("Learning curves", learning, [label], "Solid: held out; dashed: train. Up to six trials."));
  }
  document.body.append(tip);
  explore.hidden = false;
  for (const link of document.querySelectorAll("nav a[href='#explore']")) link.hidden = false;
  dark.addEventListener("change", show);
  show();
}
begin();
