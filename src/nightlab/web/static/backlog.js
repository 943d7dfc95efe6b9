// The ideas that wait, and everything that people have asked of the lab.

import { ask, letterBox } from "./actions.js";
import { get, place } from "./api.js";
import { empty, h, refill } from "./dom.js";
import { ago, block, count, line, number, when } from "./format.js";
import { asWished, moved } from "./order.js";
import { hashOf } from "./router.js";

const LATER = "will be read when the lab runs again";

/** Fetches the backlog, once at a time, and again when it changed meanwhile. */
class Fetched {
  constructor(study) {
    this.study = study;
  }

  close() {
    this.closed = true;
  }

  update(kind) {
    if (kind === "all" || kind === "backlog" || kind === "status-state") this.load();
  }

  async load() {
    if (this.loading) return void (this.stale = true);
    this.loading = true;
    try {
      this.told = await get(`${place(this.study.id)}/backlog`);
      if (!this.closed) this.show(this.told);
    } catch (error) {
      refill(this.node, empty(error.message, error.why));
    }
    this.loading = false;
    if (this.stale) {
      this.stale = false;
      this.load();
    }
  }
}

export class Backlog extends Fetched {
  constructor(study) {
    super(study);
    this.add = letterBox(study.id, "ideas", { label: "An idea to try", button: "Add idea", key: "idea" });
    this.list = h("ol", { class: "ideas", "aria-label": "Ideas that wait, the most urgent first" });
    this.rest = h("div");
    this.node = h("div", { class: "backlog" }, this.add, this.list, this.rest);
  }

  show({ ideas, waiting }) {
    const wished = asWished(ideas, waiting);
    this.open = wished.open;
    const fresh = waiting.filter((message) => message.kind === "idea");
    refill(this.list, fresh.map((message) => h("li", { class: "idea" }, h("p", { class: "what" }, line(message.text, 600)), this.#asked())),
      wished.open.map((idea, i) => this.#idea(idea, i)));
    this.list.hidden = !this.open.length && !fresh.length;
    refill(this.rest,
      this.list.hidden && empty("No idea waits.", "Add one above; researchers add theirs when they plan."),
      others("Taken up", wished.taken, this.study), others("Vetoed", wished.vetoed, this.study));
  }

  #asked() {
    return h("span", { class: "asked" }, this.study.running ? "asked" : LATER);
  }

  #idea(idea, i) {
    const last = this.open.length - 1;
    const press = (key, words, label, to, off) =>
      h("button", { type: "button", class: "quiet", "data-key": `${key} ${idea.id}`, "aria-label": `${label}: ${line(idea.text, 60)}`, title: label, disabled: off, onclick: () => this.#move(i, to) }, words);
    const node = h("li", { class: "idea", tabindex: "0", "data-key": `idea ${idea.id}`, onkeydown: (event) => this.#key(event, i) },
      h("div", null, h("p", { class: "what" }, line(idea.text, 600)),
        h("p", { class: "soft" }, [idea.category && line(idea.category, 40), idea.source && `from ${line(idea.source, 40)}`, idea.expects && `expects ${line(idea.expects, 120)}`, idea.cost && `costs ${line(idea.cost, 60)}`, `priority ${number(idea.priority)}`].filter(Boolean).join("  ·  "), after(idea, this.study)),
        idea.asked && this.#asked()),
      h("div", { class: "idea-acts" },
        press("top", "⤒", "To the top", 0, i === 0), press("up", "↑", "Up", i - 1, i === 0), press("down", "↓", "Down", i + 1, i === last),
        h("button", { type: "button", class: "quiet", "data-key": `veto ${idea.id}`, "aria-label": `Veto: ${line(idea.text, 60)}`, onclick: () => this.#veto(idea) }, "veto")));
    return node;
  }

  #key(event, i) {
    if (event.target !== event.currentTarget || event.ctrlKey || event.metaKey) return;
    const go = (to) => event.currentTarget.parentNode.children[to]?.focus();
    const at = [...event.currentTarget.parentNode.children].indexOf(event.currentTarget);
    const acts = {
      ArrowUp: () => (event.altKey || event.shiftKey ? this.#move(i, i - 1) : go(at - 1)),
      ArrowDown: () => (event.altKey || event.shiftKey ? this.#move(i, i + 1) : go(at + 1)),
      k: () => go(at - 1),
      j: () => go(at + 1),
      v: () => this.#veto(this.open[i]),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }

  async #move(from, to) {
    if (to < 0 || to >= this.open.length) return;
    for (const change of moved(this.open, from, to)) {
      if (!(await ask(this.study.id, `ideas/${change.id}`, { priority: change.priority }))) return;
    }
    this.load();
  }

  async #veto(idea) {
    if (await ask(this.study.id, `ideas/${idea.id}`, { veto: true })) this.load();
  }

  key(event) {
    if (event.key === "j" || event.key === "k") {
      this.list.querySelector(".idea[tabindex]")?.focus();
      return true;
    }
    if (event.key === "i") {
      this.add.querySelector("textarea").focus();
      return true;
    }
    return false;
  }
}

const after = (idea, study) => (idea.after?.length ? h("span", null, "  ·  after ", idea.after.flatMap((n) => [h("a", { href: hashOf(study.id, "exp", n) }, `exp ${n}`), " "])) : null);

function others(words, ideas, study) {
  if (!ideas.length) return null;
  return h("details", { class: "others" }, h("summary", null, `${words} (${ideas.length})`),
    h("ul", null, ideas.slice(0, 200).map((idea) => h("li", null, line(idea.text, 300), " ",
      (idea.experiments ?? []).flatMap((n) => [h("a", { href: hashOf(study.id, "exp", n) }, `exp ${n}`), " "]),
      idea.asked && h("span", { class: "asked" }, LATER)))));
}

const DID = { note: "wrote a note", idea: "added an idea", veto: "vetoed an idea", priority: "moved an idea", pause: "paused the lab", resume: "let the lab go on", stop: "stopped the lab" };

/** Who asked for what, and what the lab warned of. */
export class Asked extends Fetched {
  constructor(study) {
    super(study);
    this.node = h("div", { class: "asked-tab" });
  }

  show({ notes, waiting, warnings, audit }) {
    const entries = audit ?? notes.map((note) => ({ ...note, what: "note" }));
    const entry = (e, words, late) => h("li", null,
      h("p", { class: "soft" }, h("time", { title: when(e.at) }, ago(e.at)), `  ${line(e.author, 60) || "someone"} ${words}`, e.idea ? ` (${e.idea})` : "", late && h("span", { class: "asked" }, ` ${this.study.running ? "not read yet" : LATER}`)),
      e.text && h("p", { class: "prose" }, block(e.text, 4000)));
    refill(this.node,
      h("section", { class: "panel" }, h("h2", null, "Who asked for what"),
        waiting.length + entries.length
          ? h("ul", { class: "entries" }, waiting.map((m) => entry(m, DID[m.kind] ?? m.kind, true)), entries.map((e) => entry(e, DID[e.what] ?? e.what, false)))
          : empty("Nobody has asked for anything.", "Notes, ideas, vetoes, pauses: each leaves its entry in the journal, and here.")),
      warnings.length > 0 && h("section", { class: "panel" }, h("h2", null, count(warnings.length, "warning")),
        h("ul", { class: "entries" }, warnings.slice(0, 60).map((w) => h("li", null, h("p", { class: "soft" }, ago(w.at)), h("p", { class: "prose" }, block(w.text, 2000)))))));
  }
}
