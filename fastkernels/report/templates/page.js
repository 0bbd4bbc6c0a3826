"use strict";
// Heat maps: arrow keys move from cell to cell, and the cell under the pointer or in focus is described in words.
for (const table of document.querySelectorAll(".heat")) {
  const rows = [...table.tBodies[0].rows].map(row => [...row.querySelectorAll("td")]);
  const line = table.closest("details").querySelector(".detail");
  let current = rows[0][0];
  current.tabIndex = 0;
  const describe = cell => { line.textContent = cell.title; line.hidden = false; };
  table.addEventListener("pointerover", event => { if (event.target.closest("td")) describe(event.target.closest("td")); });
  const choose = cell => { current.tabIndex = -1; current = cell; cell.tabIndex = 0; cell.focus(); };
  table.addEventListener("click", event => { if (event.target.closest("td")) choose(event.target.closest("td")); });
  table.addEventListener("focusin", event => { if (event.target.closest("td")) describe(event.target.closest("td")); });
  table.addEventListener("keydown", event => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const row = rows.findIndex(cells => cells.includes(event.target));
    if (!step || row < 0) return;
    event.preventDefault();
    const next = rows[row + step[0]]?.[rows[row].indexOf(event.target) + step[1]];
    if (next) choose(next);
  });
}
// A link to a folded part opens it; printing shows the heat maps and sources.
const reveal = () => { const part = document.getElementById(location.hash.slice(1)); if (part?.tagName === "DETAILS") part.open = true; };
addEventListener("hashchange", reveal);
reveal();
addEventListener("beforeprint", () => document.querySelectorAll(".op").forEach(part => { part.open = true; }));
