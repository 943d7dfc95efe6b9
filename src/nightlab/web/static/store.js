// One study in memory: its columns as the server sends them, and what follows from them.

export class Study {
  constructor(id) {
    this.id = id;
    this.status = null;
    this.live = null;
    this.loaded = false;
    this.epoch = null;
    this.seq = 0;
    this.cols = { n: [], metrics: {} };
    this.revision = 0; // grows with every change of the rows
    this.metric = "";
    this.sign = -1;
    this.memo = new Map();
    this.view = { axis: "n", from: null, to: null, all: false }; // of its plot
  }

  get size() {
    return this.cols.n.length;
  }

  get position() {
    return this.loaded ? `${this.id}@${this.epoch}.${this.seq}` : this.id;
  }

  /** Noise of one run as the plot and the digits of numbers use it. */
  get sigma() {
    return this.status?.plain?.sigma ?? this.status?.noise?.sigma ?? null;
  }

  get running() {
    return this.status?.state === "running";
  }

  /** Take rows; returns the numbers of the experiments that were settled by them. */
  apply(told) {
    if (!told.full && (told.epoch !== this.epoch || told.seq < this.seq)) return [];
    const first = !this.loaded;
    if (told.full) this.cols = { n: [], metrics: {} };
    const before = first ? null : this.cols.verdict;
    const settled = [];
    const { metrics, ...columns } = told.columns;
    const at = columns.n.map((n) => n - 1);
    if (before && !told.full) {
      columns.n.forEach((n, i) => {
        if (columns.verdict[i] !== "open" && (before[n - 1] ?? "open") === "open") settled.push(n);
      });
    }
    if (told.full) {
      this.cols = { ...columns, metrics: { ...metrics } };
    } else {
      for (const [name, values] of Object.entries(columns)) put((this.cols[name] ??= []), at, values);
      this.#metrics(metrics ?? {}, at);
    }
    Object.assign(this, { epoch: told.epoch, seq: told.seq, metric: told.metric, loaded: true });
    this.sign = told.better === "higher" ? 1 : -1;
    if (at.length || told.full) this.revision += 1;
    return settled;
  }

  #metrics(metrics, at) {
    for (const name of Object.keys(metrics)) this.cols.metrics[name] ??= Array(this.size).fill(null);
    for (const [name, values] of Object.entries(this.cols.metrics)) {
      put(values, at, metrics[name] ?? Array(at.length).fill(null));
    }
  }

  /** One experiment as an object, or null. */
  row(n) {
    if (!(n >= 1 && n <= this.size)) return null;
    const one = {};
    for (const [name, values] of Object.entries(this.cols)) {
      if (name !== "metrics") one[name] = values[n - 1] ?? null;
    }
    return one;
  }

  /** What was computed of the rows of now, once. */
  once(name, make) {
    const kept = this.memo.get(name);
    if (kept && kept.revision === this.revision) return kept.value;
    const value = make();
    this.memo.set(name, { revision: this.revision, value });
    return value;
  }

  /** The numbers of the incumbents in the order in which they came, the baseline first. */
  get chain() {
    return this.once("chain", () => {
      const { verdict = [], settled = [] } = this.cols;
      if (verdict[0] !== "keep") return [];
      const kept = [];
      for (let i = 1; i < verdict.length; i += 1) if (verdict[i] === "keep") kept.push(i + 1);
      kept.sort((a, b) => (settled[a - 1] ?? 0) - (settled[b - 1] ?? 0) || a - b);
      return [1, ...kept];
    });
  }

  /** Device hours used when each experiment was over, as the experiments are numbered. */
  get hours() {
    return this.once("hours", () => {
      let sum = 0;
      return (this.cols.seconds ?? []).map((s) => (sum += (s ?? 0) / 3600));
    });
  }

  /** How many experiments have each value of a column of words, the most frequent first. */
  tally(column) {
    return this.once(`tally ${column}`, () => {
      const found = new Map();
      for (const value of this.cols[column] ?? []) if (value) found.set(value, (found.get(value) ?? 0) + 1);
      return [...found].sort((a, b) => b[1] - a[1]);
    });
  }
}

function put(into, at, values) {
  at.forEach((place, i) => (into[place] = values[i]));
}
