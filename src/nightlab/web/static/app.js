// The page: which study is looked at, what changed in it, and the keys that work everywhere.

import { ask, stop, tell, tellIn } from "./actions.js";
import { get, place, Refused, session } from "./api.js";
import { Compare } from "./compare.js";
import { ExperimentPage } from "./experiment.js";
import { empty, h, refill } from "./dom.js";
import { line, number } from "./format.js";
import { help } from "./help.js";
import { MOST, Overview, stateOf } from "./overview.js";
import { hashOf, routeOf } from "./router.js";
import { Study } from "./store.js";
import { follow } from "./stream.js";
import { StudyPage } from "./study.js";

class App {
  constructor() {
    this.list = []; // the studies of the projects, as the server lists them
    this.studies = new Map(); // those that were loaded
    this.page = null;
    this.follows = ""; // the studies that the stream is about
    this.end = null; // ends the stream
    this.bar = document.querySelector("#bar");
    this.stage = document.querySelector("#stage");
    this.lost = document.querySelector("#lost");
    this.news = document.querySelector("#news");
    tellIn(document.querySelector("#toast"));
    history.scrollRestoration = "manual";
    addEventListener("hashchange", () => this.go());
    addEventListener("keydown", (event) => this.#key(event));
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault(); // an address of its own would leave the page that is shown
      document.querySelector("#main").focus();
    });
  }

  async start() {
    try {
      const { ids } = routeOf(location.hash);
      const [, told] = await Promise.all([session(), get("/api/studies"), ...ids.map((id) => this.#load(id))]);
      this.list = told.studies;
      await this.go();
    } catch (error) {
      this.#fails(error);
    }
  }

  /** Show what the address says. */
  async go() {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    let route = routeOf(location.hash);
    if (route.view === "overview" && this.list.length === 1 && location.hash === "") {
      history.replaceState(null, "", hashOf(this.list[0].id));
      route = routeOf(location.hash);
    }
    const ids = route.view === "overview" ? this.list.slice(0, MOST).map((s) => s.id) : route.ids;
    const same = this.page && this.route?.view === "study" && route.view === "study" && this.route.ids[0] === route.ids[0];
    const back = this.route?.view === "experiment" && route.view === "study" ? this.scrolled : 0;
    if (this.route?.view === "study") this.scrolled = scrollY;
    this.route = route;
    this.ids = ids;
    if (same) {
      this.page.go(route);
      return this.#top();
    }
    if (route.view === "overview" && !(this.page instanceof Overview)) this.#show(new Overview(this));
    try {
      await Promise.all(ids.map((id) => this.#load(id)));
    } catch (error) {
      if (turn === this.turn) this.#fails(error);
      return;
    }
    if (turn !== this.turn) return;
    if (route.view !== "overview") this.#show(this.#make(route));
    this.page.update("all");
    scrollTo(0, back ?? 0);
    this.#top();
    this.#follow();
    performance.mark("nightlab: shown");
  }

  #make(route) {
    const study = this.studies.get(route.ids[0]);
    if (route.view === "compare") return new Compare(this, route.ids);
    return new (route.view === "experiment" ? ExperimentPage : StudyPage)(this, study, route);
  }

  #show(page) {
    this.page?.close();
    this.page = page;
    this.stage.replaceChildren(page.node);
    if (this.moved) page.node.focus({ preventScroll: true });
    this.moved = true;
  }

  async #load(id) {
    const known = this.studies.get(id);
    if (known?.loaded) return; // the stream tells what is newer
    const study = known ?? new Study(id);
    const [status, rows, live] = await Promise.all(["status", "rows", "live"].map((what) => get(`${place(id)}/${what}`)));
    study.status = status;
    study.live = live.live;
    if (rows.columns) study.apply({ ...rows, full: true });
    this.studies.set(id, study);
  }

  /** One connection for the studies that are shown; another one when they are others. */
  #follow() {
    const wanted = this.ids.join(" ");
    if (this.follows === wanted && this.end) return;
    this.end?.();
    this.follows = wanted;
    const positions = () => this.ids.map((id) => this.studies.get(id)?.position ?? id);
    this.end = follow(positions, (kind, data) => this.#event(kind, data), (state) => this.#connection(state));
  }

  #connection(state) {
    document.body.classList.toggle("lost", state !== "open");
    this.lost.hidden = state === "open";
    if (state === "locked") this.#fails(new Refused(401, { what: "" }));
  }

  #event(kind, data) {
    if (kind === "studies") {
      this.list = data.studies;
      this.page?.update("studies");
      this.#top();
      if (this.route.view === "overview" && this.list.slice(0, MOST).some((s) => !this.studies.has(s.id))) this.go();
      return;
    }
    const study = this.studies.get(data.id);
    if (!study) return;
    if (kind === "gone") return tell(`The study ${data.id} is not there any more.`, "refused");
    if (kind === "status") study.status = data;
    if (kind === "live") study.live = data.live;
    if (kind === "rows") this.#tellNews(study, study.apply(data));
    this.page?.update(kind);
    if (kind === "status") this.#top();
  }

  /** New verdicts, aloud. */
  #tellNews(study, settled) {
    if (!settled.length || study.status?.loading) return;
    const row = study.row(settled[settled.length - 1]);
    const many = settled.length > 1 ? `${settled.length} experiments are settled, the last: ` : "";
    this.news.textContent = `${many}experiment ${row.n}, ${row.verdict}: ${line(row.description, 100)}. ${line(row.reason, 140)}`;
  }

  /** The bar on top: where we are, whether a lab runs, what can be asked of it. */
  #top() {
    const study = this.route.view === "study" || this.route.view === "experiment" ? this.studies.get(this.route.ids[0]) : null;
    const status = study?.status;
    const several = this.list.length > 1 || this.route.view !== "overview";
    const acts = [];
    if (study?.running) {
      const button = (key, words, act, kind = "quiet") => acts.push(h("button", { type: "button", class: kind, "data-key": key, onclick: act }, words));
      if (status.paused) button("resume", "Resume", () => ask(study.id, "resume", {}), "");
      else button("pause", "Pause", () => ask(study.id, "pause", {}));
      button("stop", "Stop…", () => stop(study.id));
    }
    refill(this.bar,
      h("a", { class: "brand", href: "#/", "data-key": "brand" }, "nightlab"),
      h("nav", { class: "where", "aria-label": "Where" },
        several && this.route.view !== "overview" && this.list.length > 1 ? h("a", { href: "#/", "data-key": "all" }, "all studies") : null,
        status ? h("a", { href: hashOf(study.id), "data-key": "tag" }, h("b", null, line(status.tag, 40)), h("span", { class: "soft project" }, ` ${line(status.name, 40)}`)) : null,
        status ? stateOf(status) : null),
      h("div", { class: "acts" }, acts, h("button", { type: "button", class: "quiet", "data-key": "help", "aria-label": "Keyboard help", title: "Keyboard (?)", onclick: help }, "?")));
    const value = status?.incumbent ? `${line(study.metric, 20)} ${number(status.incumbent.mean, study.sigma)} · ` : "";
    document.title = `${status ? `${line(status.tag, 30)} · ${value}` : ""}nightlab`;
  }

  #fails(error) {
    if (!(error instanceof Refused)) throw error;
    this.page?.close();
    this.page = null;
    this.lost.hidden = true;
    const locked = error.status === 401;
    const node = h("main", { id: "main", tabindex: "-1" }, locked
      ? empty("This page is locked.", "Open the link that “nightlab ui” printed in its terminal: it carries the key.")
      : empty(error.message, [error.why, error.hint].filter(Boolean).join("  ·  ")));
    this.stage.replaceChildren(node);
    if (error.status === 0 || error.status >= 500) setTimeout(() => this.start(), 3000);
    this.end?.();
    this.end = null;
  }

  #key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.target.closest?.("input, textarea, select")) return;
    if (event.key === "?") {
      event.preventDefault();
      return help();
    }
    if (this.page?.key?.(event)) event.preventDefault();
  }
}

const app = new App();
app.start();
