// Which experiments a table shows, and in which order. No page, no data but the columns.

export const VERDICTS = ["keep", "discard", "inconclusive", "crash", "open"];

/** What is asked at the start: everything, the newest first. */
export const everything = () => ({ verdicts: new Set(), category: "", researcher: "", words: "", sort: "n", down: true, at: null });

export const narrows = (ask) => ask.verdicts.size > 0 || Boolean(ask.category || ask.researcher || ask.words.trim());

/**
 * The numbers that match, sorted, and a mask by index (null where nothing is left out). Every
 * word that is searched must occur in the description, the hypothesis or the reason.
 */
export function choose(study, ask) {
  const { cols, size } = study;
  const words = ask.words.toLowerCase().split(/\s+/).filter(Boolean);
  const text = words.length ? haystack(study) : null;
  const mask = new Uint8Array(size);
  const found = [];
  for (let i = 0; i < size; i += 1) {
    if (ask.verdicts.size && !ask.verdicts.has(cols.verdict[i])) continue;
    if (ask.category && cols.category[i] !== ask.category) continue;
    if (ask.researcher && cols.researcher[i] !== ask.researcher) continue;
    if (text && !words.every((word) => text[i].includes(word))) continue;
    mask[i] = 1;
    found.push(i + 1);
  }
  sort(found, study, ask);
  return { numbers: found, mask: narrows(ask) ? mask : null };
}

function haystack(study) {
  return study.once("text", () => {
    const { description, hypothesis, reason, n } = study.cols;
    return description.map((d, i) => `#${n[i]} ${d}\n${hypothesis?.[i] ?? ""}\n${reason[i] ?? ""}`.toLowerCase());
  });
}

/** In place; what has no value comes last whichever way. `down` is: the largest, or better, first. */
function sort(numbers, study, { sort: key, down }) {
  if (key === "n") {
    if (down) numbers.reverse();
    return;
  }
  const values = study.cols[key];
  const turn = (key === "value" ? study.sign : 1) * (down ? -1 : 1);
  numbers.sort((a, b) => {
    const [x, y] = [values[a - 1], values[b - 1]];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return turn * (x - y) || a - b;
  });
}
