// What the keyboard does.

import { h } from "./dom.js";

const KEYS = [
  ["/", "search the experiments"],
  ["j  k", "down and up in a list"],
  ["Enter", "open what is chosen"],
  ["Esc", "back; clear the filter"],
  ["[  ]", "the experiment before, after"],
  ["p", "to the plot: arrows move, Shift + arrows from keep to keep, + − 0 zoom"],
  ["n", "write a note to the researcher"],
  ["1 … 5", "experiments, backlog, memory, cost, asked"],
  ["Shift + ↑ ↓", "in the backlog: sooner, later; v vetoes, i adds an idea"],
  ["?", "this help"],
];

export function help() {
  if (document.querySelector("dialog[open]")) return;
  const dialog = h("dialog", { class: "help", "aria-label": "Keyboard" },
    h("h2", null, "Keyboard"),
    h("dl", null, KEYS.map(([keys, words]) => [h("dt", null, h("kbd", null, keys)), h("dd", null, words)]).flat()),
    h("p", { class: "soft" }, "On the plot: drag to zoom, Ctrl + wheel, double click for the whole study."),
    h("div", { class: "buttons" }, h("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
