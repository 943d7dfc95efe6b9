// The study's books: what the researcher remembers, what it was told to do, what all of it cost.

import { get, place } from "./api.js";
import { empty, h, refill, tableOf, verdictOf } from "./dom.js";
import { ago, block, duration, line, NOTHING, tokens, usd, whole, words } from "./format.js";
import { hashOf } from "./router.js";

/** The scratchpad and program.md, as they are. */
export class Memory {
  constructor(study) {
    this.study = study;
    this.pad = h("section", { class: "panel" });
    this.program = h("section", { class: "panel" });
    this.node = h("div", { class: "memory" }, this.pad, this.program);
  }

  close() {}

  update(kind) {
    if (kind === "all" || kind === "scratchpad") this.#load(this.pad, "scratchpad", "Scratchpad", "The researcher has written nothing down yet.");
    if (kind === "all") this.#load(this.program, "program", "program.md", "This project has no program.md: the researcher works from the configuration alone.");
  }

  async #load(node, what, title, none) {
    try {
      const told = await get(`${place(this.study.id)}/${what}`);
      refill(node, h("h2", null, title, told.modified_at ? h("span", { class: "soft" }, `  ${ago(told.modified_at)}`) : null),
        told.text.trim() ? h("pre", { class: "page", tabindex: "0", "aria-label": title }, block(told.text)) : empty(none));
    } catch (error) {
      refill(node, h("h2", null, title), empty(error.message, error.why));
    }
  }
}

/** Tokens, money and device time: in all, for each keep, by whom, and what was dearest. */
export class Cost {
  constructor(study) {
    this.study = study;
    this.node = h("div", { class: "cost" });
  }

  close() {
    clearTimeout(this.timer);
  }

  update(kind) {
    if (kind === "all") this.#load();
    else if (kind === "rows") this.timer ??= setTimeout(() => this.#load(), 2000); // at most every two seconds
  }

  async #load() {
    clearTimeout(this.timer);
    this.timer = null;
    try {
      const told = await get(`${place(this.study.id)}/costs`);
      refill(this.node, tiles(told.cost, this.study), ...tables(told, this.study));
    } catch (error) {
      refill(this.node, empty(error.message, error.why));
    }
  }
}

function tiles(cost, study) {
  const tile = (value, name, under = "") => h("div", { class: "tile" }, h("b", null, value), h("span", null, name), under && h("span", { class: "soft" }, under));
  const each = cost.per_keep;
  const gain = study.status?.gain;
  return h("div", { class: "tiles" },
    tile(duration(cost.device_seconds), "device time", each ? `${duration(each.device_seconds)} for each keep` : ""),
    tile(cost.usd === null ? "unknown" : usd(cost.usd), "money", [each && each.usd !== null && `${usd(each.usd)} for each keep`, cost.unpriced && `${cost.unpriced} calls without a price`].filter(Boolean).join(", ")),
    tile(tokens(cost.tokens), "tokens", `${tokens(cost.tokens_in)} in (${tokens(cost.tokens_cached)} cached), ${tokens(cost.tokens_out)} out`),
    tile(duration(cost.thinking_seconds), "thinking", `${whole(cost.asked)} questions, ${whole(cost.calls)} calls`),
    each && gain > 0 ? tile(duration(cost.device_seconds / gain / 1000), "device time for 0.001 gained") : null);
}

function tables({ cost, dearest, recent }, study) {
  const who = Object.entries(cost.by_researcher ?? {});
  const answers = Object.entries(cost.answers ?? {});
  const link = (n) => h("a", { href: hashOf(study.id, "exp", n) }, `exp ${n}`);
  return [
    who.length && section("By researcher", tableOf(["researcher", "tokens", "money", "thinking"], who.map(([name, use]) => [line(name, 60), tokens(use.tokens), usd(use.usd), duration(use.thinking_seconds)]), [1, 2, 3])),
    answers.length && section("Answers", tableOf(["answer", "times"], answers.map(([name, n]) => [words(name), whole(n)]), [1])),
    dearest?.length && section("Dearest experiments", tableOf(["experiment", "change", "verdict", "tokens", "money", "thinking", "device"],
      dearest.map((d) => [link(d.experiment), line(d.description, 80), d.verdict ? verdictOf(d.verdict) : NOTHING, tokens(d.tokens), usd(d.usd), duration(d.thinking_seconds), duration(d.device_seconds)]), [3, 4, 5, 6])),
    recent?.length && section("Last questions to researchers", tableOf(["when", "for", "researcher", "answer", "experiment", "tokens", "money", "time"],
      recent.slice(0, 40).map((r) => [ago(r.at), words(r.task), line(r.researcher, 40), h("span", { title: line(r.detail, 300) }, words(r.answer)), r.number ? link(r.number) : "", tokens(r.tokens), usd(r.usd), duration(r.seconds)]), [5, 6, 7])),
  ].filter(Boolean);
}

const section = (title, ...inner) => h("section", { class: "panel" }, h("h2", null, title), inner);
