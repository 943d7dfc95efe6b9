// Addresses: everything that a person can look at has one, in the fragment.

const TABS = ["experiments", "backlog", "memory", "cost", "asked"];

export const hashOf = (id, ...rest) => `#/${[...id.split("/"), ...rest].map((part) => encodeURIComponent(part)).join("/")}`;
export const compareHash = (ids) => `#/compare/${ids.map((id) => id.split("/").map(encodeURIComponent).join("/")).join("/")}`;

/** {view: "overview" | "compare" | "study" | "experiment", ids, tab, n} of an address. */
export function routeOf(hash) {
  let parts;
  try {
    parts = hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    parts = [];
  }
  if (parts[0] === "compare") {
    const ids = [];
    for (let i = 1; i + 1 < parts.length; i += 2) ids.push(`${parts[i]}/${parts[i + 1]}`);
    return { view: "compare", ids: [...new Set(ids)].slice(0, 8) };
  }
  if (parts.length < 2) return { view: "overview", ids: [] };
  const ids = [`${parts[0]}/${parts[1]}`];
  const n = parts[2] === "exp" ? Number(parts[3]) : Number.NaN;
  if (Number.isInteger(n) && n > 0) return { view: "experiment", ids, n };
  return { view: "study", ids, tab: TABS.includes(parts[2]) ? parts[2] : "experiments" };
}
