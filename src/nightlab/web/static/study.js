// A study's page: where it stands, its progress, what runs, and everything that was tried.

import { letterBox } from "./actions.js";
import { Asked, Backlog } from "./backlog.js";
import { Cost, Memory } from "./books.js";
import { empty, h, refill } from "./dom.js";
import { count, duration, line, number, signed, whole } from "./format.js";
import { Now } from "./now.js";
import { Plot } from "./plot.js";
import { hashOf } from "./router.js";
import { Tried } from "./tried.js";

const TABS = [["experiments", "Experiments", Tried], ["backlog", "Backlog", Backlog], ["memory", "Memory", Memory], ["cost", "Cost", Cost], ["asked", "Asked", Asked]];

export class StudyPage {
  constructor(app, study, route) {
    Object.assign(this, { app, study });
    const open = (n) => (location.hash = hashOf(study.id, "exp", n));
    this.title = h("div", { class: "headline" });
    this.warnings = h("div", { class: "warnings" });
    this.plot = new Plot(study, open);
    this.now = new Now(study);
    this.tabs = h("nav", { class: "tabs", "aria-label": "Parts of the study" });
    this.panel = h("section", { class: "tab" });
    this.letter = letterBox(study.id, "notes", { label: "A note to the researcher", button: "Send note", key: "note" });
    this.none = h("div", { hidden: true });
    this.node = h("main", { class: "study", id: "main", tabindex: "-1" }, this.title, this.warnings, this.none, this.plot.node,
      this.now.node, this.letter, this.tabs, this.panel);
    this.go(route);
  }

  /** Another part of the same study: the plot stays. */
  go(route) {
    refill(this.tabs, TABS.map(([name, words]) => h("a", { href: hashOf(this.study.id, ...(name === "experiments" ? [] : [name])), "aria-current": name === route.tab ? "page" : null, "data-key": name }, words)));
    if (this.tab?.name === route.tab) return;
    this.tab?.part.close();
    const part = new (TABS.find(([name]) => name === route.tab)[2])(this.study, this);
    this.tab = { name: route.tab, part };
    this.panel.replaceChildren(part.node);
    part.update("all");
  }

  close() {
    this.plot.close();
    this.now.close();
    this.tab.part.close();
  }

  update(kind) {
    if (kind === "all" || kind === "status" || kind === "rows") this.#headline();
    if (kind === "all" || kind === "rows" || kind === "status") {
      this.none.hidden = this.study.size > 0;
      if (!this.study.size) refill(this.none, nothing(this.study));
      this.plot.node.hidden = this.study.size === 0;
      this.plot.draw();
    }
    if (kind === "all" || kind === "live" || kind === "status") this.now.update();
    this.tab.part.update(kind);
  }

  key(event) {
    if (event.key === "n") {
      this.letter.querySelector("textarea").focus();
      return true;
    }
    if (event.key === "p") {
      this.plot.over.focus();
      return true;
    }
    const tab = TABS[Number(event.key) - 1];
    if (tab) {
      location.hash = hashOf(this.study.id, ...(tab[0] === "experiments" ? [] : [tab[0]]));
      return true;
    }
    return this.tab.part.key?.(event) ?? false;
  }

  #headline() {
    const { status, sigma } = this.study;
    if (!status || !status.objective) return;
    const { baseline, incumbent, objective, experiments } = status;
    const name = line(objective.name, 40);
    const moved = incumbent && incumbent.experiment !== baseline?.experiment;
    const numbers = !incumbent || incumbent.mean === null
      ? [h("span", { class: "soft" }, "not measured yet")]
      : [moved && number(baseline?.mean, sigma), moved && h("span", { class: "arrow", "aria-label": "to" }, " → "), h("b", null, number(incumbent.mean, sigma))];
    const kept = Math.max(0, (experiments.keep ?? 0) - (incumbent ? 1 : 0));
    const certified = status.certificates?.certified?.length ?? 0;
    const said = [
      status.gain !== null && moved ? `gain ${signed(status.gain, sigma)}, ${standing(status.final)}` : incumbent ? "nothing kept yet" : null,
      `${count(experiments.total, "experiment")}`,
      `${whole(kept)} kept${certified ? `, ${whole(certified)} certified` : ""}`,
      `${whole(experiments.inconclusive)} inconclusive`,
      experiments.crash ? `${whole(experiments.crash)} crashed` : null,
      `${count(status.runs ?? 0, "run")}${status.final?.runs ? ` and ${whole(status.final.runs)} to finalize` : ""}`,
      status.cost ? duration(status.cost.device_seconds) : null,
      sigma ? `noise of one run ± ${number(sigma, sigma)}` : null,
    ].filter(Boolean);
    refill(this.title,
      h("h1", null, h("span", { class: "metric" }, name), " ", numbers),
      h("p", { class: "soft" }, said.join("  ·  ")),
      phase(status));
    refill(this.warnings, (status.warnings ?? []).slice(-2).map((text) => h("p", null, line(text, 300))),
      (status.quarantined ?? []).length ? h("p", null, "Put aside for you, not believable: ", status.quarantined.map((n) => [h("a", { href: hashOf(this.study.id, "exp", n) }, `exp ${n}`), " "]).flat()) : null);
  }
}

/** What may be claimed of the gain: that a keep is certified says nothing of the whole of it. */
function standing(final) {
  return final?.word && !final.stale ? `finalized: ${line(final.word, 20)}` : "provisional";
}

/** Why there is nothing to see. */
function nothing({ status, loaded }) {
  if (status?.error) return empty(line(status.error.what, 300), line(`${status.error.why ?? ""} ${status.error.hint ?? ""}`, 400));
  if (!loaded || status?.loading) return empty("Reading the journal…");
  return empty("Nothing is measured yet.", "The first experiment is the untouched code; the plot begins with it.");
}

function phase(status) {
  const { phase: now, plateau } = status;
  const said = [
    now?.name ? `phase ${now.number} of ${now.of}: ${line(now.name, 60)}` : null,
    plateau?.since_keep > 2 ? `${count(plateau.since_keep, "experiment")} since the last keep (${line(plateau.stage, 30).toLowerCase().replaceAll("_", " ")})` : null,
    status.researcher ? `researcher ${line(status.researcher, 40)}` : null,
    status.sandbox ? `sandbox ${line(status.sandbox, 30)}` : null,
  ].filter(Boolean);
  return said.length ? h("p", { class: "soft" }, said.join("  ·  ")) : null;
}
