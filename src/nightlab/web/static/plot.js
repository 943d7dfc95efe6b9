// The progress plot as a thing to handle: hover, arrow keys, zoom, a click that opens.

import { h, mark, refill } from "./dom.js";
import { line, number, signed } from "./format.js";
import { frameOf, nearest, paint, spotOf, themeOf } from "./paint.js";
import { below, sceneOf } from "./scene.js";

const LEGEND = [["keep", "keep"], ["discard", "discard"], ["inconclusive", "inconclusive"], ["crash", "crash"], ["open", "open"]];

/** One study's plot. `open(n)` is called when a person chooses an experiment. */
export class Plot {
  constructor(study, open) {
    this.study = study;
    this.open = open;
    this.mask = null;
    this.at = null; // the experiment that is pointed at
    this.view = study.view; // what a person chose outlives a look at one experiment
    this.drag = null;
    this.base = h("canvas", { class: "base" });
    this.over = h("canvas", {
      class: "over",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "progress plot",
      "aria-label": "Progress of the study. Arrow keys go from experiment to experiment, with Shift from keep to keep; Enter opens; plus, minus and 0 zoom.",
    });
    this.tip = h("div", { class: "tip", hidden: true });
    this.said = h("p", { class: "hidden", "aria-live": "polite" });
    this.stage = h("div", { class: "stage" }, this.base, this.over, this.tip);
    this.tools = h("div", { class: "tools" });
    this.node = h("figure", { class: "plot" }, this.tools, this.stage, this.said);
    this.#listen();
    this.#controls();
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.stage);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.repaint = () => this.draw();
    this.dark.addEventListener("change", this.repaint);
  }

  close() {
    this.watch.disconnect();
    this.dark.removeEventListener("change", this.repaint);
    cancelAnimationFrame(this.frameAsked);
  }

  /** Draw in the next frame, once however often it is asked. */
  draw() {
    this.frameAsked ??= requestAnimationFrame(() => {
      this.frameAsked = null;
      this.#paint();
    });
  }

  #paint() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width || !height) return;
    const began = performance.now();
    this.theme = themeOf(this.stage);
    this.scene = sceneOf(this.study, this.view);
    this.frame = frameOf(this.scene, width, height);
    paint(sized(this.base, width, height), this.scene, this.frame, this.theme, this.mask);
    this.#point();
    this.node.dataset.drawn = String(this.study.size);
    performance.measure("nightlab: plot", { start: began, end: performance.now() });
  }

  /** The mark of what is pointed at, and the range that is being chosen. */
  #point() {
    if (!this.scene) return;
    const { frame, theme } = this;
    const ctx = sized(this.over, frame.width, frame.height);
    ctx.clearRect(0, 0, frame.width, frame.height);
    if (this.drag?.moved) {
      ctx.fillStyle = theme.band;
      ctx.globalAlpha = 0.2;
      const [left, right] = [this.drag.from, this.drag.to].sort((a, b) => a - b);
      ctx.fillRect(left, frame.top, right - left, frame.bottom - frame.top);
      ctx.globalAlpha = 1;
    }
    const spot = this.at && spotOf(this.scene, frame, this.at);
    this.tip.hidden = !spot;
    if (!spot) return;
    ctx.strokeStyle = theme.soft;
    ctx.lineWidth = 1;
    ctx.globalAlpha = 0.5;
    ctx.beginPath();
    ctx.moveTo(Math.round(spot.x) + 0.5, frame.top);
    ctx.lineTo(Math.round(spot.x) + 0.5, frame.bottom);
    ctx.stroke();
    ctx.globalAlpha = 1;
    ctx.strokeStyle = theme.ink;
    ctx.lineWidth = 1.8;
    ctx.beginPath();
    ctx.arc(spot.x, spot.y, 8.5, 0, 2 * Math.PI);
    ctx.stroke();
    this.#tell(spot);
  }

  #tell(spot) {
    const row = this.study.row(this.at);
    const { sigma } = this.study;
    const told = [
      h("p", { class: "tip-head" }, mark(row.verdict), h("b", null, `exp ${row.n}`), ` ${row.verdict}`,
        row.value === null ? "" : h("span", { class: "tip-value" }, number(row.value, sigma))),
      h("p", { class: "tip-what" }, line(row.description, 140)),
      row.hypothesis && h("p", { class: "soft" }, line(row.hypothesis, 180)),
      row.effect !== null && row.effect !== undefined && row.n > 1 &&
        h("p", null, `against the incumbent ${signed(row.effect, sigma)}`, row.low === null ? "" : ` (${signed(row.low, sigma)} to ${signed(row.high, sigma)})`),
      row.reason && h("p", { class: "soft" }, line(row.reason, 180)),
    ];
    refill(this.tip, told);
    const { offsetWidth: w, offsetHeight: t } = this.tip;
    const { frame } = this;
    const left = spot.x + w + 18 < frame.width ? spot.x + 16 : Math.max(2, spot.x - w - 16);
    const top = Math.min(Math.max(2, spot.y - t / 2), Math.max(2, frame.height - t - 2));
    this.tip.style.transform = `translate(${Math.round(Math.min(left, Math.max(2, frame.width - w - 2)))}px, ${Math.round(top)}px)`;
  }

  /** Point at an experiment; `aloud` tells those who hear the page. */
  point(n, aloud = false) {
    this.at = n;
    this.#point();
    if (!aloud || !n) return;
    const row = this.study.row(n);
    this.said.textContent = `Experiment ${n}, ${row.verdict}, ${row.value === null ? "no value" : number(row.value, this.study.sigma)}: ${line(row.description, 120)}. ${line(row.reason, 160)}`;
  }

  #listen() {
    const place = (event) => {
      const box = this.over.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.over.addEventListener("pointermove", (event) => {
      if (!this.scene) return;
      const [x, y] = place(event);
      if (this.drag) {
        this.drag.to = x;
        this.drag.moved ||= Math.abs(x - this.drag.from) > 8;
      }
      this.at = this.drag?.moved ? null : nearest(this.scene, this.frame, x, y);
      this.over.style.cursor = this.at ? "pointer" : "crosshair";
      this.#point();
    });
    this.over.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse" || event.button !== 0) return;
      const [x] = place(event);
      this.drag = { from: x, to: x, moved: false };
      this.over.setPointerCapture(event.pointerId);
    });
    this.over.addEventListener("pointerup", (event) => {
      const { drag } = this;
      this.drag = null;
      const [x, y] = place(event);
      if (drag?.moved) return this.zoom(this.frame.unx(Math.min(drag.from, x)), this.frame.unx(Math.max(drag.from, x)));
      const chosen = this.scene && nearest(this.scene, this.frame, x, y);
      // A finger's first touch shows what it is, its second opens it.
      if (chosen && (event.pointerType === "mouse" || chosen === this.touched)) this.open(chosen);
      else this.point(chosen);
      this.touched = chosen;
    });
    this.over.addEventListener("pointerleave", () => {
      if (document.activeElement !== this.over) this.point(null);
    });
    this.over.addEventListener("pointercancel", () => (this.drag = null));
    this.over.addEventListener("dblclick", () => this.zoom(null, null));
    this.over.addEventListener("blur", () => this.point(null));
    this.over.addEventListener("wheel", (event) => this.#wheel(event, place(event)[0]), { passive: false });
    this.over.addEventListener("keydown", (event) => this.#key(event));
  }

  #wheel(event, x) {
    if (!this.scene || !(event.ctrlKey || event.metaKey)) return; // a plain wheel scrolls the page
    event.preventDefault();
    const by = event.deltaY > 0 ? 1.25 : 0.8;
    const at = this.frame.unx(x);
    this.zoom(at - (at - this.scene.from) * by, at + (this.scene.to - at) * by);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.scene) return;
    const { first, end, from, to } = this.scene;
    const middle = this.at ? this.scene.xs[this.at - 1] : (from + to) / 2;
    const acts = {
      ArrowRight: () => this.#go(1, event.shiftKey),
      ArrowLeft: () => this.#go(-1, event.shiftKey),
      Home: () => this.point(first + 1, true),
      End: () => this.point(end, true),
      Enter: () => this.at && this.open(this.at),
      "+": () => this.zoom(middle - (middle - from) / 2, middle + (to - middle) / 2),
      "=": () => this.zoom(middle - (middle - from) / 2, middle + (to - middle) / 2),
      "-": () => this.zoom(middle - (middle - from) * 2, middle + (to - middle) * 2),
      0: () => this.zoom(null, null),
    };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  /** To the next experiment with a mark in view, or to the next kept one. */
  #go(by, kept) {
    const { first, end, codes } = this.scene;
    let i = this.at ? this.at - 1 + by : by > 0 ? first : end - 1;
    while (i >= first && i < end && (!spotOf(this.scene, this.frame, i + 1) || (kept && codes[i] !== 3))) i += by;
    if (i >= first && i < end) this.point(i + 1, true);
  }

  /** Show the range from one x to another; null for everything. */
  zoom(from, to) {
    const { lastX } = this.scene;
    const least = this.view.axis === "n" ? 4 : lastX / 1e5;
    const start = this.view.axis === "n" ? 0.4 : 0;
    if (from === null || (from <= start && to >= lastX)) Object.assign(this.view, { from: null, to: null });
    else {
      const half = Math.max(least, to - from) / 2;
      const middle = (from + to) / 2;
      Object.assign(this.view, { from: Math.max(start, middle - half), to: Math.min(lastX * 1.02 + 0.6, middle + half) });
    }
    this.#controls();
    this.draw();
  }

  last(count) {
    const xs = this.scene.xs;
    this.zoom(xs[Math.max(0, xs.length - count)], this.scene.lastX * 1.005 + (this.view.axis === "n" ? 0.6 : 0));
  }

  #controls() {
    const toggle = (key, words, on, act, title = null) =>
      h("button", { type: "button", class: "chip", "aria-pressed": String(on), "data-key": key, title, onclick: act }, words);
    const { view } = this;
    const axis = (name) => () => {
      const range = view.from === null ? null : [view.from, view.to].map((x) => below(this.scene.xs, x));
      view.axis = name;
      view.from = view.to = null;
      if (range && name !== this.scene.axis) {
        const xs = name === "hours" ? this.study.hours : this.study.cols.n;
        [view.from, view.to] = range.map((i) => xs[Math.min(i, xs.length - 1)]);
      }
      this.#controls();
      this.draw();
    };
    const chart = (name, words) => h("span", { class: "key" }, mark(name), words);
    refill(this.tools,
      h("div", { class: "legend", "aria-hidden": "true" }, LEGEND.map(([name, words]) => chart(name, words)),
        h("span", { class: "key" }, h("i", { class: "key-line" }), "incumbent, 90 %"),
        h("span", { class: "key" }, h("i", { class: "key-again" }), "its re-runs"),
        h("span", { class: "key" }, h("i", { class: "key-floor" }), "baseline ± sd")),
      h("div", { class: "chips", role: "group", "aria-label": "What the plot shows" },
        toggle("x-n", "experiments", view.axis === "n", axis("n")),
        toggle("x-h", "device hours", view.axis === "hours", axis("hours")),
        toggle("all", "all values", view.all, () => {
          view.all = !view.all;
          this.#controls();
          this.draw();
        }, "Without it, far worse values are marked at the edge"),
        toggle("last", "last 50", false, () => this.last(50)),
        view.from !== null && toggle("reset", "whole study", false, () => this.zoom(null, null))));
  }
}

/** A canvas's context in CSS pixels, sharp on any screen. */
export function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, t] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== t) {
    canvas.width = w;
    canvas.height = t;
  }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  return ctx;
}
