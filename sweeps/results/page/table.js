"use strict";
// The table of trials: sort, filter by words or comparisons, hide columns, export as CSV. Without scripts it stands as it is.
for (const table of document.querySelectorAll("table.board")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // unknown stays last
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
        return down ? -order : order;
      };
      [...body.rows].sort(compare).forEach((row) => body.append(row));
    });
  });
  const tools = document.querySelector(`.tools[data-of="${table.id}"]`);
  if (!tools) continue;
  const words = tools.querySelector("input[type=search]");
  const count = tools.querySelector("output");
  const only = new Set(); // trials chosen in the charts; empty: all
  const apply = () => {
    const tests = words.value.split(/\s+/).filter(Boolean).map((word) => test(word, heads));
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = !(tests.every((one) => one(row)) && (!only.size || only.has(row.dataset.trial)));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${body.rows.length}`;
  };
  words.addEventListener("input", apply);
  addEventListener("chosen", (event) => {
    only.clear();
    for (const trial of event.detail ?? []) only.add(String(trial));
    apply();
  });
  const list = tools.querySelector(".columns");
  heads.forEach((heading, column) => {
    if (column < 2) return;
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !heading.hidden });
    const label = document.createElement("label");
    label.append(box, " ", heading.textContent.trim());
    box.addEventListener("change", () => {
      for (const row of table.rows) row.cells[column].hidden = !box.checked;
    });
    list.append(label);
  });
  tools.querySelector("button.export").addEventListener("click", () => {
    const plain = (text) => (/^[=+@-]/.test(text) && isNaN(text) ? `'${text}` : text); // no formula
    const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : plain(text));
    const lines = [...table.rows].filter((row) => !row.hidden).map((row) =>
      [...row.cells].filter((cell) => !cell.hidden).map((cell) => quoted(cell.textContent.trim())).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    link.download = `${document.title.split(" · ")[0]}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  tools.hidden = false;
  apply();
}

// `dropout>0.2`, `verdict=overfit` or a plain word, as a test of a row.
function test(word, heads) {
  const [, name, sign, wanted] = /^([^<>=]+)(<=|>=|<|>|=)(.+)$/.exec(word) ?? [];
  const wantedName = name?.toLowerCase();
  const column = name ? heads.findIndex((h) => h.textContent.trim().toLowerCase().replaceAll(" ", "") === wantedName) : -1;
  if (column < 0) {
    const text = word.toLowerCase();
    return (row) => row.textContent.toLowerCase().includes(text);
  }
  return (row) => {
    const cell = row.cells[column], value = cell.dataset.v ?? cell.textContent.trim();
    if (value === "" || isNaN(value) || isNaN(wanted)) return sign === "=" && cell.textContent.toLowerCase().includes(wanted.toLowerCase());
    const [a, b] = [Number(value), Number(wanted)];
    return { "<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b, "=": a === b }[sign];
  };
}
// On paper nothing can be opened: what is wanted there is opened, the rest stays closed.
addEventListener("beforeprint", () => document.querySelectorAll("details.print").forEach((d) => (d.open = true)));
