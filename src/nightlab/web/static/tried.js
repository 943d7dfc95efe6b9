// Everything that was tried: the table with its filter, kept in step with the plot.

import { h, mark, refill } from "./dom.js";
import { count, line, whole } from "./format.js";
import { choose, everything, narrows, VERDICTS } from "./filter.js";
import { hashOf } from "./router.js";
import { Table } from "./table.js";

const asked = new Map(); // study → what was asked last: it outlives a look at one experiment

export class Tried {
  constructor(study, page) {
    Object.assign(this, { study, page });
    this.ask = asked.get(study.id) ?? everything();
    asked.set(study.id, this.ask);
    this.search = h("input", { type: "search", placeholder: "Search  ( / )", "aria-label": "Search in change, hypothesis and reason", "data-key": "search" });
    this.search.value = this.ask.words;
    this.search.addEventListener("input", () => {
      this.ask.words = this.search.value;
      this.#later();
    });
    this.search.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" && event.key !== "Enter" && event.key !== "ArrowDown") return;
      event.stopPropagation();
      if (event.key === "Escape" && this.ask.words) {
        this.search.value = this.ask.words = "";
        this.#show();
      } else if (this.table.node.hidden) this.search.blur();
      else this.table.view.focus({ preventScroll: event.key === "Escape" });
    });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Verdicts" });
    this.picks = h("div", { class: "picks" });
    this.told = h("p", { class: "soft count", "aria-live": "polite" });
    this.table = new Table(study, {
      open: (n) => (location.hash = hashOf(study.id, "exp", (this.ask.at = n))),
      point: (n) => page.plot.point((this.ask.at = n)),
      sorted: (key) => {
        this.ask.down = this.ask.sort === key ? !this.ask.down : true;
        this.ask.sort = key;
        this.#show();
      },
    });
    this.none = h("div", { class: "empty", hidden: true });
    this.node = h("div", { class: "tried" }, h("div", { class: "filter" }, this.search, this.chips, this.picks), this.told, this.table.node, this.none);
  }

  close() {
    this.table.close();
    clearTimeout(this.timer);
    this.page.plot.mask = null;
  }

  update(kind) {
    if (kind !== "rows" && kind !== "all") return;
    this.#show();
    if (kind === "all" && this.ask.at) this.table.goTo(this.ask.at, true);
  }

  #later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#show(), this.study.size > 3000 ? 120 : 30);
  }

  #show() {
    const { study, ask } = this;
    const { numbers, mask } = choose(study, ask);
    this.#controls();
    this.table.show(numbers, ask);
    if (this.page.plot.mask || mask) {
      this.page.plot.mask = mask;
      this.page.plot.draw();
    }
    this.told.textContent = narrows(ask) ? `${whole(numbers.length)} of ${count(study.size, "experiment")}` : "";
    this.none.hidden = numbers.length > 0;
    this.table.node.hidden = numbers.length === 0;
    this.none.textContent = study.size ? "No experiment is like that." : "No experiment yet.";
  }

  #controls() {
    const { study, ask } = this;
    const tally = new Map(study.tally("verdict"));
    const chip = (verdict) =>
      h("button", {
        type: "button", class: "chip", "aria-pressed": String(ask.verdicts.has(verdict)), "data-key": `v ${verdict}`,
        onclick: () => {
          if (!ask.verdicts.delete(verdict)) ask.verdicts.add(verdict);
          this.#show();
        },
      }, mark(verdict), verdict, h("span", { class: "n" }, whole(tally.get(verdict) ?? 0)));
    refill(this.chips, VERDICTS.filter((v) => tally.has(v) || ask.verdicts.has(v)).map(chip),
      narrows(ask) && h("button", { type: "button", class: "chip clear", "data-key": "clear", onclick: () => this.clear() }, "clear"));
    if (this.picks.contains(document.activeElement)) return; // an open list must not be replaced
    refill(this.picks, this.#pick("category", "every category"), this.#pick("researcher", "every researcher"));
  }

  #pick(column, all) {
    const found = this.study.tally(column);
    if (found.length < 2 && !this.ask[column]) return null;
    const option = (value, words) => h("option", { value, selected: this.ask[column] === value }, words);
    return h("select", {
      "aria-label": column, "data-key": column,
      onchange: (event) => {
        this.ask[column] = event.target.value;
        event.target.blur();
        this.#show();
      },
    }, option("", all), found.slice(0, 60).map(([value, n]) => option(value, `${line(value, 40)} (${n})`)));
  }

  clear() {
    Object.assign(this.ask, { verdicts: new Set(), category: "", researcher: "", words: "" });
    this.search.value = "";
    this.#show();
  }

  key(event) {
    const acts = {
      "/": () => this.search.focus(),
      j: () => this.table.move(1),
      k: () => this.table.move(-1),
      Enter: () => this.table.at && this.table.open(this.table.at),
      Escape: () => (narrows(this.ask) ? this.clear() : this.page.plot.point(null)),
    };
    if (!acts[event.key]) return false;
    if (event.key === "Enter" && event.target.closest?.("a, button, input, select, summary")) return false;
    acts[event.key]();
    return true;
  }
}

