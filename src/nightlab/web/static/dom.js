// Elements, made without markup: every text that comes from elsewhere becomes a text node.

const SVG = "http://www.w3.org/2000/svg";

function set(node, props) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
}

/** An element; `on…` properties are listeners, false and null leave an attribute out. */
export function h(tag, props, ...children) {
  const node = document.createElement(tag);
  set(node, props);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The same in SVG. */
export function svg(tag, props, ...children) {
  const node = document.createElementNS(SVG, tag);
  set(node, props);
  node.append(...children);
  return node;
}

/**
 * Other children for a container, with the focus kept: the element that had it and the one that
 * gets it carry the same `data-key`.
 */
export function refill(container, ...children) {
  const held = container.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  container.replaceChildren(...children.flat().filter(Boolean));
  if (!held) return;
  container.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
}

const MARKS = {
  keep: () => svg("circle", { cx: 7, cy: 7, r: 5.5 }),
  discard: () => svg("circle", { cx: 7, cy: 7, r: 3.2 }),
  inconclusive: () => svg("path", { d: "M7 1.6 12.4 7 7 12.4 1.6 7Z" }),
  crash: () => svg("path", { d: "M2.6 2.6 11.4 11.4M11.4 2.6 2.6 11.4" }),
  open: () => svg("circle", { cx: 7, cy: 7, r: 4.2 }),
};

/** A verdict's mark: colour and shape, as the plot has it. */
export function mark(verdict) {
  const shape = (MARKS[verdict] ?? MARKS.open)();
  return svg("svg", { class: `mark ${verdict}`, viewBox: "0 0 14 14", "aria-hidden": "true" }, shape);
}

/** The mark with its word beside it. */
export function verdictOf(verdict) {
  return h("span", { class: "verdict" }, mark(verdict), verdict);
}

/** A table of plain cells; a cell is a string or a node. `right` holds columns of numbers. */
export function tableOf(heads, rows, right = []) {
  const align = (i) => (right.includes(i) ? "num" : null);
  return h("div", { class: "scroll-x" },
    h("table", { class: "plain" },
      h("thead", null, h("tr", null, heads.map((t, i) => h("th", { scope: "col", class: align(i) }, t)))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map((cell, i) => h("td", { class: align(i) }, cell)))))));
}

/** A pair for a definition list, or nothing where there is nothing to say. */
export function fact(name, ...value) {
  const said = value.filter((v) => v !== null && v !== undefined && v !== "");
  return said.length ? [h("dt", null, name), h("dd", null, said)] : [];
}

/** What a panel says when it has nothing to show. */
export function empty(what, why = "") {
  return h("div", { class: "empty" }, h("p", null, what), why && h("p", { class: "soft" }, why));
}
