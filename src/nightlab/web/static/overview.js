// All studies on one page; those that are marked are compared.

import { drawSmall } from "./curve.js";
import { empty, h, refill } from "./dom.js";
import { ago, count, line, number, signed } from "./format.js";
import { compareHash, hashOf } from "./router.js";

export const MOST = 8; // studies that one page follows

export class Overview {
  constructor(app) {
    this.app = app;
    this.chosen = new Set();
    this.head = h("div", { class: "headline" });
    this.cards = h("div", { class: "cards" });
    this.node = h("main", { class: "overview", id: "main", tabindex: "-1" }, this.head, this.cards);
    this.canvases = new Map();
    this.watch = new ResizeObserver(() => this.#draw());
    this.watch.observe(this.cards);
  }

  close() {
    this.watch.disconnect();
  }

  update(kind) {
    if (kind === "all" || kind === "studies") this.#fill();
    else if (kind === "rows" || kind === "status") this.#draw();
  }

  #fill() {
    const { list } = this.app;
    const ids = list.map((s) => s.id).filter((id) => this.chosen.has(id));
    refill(this.head, h("h1", null, list.length ? count(list.length, "study", "studies") : "No study yet"),
      list.length > 1 && h("p", { class: "soft" }, "Mark two or more to compare them.  ",
        ids.length > 1 ? h("a", { class: "button", href: compareHash(ids), "data-key": "compare" }, `Compare ${ids.length}`) : null));
    if (!list.length) {
      refill(this.cards, empty("There is nothing to show yet.", "In the project's folder: nightlab init, then nightlab run. It appears here by itself."));
      return;
    }
    refill(this.cards, list.map((one) => this.#card(one)));
    this.#draw();
  }

  #card(one) {
    const study = this.app.studies.get(one.id);
    const canvas = this.canvases.get(one.id) ?? h("canvas", { class: "small", "aria-hidden": "true" });
    this.canvases.set(one.id, canvas);
    const sigma = study?.sigma ?? null;
    const says = one.error
      ? h("p", { class: "bad" }, `${line(one.error.what, 200)}: ${line(one.error.why, 200)}`)
      : one.loading || !one.objective && !one.metric
        ? h("p", { class: "soft" }, "reading the journal…")
        : h("p", { class: "card-value" }, h("span", { class: "soft" }, `${line(one.metric, 30)} `), h("b", null, number(one.incumbent?.mean, sigma)),
            one.gain ? h("span", { class: "soft" }, ` ${signed(one.gain, sigma)} gained`) : null);
    const box = h("input", {
      type: "checkbox", "aria-label": `compare ${line(one.tag, 40)}`, "data-key": `pick ${one.id}`,
      onchange: (event) => {
        if (event.target.checked) this.chosen.add(one.id);
        else this.chosen.delete(one.id);
        this.#fill();
      },
    });
    box.checked = this.chosen.has(one.id);
    const told = one.experiments && `${count(one.experiments.total, "experiment")}, ${Math.max(0, one.experiments.keep - 1)} kept`;
    return h("article", { class: "card" },
      h("div", { class: "card-head" }, h("h2", null, h("a", { href: hashOf(one.id), "data-key": one.id }, line(one.tag, 60))), stateOf(one), this.app.list.length > 1 ? h("label", { class: "pick" }, box, "compare") : null),
      h("p", { class: "soft" }, [line(one.name, 60), one.researcher && line(one.researcher, 30)].filter(Boolean).join("  ·  ")),
      canvas, says,
      h("p", { class: "soft" }, [told, one.last_event_at && ago(one.last_event_at)].filter(Boolean).join("  ·  ")));
  }

  #draw() {
    for (const [id, canvas] of this.canvases) {
      const study = this.app.studies.get(id);
      if (study && canvas.isConnected) drawSmall(canvas, study);
    }
  }
}

/** "running", "paused", "stopped", "finished" as a small sign. */
export function stateOf(status) {
  if (!status?.state) return null;
  const state = status.paused && status.state === "running" ? "paused" : status.state;
  return h("span", { class: `state ${state}` }, h("i", { "aria-hidden": "true" }), state);
}
