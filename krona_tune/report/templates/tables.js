// Tables whose headings sort them, and rows that are shown when they are asked for. What is added to the page later is
// prepared with `tables.prepare`.
(() => {
  // A date, a name that begins with digits and a shape such as 16×24 are none.
  const NUMBER = /^[+−-]?[\d,]*\.?\d+(e[+-]?\d+)?(?![\d.,]*[-_×]\w)/i;
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return null;
    const text = (cell.dataset.value ?? cell.textContent).trim();
    const number = NUMBER.exec(text);
    if (number) return Number(number[0].replace("−", "-").replaceAll(",", ""));
    return text === "–" || text === "" ? null : text;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  const sort = (table, column, direction) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row, column), row]);
    rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : direction * compare(a, b));
    body.append(...rows.map(([, row]) => row));
  };
  const sorted = new WeakMap();
  const sortBy = (table, heading, direction) => {
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    sorted.set(table, [heading.cellIndex, direction]);
    sort(table, heading.cellIndex, direction);
  };
  const prepare = (root) => {
    for (const table of root.querySelectorAll("table.sortable")) {
      for (const heading of table.tHead.rows[0].cells) {
        const button = document.createElement("button");
        button.type = "button";
        button.append(...heading.childNodes);
        heading.append(button);
        button.addEventListener("click", () => {
          const first = heading.dataset.first === "up" || !heading.classList.contains("number") ? 1 : -1;
          const now = heading.getAttribute("aria-sort");
          sortBy(table, heading, now ? (now === "ascending" ? -1 : 1) : first);
        });
      }
    }
    for (const button of root.querySelectorAll("button.more")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        const table = document.getElementById(button.getAttribute("aria-controls"));
        const rest = table.querySelector("template");
        table.tBodies[0].append(rest.content);
        rest.remove();
        button.remove();
        if (sorted.has(table)) sort(table, ...sorted.get(table));
        table.parentElement.focus();
      });
    }
  };
  prepare(document);
  window.tables = { prepare, sortBy };
})();
