// What changes, as the server tells it: one connection, opened again for as long as it takes.

import { Refused, session } from "./api.js";

const EVENTS = ["studies", "status", "rows", "live", "backlog", "scratchpad", "gone"];

/**
 * Follow the studies. `positions()` gives "ID@EPOCH.SEQ" of each; `on(kind, data)` gets every
 * event; `told(state)` gets "open", "lost" or "locked". Returns a function that ends it.
 */
export function follow(positions, on, told) {
  let source = null;
  let timer = null;
  let wait = 500;
  let ended = false;

  function open() {
    const query = positions().map((position) => `study=${encodeURIComponent(position)}`).join("&");
    source = new EventSource(`/api/stream${query && "?"}${query}`);
    source.onopen = () => {
      wait = 500;
      told("open");
    };
    for (const kind of EVENTS) {
      source.addEventListener(kind, (event) => on(kind, JSON.parse(event.data)));
    }
    source.onerror = () => {
      // The browser's own retry would ask from the old position: every retry is ours.
      source.close();
      if (ended) return;
      told("lost");
      timer = setTimeout(again, wait);
      wait = Math.min(wait * 1.6, 8000);
    };
  }

  async function again() {
    try {
      await session();
      if (!ended) open();
    } catch (error) {
      if (ended) return;
      if (error instanceof Refused && error.status === 401) return told("locked");
      timer = setTimeout(again, wait);
      wait = Math.min(wait * 1.6, 8000);
    }
  }

  open();
  return () => {
    ended = true;
    clearTimeout(timer);
    source.close();
  };
}
