// What runs now: each run's curve, its time against budget and deadline, the end of its log.

import { curveBox } from "./curve.js";
import { h, refill } from "./dom.js";
import { block, count, duration, line, purpose } from "./format.js";

export class Now {
  constructor(study) {
    this.study = study;
    this.runs = new Map(); // run id → its card
    this.doing = h("p", { class: "doing" });
    this.cards = h("div", { class: "run-cards" });
    this.node = h("section", { class: "panel now", "aria-label": "What runs now" }, this.doing, this.cards);
  }

  close() {
    for (const card of this.runs.values()) card.curve.close();
  }

  update() {
    const { live, status } = this.study;
    const runs = live?.runs ?? [];
    this.doing.textContent = this.#says(live, status);
    this.node.classList.toggle("still", !live);
    for (const [id, card] of this.runs) {
      if (runs.some((run) => run.run === id)) continue;
      card.curve.close();
      card.node.remove();
      this.runs.delete(id);
    }
    for (const run of runs) {
      const card = this.runs.get(run.run) ?? this.#add(run);
      fillCard(card, run, this.study);
    }
  }

  #says(live, status) {
    if (!status) return "";
    if (status.paused) return `Paused: ${line(status.paused, 160)}`;
    if (live) {
      const doing = line(live.doing, 160);
      const runs = live.runs.length ? `${count(live.runs.length, "run")} under way` : "Between two runs";
      const what = doing && doing !== "running" ? `${runs}; ${doing}` : runs;
      return status.baseline ? what : `Calibrating: the untouched code is measured first. ${what}`;
    }
    if (status.state === "running") {
      const { final } = status;
      return final && !final.commit ? `Finalizing: ${count(final.runs, "run")} so far` : "The lab runs.";
    }
    const why = status.ended?.detail || status.ended?.reason;
    return `No lab works on this study${why ? `: ${line(why, 160)}` : ""}. Go on with it: nightlab run --tag ${status.tag}`;
  }

  #add(run) {
    const card = {
      head: h("h3"), what: h("p", { class: "what" }), meta: h("p", { class: "soft" }),
      fill: h("i"), budget: h("b", { title: "the budget" }), time: h("p", { class: "soft time" }),
      curve: curveBox(), tail: h("pre", { class: "tail", tabindex: "0", "aria-label": "the end of the log" }),
    };
    card.bar = h("div", { class: "bar", role: "progressbar", "aria-label": "time of this run", "aria-valuemin": "0" }, card.fill, card.budget);
    card.node = h("article", { class: "run" },
      h("div", { class: "run-words" }, card.head, card.what, card.meta, card.bar, card.time),
      card.curve.node, card.tail);
    this.runs.set(run.run, card);
    this.cards.append(card.node);
    return card;
  }
}

function fillCard(card, run, study) {
  const link = `#/${study.id.split("/").map(encodeURIComponent).join("/")}/exp/${run.experiment}`;
  refill(card.head, h("a", { href: link, "data-key": `run ${run.run}` }, `exp ${run.experiment}`), ` · run ${run.run}`);
  card.what.textContent = line(run.description, 160);
  card.meta.textContent = [run.check ? `check ${line(run.check, 40)}` : purpose(run.purpose), `seed ${run.seed}`, run.device].filter(Boolean).join(" · ");
  const { elapsed_seconds: elapsed, budget_seconds: budget, deadline_seconds: deadline } = run;
  const whole = deadline || budget || elapsed || 1;
  card.fill.style.width = `${Math.min(100, (100 * (elapsed ?? 0)) / whole)}%`;
  card.fill.classList.toggle("late", elapsed > budget * 1.05);
  card.budget.style.left = `${Math.min(100, (100 * budget) / whole)}%`;
  card.bar.setAttribute("aria-valuemax", String(Math.round(whole)));
  card.bar.setAttribute("aria-valuenow", String(Math.round(elapsed ?? 0)));
  card.time.textContent = `${duration(elapsed ?? 0)} of ${duration(budget)} · killed at ${duration(deadline)}`;
  card.curve.draw(run);
  const text = block(run.tail.join("\n"), 8000) || "nothing printed yet";
  if (card.tail.textContent !== text) {
    card.tail.textContent = text;
    card.tail.scrollTop = card.tail.scrollHeight;
  }
}
