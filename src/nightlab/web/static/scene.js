// What the progress plot shows of a study, in the metric's own values: the rules of plot/scene.py.

const CODES = { open: 0, discard: 1, inconclusive: 2, keep: 3, crash: 4 };

/** Where each experiment lies on the x axis: its number, or the device hours used by then. */
export function across(study, axis) {
  return axis === "hours" ? study.hours : study.cols.n;
}

/**
 * The incumbents' levels: `x` where each begins, its mean and the half width of its 90 %
 * interval (0 where noise is nil or unknown).
 */
export function levelsOf(study, axis) {
  const t = study.status?.plain?.t90 ?? null;
  const xs = across(study, axis);
  const { value, fair } = study.cols;
  let last = -Infinity;
  const levels = [];
  for (const n of study.chain) {
    if (value[n - 1] === null) continue;
    last = Math.max(xs[n - 1], last);
    const runs = fair?.[n - 1] ?? 0;
    const half = t && study.sigma && runs ? (t * study.sigma) / Math.sqrt(runs) : 0;
    levels.push({ n, x: last, mean: value[n - 1], half });
  }
  return levels;
}

/**
 * One study as it is drawn. `view`: {axis: "n"|"hours", from, to (x, or null for all), all: no
 * robust axis}. Numbers of points in view are those from `first` to `end` - 1.
 */
export function sceneOf(study, view) {
  const xs = across(study, view.axis);
  const levels = levelsOf(study, view.axis);
  const lastX = xs.length ? xs[xs.length - 1] : 1;
  const start = view.axis === "hours" ? 0 : 1;
  const zoomed = view.from !== null;
  const pad = view.axis === "hours" ? Math.max(1e-4, 0.015 * lastX) : Math.max(0.6, 0.015 * lastX);
  const from = zoomed ? view.from : start - pad;
  const to = zoomed ? view.to : lastX + pad;
  const first = below(xs, from);
  const end = below(xs, to + 1e-12);
  const shown = visible(levels, from, to);
  const [low, high] = limits(study, first, end, shown, view.all);
  return {
    study, axis: view.axis, xs, levels, zoomed, from, to, first, end, low, high, lastX,
    codes: codesOf(study),
    baseline: levels[0] ?? null,
    worse: study.sign > 0 ? low : high,
  };
}

/** The verdicts as small integers: the plot asks for them 20,000 times a frame. */
function codesOf(study) {
  return study.once("codes", () => Uint8Array.from(study.cols.verdict ?? [], (v) => CODES[v] ?? 0));
}

/** The index of the first x that is not below `x`; xs ascend. */
export function below(xs, x) {
  let low = 0;
  let high = xs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

function visible(levels, from, to) {
  return levels.filter((level, i) => level.x <= to && (levels[i + 1]?.x ?? Infinity) >= from);
}

/**
 * The y axis: all of the incumbents and the better side, and most of the worse side, which ends
 * at the 90 % quantile of what was tried and at most one and a half times the incumbents' own
 * range beyond them: one disaster must not flatten a night.
 */
function limits(study, first, end, levels, all) {
  const { sign } = study;
  const tried = [];
  for (let i = first; i < end; i += 1) {
    const v = study.cols.value[i];
    if (v !== null && study.cols.verdict[i] !== "open") tried.push(sign * v);
  }
  const values = Float64Array.from(tried).sort();
  const sigma = study.sigma ?? 0;
  const means = levels.map((level) => sign * level.mean);
  const core = means.length ? means : values.length ? [...values.slice(-1), values[0]] : [0];
  let bottom = Math.min(...core) - 2.5 * sigma;
  let top = Math.max(...core) + 2.5 * sigma;
  let span = top - bottom;
  if (values.length) {
    const most = values[values.length - 1];
    top = Math.max(top, all ? most : Math.min(most, top + span));
    let worst = values[all ? 0 : Math.floor(0.1 * (values.length - 1))];
    if (span > 0 && !all) worst = Math.max(worst, bottom - 1.5 * span);
    bottom = Math.min(bottom, worst);
  }
  span = top - bottom || Math.abs(top) * 0.02 || 1;
  top += 0.16 * span; // room for the labels, on the empty side
  bottom -= 0.1 * span; // and for the marks at the edge
  return sign > 0 ? [bottom, top] : [-top, -bottom];
}

/** Round numbers between two bounds, about `wanted` of them. */
export function ticks(low, high, wanted, integers = false) {
  const raw = (high - low) / Math.max(1, wanted);
  if (!(raw > 0) || !Number.isFinite(raw)) return [];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999) ?? raw;
  const by = integers ? Math.max(1, Math.round(step)) : step;
  const found = [];
  for (let i = Math.ceil(low / by - 1e-9); i * by <= high + 1e-9 * by; i += 1) found.push(i * by);
  return found;
}

/** The digits that tell ticks of one axis apart. */
export function tickText(found) {
  const step = found.length > 1 ? Math.abs(found[1] - found[0]) : Math.abs(found[0] ?? 1) || 1;
  const decimals = Math.max(0, Math.min(10, -Math.floor(Math.log10(step) + 1e-9)));
  const fits = Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) < 1e-6;
  return (v) => {
    const most = Math.abs(v);
    if (most >= 1e6 || (most && most < 1e-5)) return v.toPrecision(3).replace("-", "−");
    return v.toFixed(decimals + (fits ? 0 : 1)).replace("-", "−");
  };
}
