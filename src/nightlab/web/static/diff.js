// A unified diff, coloured: files apart, lines numbered, long ones in portions.

import { h } from "./dom.js";
import { block } from "./format.js";

const PORTION = 1500;

/** The diff as a node; every line of it is text. */
export function diffOf(text, truncated = false) {
  const files = apart(block(text, 600_000).split("\n")).filter((file) => file.name);
  if (!files.length) return h("p", { class: "soft" }, "No change: this is the untouched code.");
  const shown = files.map((file) => fileOf(file));
  if (truncated) shown.push(h("p", { class: "soft" }, "The diff is longer than this; the whole is in git."));
  return h("div", { class: "diff" }, shown);
}

function apart(lines) {
  const files = [];
  for (const one of lines) {
    if (one.startsWith("diff --git ")) files.push({ name: /^diff --git "?a\/(.*) "?b\//.exec(one)?.[1] ?? one.slice(11), lines: [] });
    else files.at(-1)?.lines.push(one);
  }
  return files;
}

function fileOf(file) {
  const rows = numbered(file.lines);
  const added = rows.filter((r) => r.kind === "add").length;
  const removed = rows.filter((r) => r.kind === "del").length;
  const body = h("div", { class: "code", tabindex: "0", "aria-label": `changes of ${file.name}` });
  const more = h("button", { type: "button", class: "quiet" }, "more lines");
  let at = 0;
  const next = () => {
    body.append(...rows.slice(at, at + PORTION).map(rowOf));
    at += PORTION;
    more.hidden = at >= rows.length;
  };
  more.addEventListener("click", next);
  next();
  return h("details", { class: "file", open: true },
    h("summary", null, h("b", null, file.name || "changes"), h("span", { class: "add" }, ` +${added}`), h("span", { class: "del" }, ` −${removed}`)),
    body, more);
}

function numbered(lines) {
  const rows = [];
  let [old, now] = [0, 0];
  let inside = false;
  for (const one of lines) {
    const hunk = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@(.*)/.exec(one);
    if (hunk) {
      [old, now, inside] = [Number(hunk[1]), Number(hunk[2]), true];
      rows.push({ kind: "hunk", text: hunk[3].trim() || "…" });
    } else if (!inside) {
      if (/^(new|deleted) file|^rename|^Binary/.test(one)) rows.push({ kind: "hunk", text: one });
    } else if (one.startsWith("+")) rows.push({ kind: "add", now: now++, text: one.slice(1) });
    else if (one.startsWith("-")) rows.push({ kind: "del", old: old++, text: one.slice(1) });
    else if (one.startsWith("\\")) rows.push({ kind: "hunk", text: one.slice(2) });
    else if (one.startsWith(" ")) rows.push({ kind: "same", old: old++, now: now++, text: one.slice(1) });
  }
  return rows;
}

const SIGNS = { add: "+", del: "−", same: " ", hunk: "" };

function rowOf(row) {
  return h("div", { class: `l ${row.kind}` },
    h("span", { class: "ln", "data-n": row.old ?? "" }), h("span", { class: "ln", "data-n": row.now ?? "" }),
    h("span", { class: "sg" }, SIGNS[row.kind]), h("span", { class: "tx" }, row.text));
}
