// What a person asks of a lab: notes, ideas, pause, resume, stop. Every answer is told.

import { Refused, place, post } from "./api.js";
import { h } from "./dom.js";
import { line } from "./format.js";

let region = null;
let timer = null;

/** Where answers are shown and read aloud. */
export function tellIn(node) {
  region = node;
}

/** Tell the person something, for some seconds; a screen reader says it. */
export function tell(text, kind = "told") {
  region.className = `toast ${kind}`;
  region.textContent = line(text, 400);
  clearTimeout(timer);
  timer = setTimeout(() => {
    region.textContent = "";
    region.className = "toast";
  }, kind === "refused" ? 12_000 : 6_000);
}

/** Ask; what the server says is told. Returns whether it took it. */
export async function ask(id, path, body) {
  try {
    const answer = await post(`${place(id)}/${path}`, body);
    tell(`${answer.told[0].toUpperCase()}${answer.told.slice(1)}.`);
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    tell([error.message, error.why, error.hint].filter(Boolean).join(": "), "refused");
    return false;
  }
}

/** A question in a dialog: resolves to the value of the button pressed, null for Escape. */
export function question(title, text, buttons) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-label": title },
      h("h2", null, title), h("p", null, text),
      h("div", { class: "buttons" }, buttons.map((b, i) =>
        h("button", { type: "button", class: b.kind ?? "", autofocus: i === buttons.length - 1, onclick: () => dialog.close(b.value) }, b.words))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue || null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export async function stop(id) {
  const how = await question("Stop the lab?",
    "After the runs in flight, their results count. Now, they are killed and made again when the study goes on. Nothing that was measured is lost.",
    [{ words: "Stop now", value: "now", kind: "danger" }, { words: "After these runs", value: "soon" }, { words: "Go on", value: "", kind: "quiet" }]);
  if (how === "now") {
    const sure = await question("Kill the runs in flight?", "What they have measured so far is lost.",
      [{ words: "Kill them", value: "yes", kind: "danger" }, { words: "Do not", value: "", kind: "quiet" }]);
    if (sure === "yes") await ask(id, "stop", { now: true });
  } else if (how === "soon") {
    await ask(id, "stop", { now: false });
  }
}

/** A line to write to the lab in. `path` is "notes" or "ideas". */
export function letterBox(id, path, { label, button, key }) {
  const field = h("textarea", { rows: "1", maxlength: "4000", placeholder: label, "aria-label": label, "data-key": key });
  const grow = () => {
    field.style.height = "auto";
    field.style.height = `${Math.min(200, field.scrollHeight + 2)}px`;
  };
  const send = async (event) => {
    event?.preventDefault();
    const text = field.value.trim();
    if (!text) return field.focus();
    if (await ask(id, path, { text })) {
      field.value = "";
      grow();
    }
  };
  field.addEventListener("input", grow);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
    if (event.key === "Escape") field.blur();
  });
  return h("form", { class: "letter", onsubmit: send }, field, h("button", { type: "submit" }, button));
}
