"use strict";
(() => {
  const PREFIXES = [[-15, "f"], [-12, "p"], [-9, "n"], [-6, "µ"], [-3, "m"], [0, ""], [3, "k"], [6, "M"], [9, "G"], [12, "T"]];
  const si = (value, unit, zeros = true) => {
    if (value === 0) return `0 ${unit}`.trim();
    const [power, name] = PREFIXES.find(([p]) => Math.abs(value) < 999.5 * 10 ** p) || PREFIXES.at(-1);
    const digits = (Number((value / 10 ** power).toPrecision(12)) * (1 + 1e-13)).toPrecision(3); // as spikescr.quantities
    return `${zeros ? digits : Number(digits)} ${name}${unit}`.trim();
  };
  const amount = (value) => si(value, "", Math.abs(value) >= 1000);
  const signed = (value) => (value >= 0 ? "+" : "\u2212") + si(Math.abs(value), "J");

  // Tables: a click on a heading sorts, a second one the other way round; what has no number goes last.
  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return cell.classList.contains("number") ? null : cell.textContent;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const sort = (heading) => {
    const table = heading.closest("table"), body = table.tBodies[0], column = heading.cellIndex;
    const numeric = [...body.rows].some((row) => row.cells[column].dataset.v !== undefined);
    const now = heading.getAttribute("aria-sort");
    const up = now ? now !== "ascending" : !numeric;
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [key(row, column), row]);
    rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : (up ? 1 : -1) * compare(a, b)));
    body.append(...rows.map(([, row]) => row));
  };
  for (const heading of document.querySelectorAll("table.sortable thead th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(heading));
    heading.append(button);
  }

  // Paper shows what is folded away on the screen.
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) { details.open = true; opened.push(details); }
  });
  addEventListener("afterprint", () => { for (const details of opened.splice(0)) details.open = false; });

  // The waterfall between any two conventions; rows and cells are copies of those that are there.
  const {conventions: data, each} = JSON.parse(document.getElementById("data").textContent);
  const figure = document.getElementById("waterfall");
  const plot = figure.querySelector("svg.plot"), body = figure.querySelector("tbody"), ROW = 46;
  const template = plot.querySelector(".row").cloneNode(true), line = body.rows[0].cloneNode(true);
  const tick = plot.querySelector(".axes line").cloneNode(true), label = plot.querySelector(".axes text").cloneNode(true);
  const title = plot.querySelector(".axes .axis");
  const linear = (low, high) => {
    if (high <= low) high = low + (Math.abs(low) || 1);
    const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((digit) => digit * power >= rough * (1 - 1e-9));
    const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
    const marks = Array.from({ length: last - first + 1 }, (_, k) => (first + k) * step);
    return { marks, share: (value) => (value - marks[0]) / (marks.at(-1) - marks[0]) };
  };
  const way = (from, to) => {
    const start = data[from], end = data[to];
    const rows = [{ name: from, ...start, end: start.joules, low: Math.min(0, start.joules), high: Math.max(0, start.joules) }];
    for (const [cause, then] of Object.entries(end.causes)) {
      const before = start.causes[cause], at = rows.at(-1).end;
      const [ac, mac, joules] = ["ac", "mac", "joules"].map((kind) => then[kind] - before[kind]);
      if (!ac && !mac) continue;
      rows.push({ name: cause.replaceAll("_", " "), ac, mac, joules, change: true, end: at + joules,
                  low: Math.min(at, at + joules), high: Math.max(at, at + joules) });
    }
    rows.push({ name: to, ...end, end: end.joules, low: Math.min(0, end.joules), high: Math.max(0, end.joules) });
    return rows;
  };
  const percent = (share) => `${Math.round(share * 1e5) / 1e3}%`;
  const set = (node, values) => { for (const [name, value] of Object.entries(values)) node.setAttribute(name, value); };
  const draw = (from, to) => {
    const rows = way(from, to), height = ROW * rows.length;
    const axis = linear(Math.min(...rows.map((row) => row.low)), Math.max(...rows.map((row) => row.high)));
    const axes = axis.marks.flatMap((value, k) => {
      const grid = tick.cloneNode(true), text = label.cloneNode(true), x = percent(axis.share(value));
      set(grid, { x1: x, x2: x, y2: height + 4 });
      set(text, { x, y: height + 17, class: k % 2 && axis.marks.length > 4 ? "more" : "" });
      text.textContent = si(value, "J", false);
      return [grid, text];
    });
    title.setAttribute("y", height + 36);
    plot.querySelector(".axes").replaceChildren(...axes, title);
    for (const row of plot.querySelectorAll(".row")) row.remove();
    rows.forEach((row, k) => {
      const group = template.cloneNode(true), end = percent(axis.share(row.end));
      group.setAttribute("transform", `translate(0 ${ROW * k})`);
      group.querySelector(".name").textContent = row.name;
      group.querySelector(".figure").textContent = row.change ? signed(row.joules) : si(row.joules, "J");
      set(group.querySelector(".link"), { x1: end, x2: end, visibility: k === rows.length - 1 ? "hidden" : "visible" });
      set(group.querySelector("rect"), {
        x: percent(axis.share(row.low)), width: percent(axis.share(row.high) - axis.share(row.low)),
        class: `bar ${!row.change ? "total" : row.joules < 0 ? "less" : "more-energy"}`,
      });
      plot.append(group);
    });
    plot.style.height = `${height}px`;
    plot.setAttribute("aria-label", `Waterfall from ${from}, ${si(rows[0].joules, "J")}, to ${to}, ${si(rows.at(-1).joules, "J")}`);
    body.replaceChildren(...rows.map((row) => {
      const copy = line.cloneNode(true), cells = copy.cells;
      const share = rows[0].joules ? row.joules / rows[0].joules : null;
      cells[0].textContent = row.name;
      [[row.ac, amount(row.ac)], [row.mac, amount(row.mac)], [row.joules, si(row.joules, "J")],
       [share, share === null ? "" : `${(100 * share).toFixed(1).replace(/^-0.0$/, "0.0")} %`]].forEach(([value, text], k) => {
        cells[k + 1].textContent = text;
        if (value === null) delete cells[k + 1].dataset.v; else cells[k + 1].dataset.v = value;
      });
      return copy;
    }));
    figure.querySelector("caption span").textContent = `From ${from} to ${to}, mean per ${each}`;
  };
  const choice = figure.querySelector(".choice"), [from, to] = choice.querySelectorAll("select");
  choice.hidden = false;
  for (const select of [from, to]) select.addEventListener("change", () => draw(from.value, to.value));
  draw(from.value, to.value); // a browser keeps what was chosen when a page is loaded again
})();
