// One experiment: what was claimed, what was measured, what was decided, and on what evidence.

import { get, place } from "./api.js";
import { diffOf } from "./diff.js";
import { fact, h, mark, refill, svg, tableOf, verdictOf } from "./dom.js";
import { block, bytes, count, duration, line, NOTHING, number, purpose, signed, tokens, usd, when, words } from "./format.js";
import { Log } from "./log.js";
import { hashOf } from "./router.js";

export class ExperimentPage {
  constructor(app, study, route) {
    Object.assign(this, { study, n: route.n, revision: -1 });
    this.log = new Log(study.id);
    this.head = h("div", { class: "exp-head" });
    this.facts = h("div", { class: "exp-facts" });
    this.runs = h("section", { class: "panel" });
    this.diff = h("section", { class: "panel" }, h("h2", null, "Change"), h("p", { class: "soft" }, "…"));
    this.logs = h("section", { class: "panel" }, h("h2", null, "Log"), this.log.node);
    this.line = h("section", { class: "panel lineage" });
    this.node = h("main", { class: "experiment", id: "main", tabindex: "-1" }, this.head, this.facts, this.runs, this.diff, this.logs, this.line);
  }

  close() {
    this.log.close();
    this.closed = true;
  }

  update(kind) {
    if (kind === "all") this.#load().then(() => this.#loadDiff());
    else if (kind === "rows" && this.#changed()) this.#load();
    if (kind === "rows" || kind === "all") this.#top();
  }

  #changed() {
    const row = this.study.row(this.n);
    const print = row && `${row.verdict} ${row.runs} ${row.value} ${row.certified}`;
    const other = print !== this.print;
    this.print = print;
    return other;
  }

