// A run's log: its end first, more of it when asked, and what is added while it runs.

import { get, place } from "./api.js";
import { h } from "./dom.js";
import { block, bytes } from "./format.js";

const PIECE = 65_536;

export class Log {
  constructor(id) {
    this.id = id;
    this.text = h("pre", { class: "log", tabindex: "0", "aria-label": "log" });
    this.earlier = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.#before() }, "earlier lines");
    this.told = h("span", { class: "soft" });
    this.node = h("div", { class: "log-box" }, h("p", { class: "log-head" }, this.told, this.earlier), this.text);
  }

  close() {
    clearTimeout(this.timer);
    this.run = null;
  }

  /** Show the end of a run's log. */
  async show(run) {
    this.close();
    this.run = run;
    const piece = await this.#get(`bytes=${PIECE}`);
    if (this.run !== run) return;
    if (!piece) return;
    this.from = piece.from;
    this.to = piece.to;
    this.text.textContent = block(piece.text) || "The log is empty.";
    this.text.scrollTop = this.text.scrollHeight;
    this.#say(piece);
    if (piece.running) this.timer = setTimeout(() => this.#after(), 1500);
  }

  async #get(query) {
    try {
      return await get(`${place(this.id)}/runs/${this.run}/log?${query}`);
    } catch (error) {
      this.text.textContent = `${error.message}${error.why ? `: ${error.why}` : ""}`;
      this.earlier.hidden = true;
      return null;
    }
  }

  async #before() {
    const from = Math.max(0, this.from - PIECE);
    const piece = await this.#get(`from=${from}&bytes=${this.from - from}`);
    if (!piece) return;
    const held = this.text.scrollHeight - this.text.scrollTop;
    this.text.prepend(block(piece.text));
    this.text.scrollTop = this.text.scrollHeight - held;
    this.from = from;
    this.#say(piece);
  }

  async #after() {
    const run = this.run;
    if (!run || !this.node.isConnected) return;
    const piece = await this.#get(`from=${this.to}&bytes=${PIECE}`);
    if (!piece || this.run !== run) return;
    const follows = this.text.scrollTop + this.text.clientHeight > this.text.scrollHeight - 30;
    if (piece.text) this.text.append(block(piece.text));
    this.to = piece.to;
    if (follows) this.text.scrollTop = this.text.scrollHeight;
    this.#say(piece);
    if (piece.running) this.timer = setTimeout(() => this.#after(), 1500);
  }

  #say(piece) {
    this.told.textContent = `run ${piece.run}, ${bytes(piece.size)}${piece.running ? ", still running" : ""}`;
    this.earlier.hidden = this.from <= 0;
  }
}
