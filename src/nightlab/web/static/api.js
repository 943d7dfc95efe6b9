// The server's JSON: reading, and asking for something as a person would on the command line.

/** What the server refused, in its own words. `status` 0: it could not be reached. */
export class Refused extends Error {
  constructor(status, told) {
    super(told.what);
    this.status = status;
    this.why = told.why ?? "";
    this.hint = told.hint ?? "";
  }
}

let csrf = null;

export const place = (id) => `/api/studies/${id.split("/").map(encodeURIComponent).join("/")}`;

async function answer(request) {
  let response;
  try {
    response = await request;
  } catch {
    throw new Refused(0, { what: "nightlab does not answer", why: "the page has lost its server" });
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const error = typeof body.error === "object" && body.error ? body.error : {};
  throw new Refused(response.status, { what: `the server answered ${response.status}`, ...error });
}

export function get(path) {
  const early = globalThis.nightlabEarly?.get(path); // early.js asked for it already, once
  globalThis.nightlabEarly?.delete(path);
  return answer(early ?? fetch(path, { credentials: "same-origin" }));
}

export async function session() {
  const told = await get("/api/session");
  csrf = told.csrf;
  return told;
}

export async function post(path, body) {
  if (csrf === null) await session();
  const headers = { "Content-Type": "application/json", "X-Nightlab-Csrf": csrf };
  return answer(fetch(path, { method: "POST", headers, body: JSON.stringify(body), credentials: "same-origin" }));
}