  async #load() {
    this.#changed();
    try {
      const one = await get(`${place(this.study.id)}/experiments/${this.n}`);
      if (this.closed) return;
      this.one = one;
      this.#top();
      refill(this.facts, claim(one, this.study), decided(one, this.study));
      this.#runs(one);
      this.#lineage(one);
    } catch (error) {
      refill(this.head, h("h1", null, error.message), h("p", { class: "soft" }, `${error.why} ${error.hint}`));
    }
  }

  async #loadDiff() {
    if (!this.one || this.closed) return;
    try {
      const told = await get(`${place(this.study.id)}/experiments/${this.n}/diff`);
      refill(this.diff, h("h2", null, "Change"), diffOf(told.diff, told.truncated));
    } catch (error) {
      refill(this.diff, h("h2", null, "Change"), h("p", { class: "soft" }, `${error.message}: ${error.why}`));
    }
  }

  #top() {
    const { one, n, study } = this;
    const row = one ?? study.row(n);
    if (!row) return;
    const verdict = one ? (one.verdict ?? "open") : row.verdict;
    const step = (to, words, key) => to >= 1 && to <= study.size && h("a", { href: hashOf(study.id, "exp", to), "data-key": key, rel: key }, words);
    refill(this.head,
      h("p", { class: "crumbs" }, h("a", { href: hashOf(study.id), "data-key": "back" }, "← all experiments"), step(n - 1, `‹ exp ${n - 1}`, "prev"), step(n + 1, `exp ${n + 1} ›`, "next")),
      h("h1", null, h("span", { class: "metric" }, `exp ${n}`), " ", line(row.description, 300)),
      h("p", { class: "verdict-line" }, verdictOf(verdict), row.reason && h("span", null, line(row.reason, 600))));
  }

  #runs(one) {
    const metric = this.study.metric;
    const { sigma } = this.study;
    const runs = one.run_records ?? [];
    const others = [...new Set(runs.flatMap((run) => Object.keys(run.metrics ?? {})))].filter((name) => name !== metric).slice(0, 8);
    const heads = ["run", "why", "seed", "outcome", line(metric, 30), ...others.map((o) => line(o, 24)), "time", "memory", "GPU", ""];
    const rows = runs.map((run) => [
      String(run.id), purpose(run.purpose ?? "baseline"), String(run.seed),
      h("span", { title: line(run.detail, 200) }, words(run.outcome), run.detail ? h("span", { class: "soft" }, ` ${line(run.detail, 60)}`) : ""),
      number(run.metrics?.[metric], sigma), ...others.map((name) => number(run.metrics?.[name])),
      duration(run.duration_s ?? 0), bytes(run.peak_memory_bytes), run.peak_gpu_bytes ? bytes(run.peak_gpu_bytes) : NOTHING,
      h("button", { type: "button", class: "quiet", "data-key": `log ${run.id}`, onclick: () => { this.log.show(run.id); this.logs.scrollIntoView({ block: "nearest" }); } }, "log"),
    ]);
    const pending = (one.pending ?? []).map((run) => h("p", { class: "soft" }, `run ${run.run} is under way: ${purpose(run.purpose)}, seed ${run.seed}`));
    const right = heads.map((_, i) => i).filter((i) => i === 0 || i === 2 || i > 3);
    refill(this.runs, h("h2", null, count(runs.length, "run")), runs.length ? tableOf(heads, rows, right) : h("p", { class: "soft" }, "No run is over yet."), pending, checks(one));
    const ids = [...runs.map((run) => run.id), ...(one.pending ?? []).map((run) => run.run)];
    if (ids.length && !this.log.run) this.log.show(ids[ids.length - 1]);
    this.logs.hidden = !ids.length;
  }

  #lineage(one) {
    const { sigma } = this.study;
    const item = (e) => h("li", { class: e.experiment === this.n ? "here" : null }, mark(e.verdict ?? "open"),
      e.experiment === this.n ? h("b", null, `exp ${e.experiment}`) : h("a", { href: hashOf(this.study.id, "exp", e.experiment) }, `exp ${e.experiment}`),
      h("span", { class: "what" }, line(e.description, 140)), h("span", { class: "num" }, number(e.value, sigma)));
    const chain = [...(one.lineage ?? []), { experiment: this.n, description: one.description, value: one.value, verdict: one.verdict }];
    const children = one.children ?? [];
    refill(this.line, h("h2", null, "Lineage"), h("ol", { class: "chain" }, chain.map(item)),
      children.length ? [h("h3", null, `${count(children.length, "experiment")} on it`), h("ol", { class: "chain" }, children.slice(0, 60).map(item)), children.length > 60 && h("p", { class: "soft" }, `and ${children.length - 60} more`)] : null);
  }

  key(event) {
    const to = { Escape: hashOf(this.study.id), "[": this.n > 1 && hashOf(this.study.id, "exp", this.n - 1), "]": this.n < this.study.size && hashOf(this.study.id, "exp", this.n + 1) }[event.key];
    if (!to) return false;
    location.hash = to;
    return true;
  }
}

function claim(one, study) {
  const { sigma } = study;
  const effect = one.decision?.evidence?.effect;
  const changes = (one.changes ?? []).map((c) => h("li", null, h("code", null, line(c.name, 60)), ` ${said(c.old)} → `, h("b", null, said(c.new))));
  return h("section", { class: "panel" }, h("h2", null, "Claim"),
    one.hypothesis && h("p", { class: "prose" }, block(one.hypothesis, 8000)),
    changes.length ? h("ul", { class: "changes" }, changes) : null,
    h("dl", null,
      fact("expected", one.expects && line(one.expects, 400)),
      fact("measured", effect === null || effect === undefined ? (one.value === null ? null : number(one.value, sigma)) : `${signed(effect, sigma)} against the incumbent (positive is better)`),
      fact("category", line(one.category, 60)),
      fact("proposed by", line(one.researcher, 60)),
      fact("idea", one.idea && line(one.idea.text, 300)),
      fact("size", `+${one.lines_added} −${one.lines_removed} lines`, one.nodes ? `, ${signed(one.nodes)} syntax-tree nodes` : null),
      fact("commit", one.commit && h("code", null, one.commit.slice(0, 10)), one.parent ? h("span", { class: "soft" }, ` on ${one.parent.slice(0, 10)}`) : null),
      fact("begun", one.started_at ? when(one.started_at) : null),
      fact("settled", one.settled_at ? when(one.settled_at) : null),
      fact("cost", cost(one.cost))));
}

