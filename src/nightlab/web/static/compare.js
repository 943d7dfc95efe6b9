// Studies beside each other: their incumbents on one plot, their figures in one table.

import { h, refill, tableOf } from "./dom.js";
import { count, duration, line, number, signed, tokens, usd } from "./format.js";
import { gridLines, themeOf } from "./paint.js";
import { sized } from "./plot.js";
import { hashOf } from "./router.js";
import { levelsOf, tickText, ticks } from "./scene.js";

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [], [7, 4], [2, 3], [10, 3, 2, 3]];

export class Compare {
  constructor(app, ids) {
    Object.assign(this, { app, ids, axis: "n" });
    this.head = h("div", { class: "headline" });
    this.tools = h("div", { class: "tools" });
    this.canvas = h("canvas", { class: "base", role: "img", "aria-label": "the incumbents of the studies" });
    this.stage = h("div", { class: "stage" }, this.canvas);
    this.table = h("div", { class: "panel" });
    this.node = h("main", { class: "compare", id: "main", tabindex: "-1" }, this.head, h("figure", { class: "plot" }, this.tools, this.stage), this.table);
    this.watch = new ResizeObserver(() => this.#draw());
    this.watch.observe(this.stage);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.#draw();
    this.dark.addEventListener("change", this.redraw);
  }

  close() {
    this.watch.disconnect();
    this.dark.removeEventListener("change", this.redraw);
  }

  get shown() {
    return this.ids.map((id) => this.app.studies.get(id)).filter((study) => study?.loaded && study.status?.objective);
  }

  /** The study's tag, with its project's name where two have the same. */
  name(study) {
    const twin = this.shown.some((other) => other !== study && other.status.tag === study.status.tag);
    return line(twin ? `${study.status.tag} (${study.status.name} ${study.id.split("/")[0]})` : study.status.tag, 50);
  }

  update(kind) {
    if (kind === "live" || kind === "backlog") return;
    const { shown } = this;
    const metrics = new Set(shown.map((study) => `${study.metric} ${study.sign}`));
    refill(this.head, h("h1", null, shown.map((s) => this.name(s)).join("  ·  ") || "Nothing to compare"),
      metrics.size > 1 ? h("p", { class: "bad" }, "These studies do not measure the same thing: only their shapes compare.") : h("p", { class: "soft" }, shown[0] ? `${line(shown[0].metric, 40)}, ${shown[0].sign > 0 ? "higher" : "lower"} is better` : "Mark two studies on the first page."));
    this.#controls();
    this.#draw();
    this.#figures();
  }

  #controls() {
    const chip = (axis, words) => h("button", { type: "button", class: "chip", "aria-pressed": String(this.axis === axis), "data-key": axis, onclick: () => { this.axis = axis; this.#controls(); this.#draw(); } }, words);
    const legend = this.shown.map((study, i) => h("span", { class: `key study-${i % 8}` }, h("i", { class: "key-line" }), this.name(study)));
    refill(this.tools, h("div", { class: "legend" }, legend), h("div", { class: "chips", role: "group", "aria-label": "Over what" }, chip("n", "experiments"), chip("hours", "device hours")));
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const lines = this.shown.map((study, i) => ({ study, i, levels: levelsOf(study, this.axis), end: this.axis === "n" ? study.size : (study.hours[study.size - 1] ?? 0) })).filter((l) => l.levels.length);
    if (!width) return;
    const ctx = sized(this.canvas, width, height);
    ctx.clearRect(0, 0, width, height);
    this.stage.dataset.drawn = String(lines.length);
    if (!lines.length) return;
    const frame = axes(ctx, lines, this.axis, width, height, themeOf(this.stage));
    const style = getComputedStyle(this.stage);
    for (const one of lines) trace(ctx, one, frame, style.getPropertyValue(`--study-${one.i % 8}`).trim(), DASHES[one.i % 8]);
  }

  #figures() {
    const rows = this.shown.map((study) => [study, study.status, study.sigma]).map(([study, status, sigma]) => [
      h("a", { href: hashOf(study.id) }, this.name(study)), line(status.researcher, 30), number(status.baseline?.mean, sigma), number(status.incumbent?.mean, sigma),
      signed(status.gain, sigma), String(status.experiments.total), String(Math.max(0, status.experiments.keep - 1)), String(status.certificates?.certified?.length ?? 0),
      number(status.noise?.sigma, status.noise?.sigma), duration(status.cost?.device_seconds), tokens(status.cost?.tokens), usd(status.cost?.usd),
      status.gain > 0 && status.cost ? duration(status.cost.device_seconds / Math.max(1, status.experiments.keep - 1)) : "—",
    ]);
    refill(this.table, h("h2", null, count(rows.length, "study", "studies")),
      tableOf(["study", "researcher", "baseline", "incumbent", "gain", "experiments", "kept", "certified", "noise", "device", "tokens", "money", "device for a keep"], rows, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]));
  }
}

function axes(ctx, lines, axis, width, height, theme) {
  const all = lines.flatMap((l) => l.levels.flatMap((v) => [v.mean - v.half, v.mean + v.half]));
  const air = (Math.max(...all) - Math.min(...all) || Math.abs(all[0]) * 0.02 || 1) * 0.08;
  const [low, high] = [Math.min(...all) - air, Math.max(...all) + air];
  const end = Math.max(...lines.map((l) => l.end)) || 1;
  const box = { left: 62, right: width - 14, top: 10, bottom: height - 34 };
  const x = (v) => box.left + (v / end) * (box.right - box.left);
  const y = (v) => box.bottom - ((v - low) / (high - low)) * (box.bottom - box.top);
  ctx.font = "12px ui-sans-serif, system-ui, sans-serif";
  ctx.fillStyle = theme.soft;
  ctx.strokeStyle = theme.rule;
  ctx.lineWidth = 1;
  const rows = ticks(low, high, (box.bottom - box.top) / 56);
  gridLines(ctx, box, rows, y, 8);
  ctx.textAlign = "center";
  ctx.textBaseline = "top";
  const columns = ticks(0, end, (box.right - box.left) / 90, axis === "n");
  const told = tickText(columns);
  for (const v of columns) ctx.fillText(told(v), x(v), box.bottom + 7);
  ctx.textAlign = "right";
  ctx.fillText(axis === "n" ? "experiment" : "device hours", box.right, box.bottom + 20);
  return { x, y };
}

function trace(ctx, { levels, end }, { x, y }, colour, dash) {
  const until = (i) => levels[i + 1]?.x ?? end;
  ctx.fillStyle = colour;
  ctx.globalAlpha = 0.16;
  levels.forEach((level, i) => {
    if (level.half) ctx.fillRect(x(level.x), y(level.mean + level.half), x(until(i)) - x(level.x), y(level.mean - level.half) - y(level.mean + level.half));
  });
  ctx.globalAlpha = 1;
  ctx.strokeStyle = colour;
  ctx.lineWidth = 2.2;
  ctx.setLineDash(dash);
  ctx.beginPath();
  levels.forEach((level, i) => {
    ctx.lineTo(x(level.x), y(level.mean));
    ctx.lineTo(x(until(i)), y(level.mean));
  });
  ctx.stroke();
  ctx.setLineDash([]);
  for (const level of levels.slice(1)) {
    ctx.beginPath();
    ctx.arc(x(level.x), y(level.mean), 3.4, 0, 2 * Math.PI);
    ctx.fill();
  }
}
