// Asked before the modules are here: the study that the address names. A long one takes a moment.

const parts = location.hash.split("/");
if (/^\d+$/.test(parts[1] ?? "") && parts[2]) {
  const place = `/api/studies/${parts[1]}/${parts[2]}`;
  const ask = (what) => [`${place}/${what}`, fetch(`${place}/${what}`, { credentials: "same-origin" })];
  globalThis.nightlabEarly = new Map(["rows", "status", "live"].map(ask));
  for (const answer of globalThis.nightlabEarly.values()) answer.catch(() => {}); // told where it is used
}