const said = (v) => (typeof v === "number" ? number(v) : v === null ? NOTHING : line(String(v), 60));

function cost(c) {
  if (!c) return null;
  return [c.tokens ? `${tokens(c.tokens)} tokens` : null, c.usd ? usd(c.usd) : null, c.thinking_seconds ? `${duration(c.thinking_seconds)} of thinking` : null, `${duration(c.device_seconds)} on the device`].filter(Boolean).join(", ");
}

function decided(one, study) {
  const { decision } = one;
  const { sigma } = study;
  const e = decision?.evidence ?? {};
  return h("section", { class: "panel" }, h("h2", null, "Decision"),
    decision ? h("p", { class: "prose" }, line(decision.reason, 1000)) : h("p", { class: "soft" }, "Not judged yet."),
    forest(e, sigma),
    h("dl", null,
      fact(line(study.metric, 40), one.value === null ? NOTHING : number(one.value, sigma)),
      fact("effect", e.effect === undefined || e.effect === null ? null : `${signed(e.effect, sigma)}${e.low === null || e.low === undefined ? "" : `, ${Math.round((e.level ?? 0.9) * 100)} % interval ${signed(e.low, sigma)} to ${signed(e.high, sigma)}`}`),
      fact("z", e.z === null || e.z === undefined ? null : `${number(Number(e.z.toFixed(2)))}${e.threshold ? ` (threshold ${number(Number(e.threshold.toFixed(2)))})` : ""}`),
      fact("noise of one run", e.sigma ? `${number(e.sigma, e.sigma)}, ${count(e.df ?? 0, "degree")} of freedom` : null),
      fact("runs compared", e.n_candidate ? `${e.n_candidate} of it, ${e.n_incumbent ?? 0} of the incumbent` : null),
      fact("e-value", e.e_value === null || e.e_value === undefined ? null : `${number(Number(e.e_value.toPrecision(3)))} from fresh pairs: ${one.certified ? "certified" : "not certified"}`),
      fact("rule", decision && line(decision.rule, 60))));
}

/** The effect and its interval about zero, large. */
function forest(e, sigma) {
  if (e.effect === null || e.effect === undefined) return null;
  const width = 460;
  const most = Math.max(Math.abs(e.effect), Math.abs(e.low ?? 0), Math.abs(e.high ?? 0), 2 * (sigma ?? 0)) * 1.15 || 1;
  const x = (v) => width / 2 + (v / most) * (width / 2 - 6);
  const text = (at, words, anchor) => svg("text", { x: at, y: 58, "text-anchor": anchor }, words);
  const floor = sigma ? svg("rect", { class: "floor", x: x(-sigma), y: 8, width: x(sigma) - x(-sigma), height: 34 }) : "";
  return svg("svg", { class: "forest", viewBox: `0 0 ${width} 64`, role: "img", "aria-label": `effect ${signed(e.effect, sigma)}, positive is better` },
    floor, svg("path", { class: "zero", d: `M${width / 2} 4V46` }),
    svg("path", { class: "span", d: `M${x(e.low ?? e.effect)} 25H${x(e.high ?? e.effect)}` }),
    svg("circle", { cx: x(e.effect), cy: 25, r: 6 }),
    text(2, "← worse", "start"), text(width / 2, "incumbent", "middle"), text(width - 2, "better →", "end"));
}

function checks(one) {
  const found = Object.entries(one.checks ?? {});
  return found.length ? h("p", { class: "soft" }, "checks: ", found.map(([name, outcome]) => `${line(name, 40)} ${words(outcome)}`).join(", ")) : null;
}
