// The table of experiments: only the rows in sight exist, so that 20,000 are as light as 20.

import { h, mark, svg } from "./dom.js";
import { duration, line, number, signed, when } from "./format.js";

const COLUMNS = [
  { key: "n", words: "#", sorts: true },
  { key: "verdict", words: "verdict" },
  { key: "what", words: "change" },
  { key: "value", words: "value", sorts: true },
  { key: "effect", words: "against the incumbent", sorts: true },
  { key: "runs", words: "runs", sorts: true },
  { key: "seconds", words: "device time", sorts: true },
  { key: "settled", words: "when", sorts: true },
];
const SPARE = 8; // rows beyond the edges of what is seen

export class Table {
  /** `open(n)` when a row is chosen, `point(n)` when it is moved to, `sorted(key)` for a heading. */
  constructor(study, { open, point, sorted }) {
    Object.assign(this, { study, open, point, sorted, numbers: [], at: null });
    this.live = new Map(); // place → row element
    this.head = h("div", { class: "thead", role: "row" });
    this.body = h("div", { class: "rows", role: "rowgroup" });
    this.view = h("div", { class: "viewport", tabindex: "0", "aria-label": "Experiments: j and k move, Enter opens" }, this.body);
    this.node = h("div", { class: "grid", role: "table", "aria-label": "Experiments" }, h("div", { role: "rowgroup" }, this.head), this.view);
    this.view.addEventListener("scroll", () => this.#fill(), { passive: true });
    this.view.addEventListener("keydown", (event) => this.#key(event));
    this.view.addEventListener("click", (event) => {
      const row = event.target.closest("[data-n]");
      if (row && !getSelection().toString()) this.open(Number(row.dataset.n));
    });
    this.watch = new ResizeObserver(() => this.#fill());
    this.watch.observe(this.view);
  }

  close() {
    this.watch.disconnect();
  }

  get height() {
    return this.rowHeight ??= Number.parseFloat(getComputedStyle(this.node).getPropertyValue("--row")) || 38;
  }

  /** Show these experiments, as they are sorted. */
  show(numbers, ask) {
    this.numbers = numbers;
    this.rowHeight = null;
    this.node.setAttribute("aria-rowcount", String(numbers.length + 1));
    this.body.style.height = `${numbers.length * this.height}px`;
    this.view.style.height = `min(${numbers.length * this.height + 2}px, 66vh)`;
    this.head.replaceChildren(...COLUMNS.map((column) => this.#heading(column, ask)));
    for (const row of this.live.values()) row.remove();
    this.live.clear();
    const { sigma } = this.study;
    this.reach = reach(this.study, sigma);
    this.#fill();
  }

  #heading(column, ask) {
    const on = ask.sort === column.key;
    const order = on ? (ask.down ? "descending" : "ascending") : null;
    const inner = column.sorts
      ? h("button", { type: "button", class: "sort", onclick: () => this.sorted(column.key) }, column.words, h("i", { "aria-hidden": "true" }, on ? (ask.down ? " ↓" : " ↑") : ""))
      : column.words;
    return h("div", { class: `c-${column.key}`, role: "columnheader", "aria-sort": order }, inner);
  }

  #fill() {
    const { scrollTop, clientHeight } = this.view;
    const from = Math.max(0, Math.floor(scrollTop / this.height) - SPARE);
    const to = Math.min(this.numbers.length, Math.ceil((scrollTop + clientHeight) / this.height) + SPARE);
    for (const [place, row] of this.live) {
      if (place >= from && place < to) continue;
      row.remove();
      this.live.delete(place);
    }
    const made = document.createDocumentFragment();
    for (let place = from; place < to; place += 1) {
      if (this.live.has(place)) continue;
      const row = this.#row(place);
      this.live.set(place, row);
      made.append(row);
    }
    this.body.append(made);
  }

  #row(place) {
    const one = this.study.row(this.numbers[place]);
    const { sigma } = this.study;
    const cell = (name, ...inner) => h("div", { class: `c-${name}`, role: "cell" }, inner);
    const words = line(one.description, 220);
    const row = h("div", { class: `row ${one.verdict}`, role: "row", "data-n": one.n, "aria-rowindex": place + 2 },
      cell("n", String(one.n)),
      cell("verdict", mark(one.verdict), h("span", null, one.verdict)),
      cell("what", h("a", { href: this.link(one.n), tabindex: "-1", title: words }, words), one.category && h("span", { class: "tag" }, line(one.category, 24))),
      cell("value", number(one.value, sigma)),
      cell("effect", one.n === 1 ? h("span", { class: "soft" }, "baseline") : interval(one, this.reach, sigma)),
      cell("runs", String(one.runs || "")),
      cell("seconds", one.seconds ? duration(one.seconds) : ""),
      cell("settled", one.settled ? when(one.settled) : ""));
    row.style.transform = `translateY(${place * this.height}px)`;
    if (one.n === this.at) row.classList.add("at");
    return row;
  }

  link(n) {
    return `#/${this.study.id.split("/").map(encodeURIComponent).join("/")}/exp/${n}`;
  }

  /** Move to an experiment that is shown; `quiet` does not tell the plot. */
  goTo(n, quiet = false) {
    const place = this.numbers.indexOf(n);
    if (place < 0) return;
    this.at = n;
    const top = place * this.height;
    const { scrollTop, clientHeight } = this.view;
    if (top < scrollTop) this.view.scrollTop = top;
    else if (top + this.height > scrollTop + clientHeight) this.view.scrollTop = top + this.height - clientHeight;
    this.#fill();
    for (const row of this.live.values()) row.classList.toggle("at", Number(row.dataset.n) === n);
    if (!quiet) this.point(n);
  }

  /** By so many rows. */
  move(by) {
    if (!this.numbers.length) return;
    const place = this.numbers.indexOf(this.at);
    const next = place < 0 ? 0 : place + by;
    this.goTo(this.numbers[Math.min(this.numbers.length - 1, Math.max(0, next))]);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.view.clientHeight / this.height) - 1);
    const acts = {
      ArrowDown: () => this.move(1),
      ArrowUp: () => this.move(-1),
      PageDown: () => this.move(page),
      PageUp: () => this.move(-page),
      Home: () => this.move(-this.numbers.length),
      End: () => this.move(this.numbers.length),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }
}

/** How far the little intervals reach, the same for all rows: most of what was found. */
function reach(study, sigma) {
  return study.once("reach", () => {
    const sizes = (study.cols.effect ?? []).filter((v) => v !== null && v !== undefined).map(Math.abs).sort((a, b) => a - b);
    return Math.max(sizes[Math.floor(0.8 * (sizes.length - 1))] ?? 0, 2.5 * (sigma ?? 0)) || 1;
  });
}

/** An effect with its interval, drawn about zero; better is to the right. */
export function interval(one, most, sigma, width = 92) {
  if (one.effect === null || one.effect === undefined) return h("span", { class: "soft" }, "");
  const x = (v) => width / 2 + Math.max(-1, Math.min(1, v / most)) * (width / 2 - 4);
  const [low, high] = [one.low ?? one.effect, one.high ?? one.effect];
  const drawing = svg("svg", { class: `interval ${one.verdict ?? ""}`, viewBox: `0 0 ${width} 16`, width, height: 16, "aria-hidden": "true" },
    svg("path", { class: "zero", d: `M${width / 2} 1V15` }),
    svg("path", { class: "span", d: `M${x(low)} 8H${x(high)}` }),
    svg("circle", { cx: x(one.effect), cy: 8, r: 3 }));
  return h("span", { class: "effect" }, drawing, h("span", { class: "effect-n" }, signed(one.effect, sigma)));
}
