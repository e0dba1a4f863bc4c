"use strict";
// Tables sort by a click on a heading, and are filtered by the words typed above them.
for (const table of document.querySelectorAll("table.board")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th").forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
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
}
for (const input of document.querySelectorAll("input[type=search]")) {
  const rows = document.getElementById(input.dataset.of).tBodies[0].rows;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((w) => row.textContent.toLowerCase().includes(w));
  });
}
// On paper nothing can be opened: the rankings are opened, the trials one by one stay closed.
addEventListener("beforeprint", () => document.querySelectorAll("details.print").forEach((d) => (d.open = true)));
