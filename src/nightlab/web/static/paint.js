// The progress plot on a canvas: every experiment by verdict, and how the incumbent moved.

import { nameSteps } from "./labels.js";
import { tickText, ticks } from "./scene.js";

const MANY = 1500; // experiments in view beyond which points are drawn smaller
const OPEN = 0, DISCARD = 1, INCONCLUSIVE = 2, KEEP = 3, CRASH = 4;
const FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";

/** The house's colours of now, light or dark, from the style sheet. */
export function themeOf(node) {
  const style = getComputedStyle(node);
  const names = ["ink", "soft", "rule", "paper", "keep", "line", "band", "floor", "discard", "open", "crash"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Which cells of a canvas have a mark already: what names avoid, and what need not be drawn twice. */
class Cells {
  constructor(width, height, size) {
    this.size = size;
    this.columns = Math.ceil(width / size) + 1;
    this.marks = new Uint16Array(this.columns * (Math.ceil(height / size) + 1));
  }

  at(x, y) {
    return ((y / this.size) | 0) * this.columns + ((x / this.size) | 0);
  }

  /** Set a bit of a cell; whether it was set before. */
  put(x, y, bit = 1) {
    const cell = this.at(x, y);
    const had = this.marks[cell] & bit;
    this.marks[cell] |= bit;
    return had !== 0;
  }

  has(x, y) {
    return this.marks[this.at(x, y)] > 0;
  }
}

/** From values to pixels, for a canvas of width × height CSS pixels. */
export function frameOf(scene, width, height) {
  const small = width < 560;
  const box = { left: small ? 46 : 62, top: 10, right: width - (small ? 8 : 14), bottom: height - 34 };
  const kx = (box.right - box.left) / (scene.to - scene.from || 1);
  const ky = (box.bottom - box.top) / (scene.high - scene.low || 1);
  return {
    ...box,
    width,
    height,
    small,
    x: (v) => box.left + (v - scene.from) * kx,
    y: (v) => box.bottom - (v - scene.low) * ky,
    unx: (px) => scene.from + (px - box.left) / kx,
    inside: (v) => v >= scene.low && v <= scene.high,
  };
}

/** Draw a scene. `mask` (by index, or null) says which experiments a filter leaves in. */
export function paint(ctx, scene, frame, theme, mask = null) {
  ctx.clearRect(0, 0, frame.width, frame.height);
  axes(ctx, scene, frame, theme);
  ctx.save();
  ctx.beginPath();
  ctx.rect(frame.left, frame.top, frame.right - frame.left, frame.bottom - frame.top);
  ctx.clip();
  floor(ctx, scene, frame, theme);
  band(ctx, scene, frame, theme);
  const spots = points(ctx, scene, frame, theme, mask);
  steps(ctx, scene, frame, theme, spots);
  keeps(ctx, scene, frame, theme, mask);
  ctx.restore();
  nameSteps(ctx, scene, frame, theme, spots, FONT);
}

/** A line across the box at each of the values, and the value left of it, in the colours set. */
export function gridLines(ctx, box, values, y, gap) {
  const say = tickText(values);
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  ctx.beginPath();
  for (const v of values) {
    const at = Math.round(y(v)) + 0.5;
    ctx.moveTo(box.left, at);
    ctx.lineTo(box.right, at);
    ctx.fillText(say(v), box.left - gap, at);
  }
  ctx.stroke();
}

function axes(ctx, scene, frame, theme) {
  ctx.font = `12px ${FONT}`;
  ctx.lineWidth = 1;
  ctx.strokeStyle = theme.rule;
  ctx.fillStyle = theme.soft;
  const rows = ticks(scene.low, scene.high, Math.max(2, (frame.bottom - frame.top) / 56));
  gridLines(ctx, frame, rows, frame.y, 8);
  ctx.textAlign = "center";
  ctx.textBaseline = "top";
  const columns = ticks(scene.from, scene.to, Math.max(2, (frame.right - frame.left) / 90), scene.axis === "n")
    .filter((v) => v >= (scene.axis === "n" ? 1 : 0));
  const told = tickText(columns);
  for (const v of columns) ctx.fillText(told(v), frame.x(v), frame.bottom + 7);
  ctx.textAlign = "right";
  ctx.fillText(scene.axis === "n" ? "experiment" : "device hours", frame.right, frame.bottom + 20);
  const up = scene.study.sign > 0;
  ctx.textAlign = "left";
  ctx.font = `600 12px ${FONT}`;
  ctx.fillText(up ? "↑ higher is better" : "↓ lower is better", frame.left, frame.bottom + 20);
}

/** The baseline, and one standard deviation of one run about it. */
function floor(ctx, scene, frame, theme) {
  if (!scene.baseline) return;
  const { mean } = scene.baseline;
  const { sigma } = scene.study;
  if (sigma) {
    const top = frame.y(mean + sigma);
    ctx.fillStyle = theme.floor;
    ctx.globalAlpha = 0.75;
    ctx.fillRect(frame.left, top, frame.right - frame.left, Math.max(1, frame.y(mean - sigma) - top));
    ctx.globalAlpha = 1;
  }
  ctx.strokeStyle = theme.soft;
  ctx.setLineDash([4, 4]);
  ctx.beginPath();
  ctx.moveTo(frame.left, frame.y(mean));
  ctx.lineTo(frame.right, frame.y(mean));
  ctx.stroke();
  ctx.setLineDash([]);
}

const endOf = (scene, i) => scene.levels[i + 1]?.x ?? scene.to;

function band(ctx, scene, frame, theme) {
  ctx.fillStyle = theme.band;
  ctx.globalAlpha = 0.28;
  scene.levels.forEach((level, i) => {
    if (!level.half) return;
    const left = frame.x(level.x);
    const top = frame.y(level.mean + level.half);
    ctx.fillRect(left, top, frame.x(endOf(scene, i)) - left, frame.y(level.mean - level.half) - top);
  });
  ctx.globalAlpha = 1;
}

/** The incumbent's level as a step line; names had better not lie on it. */
function steps(ctx, scene, frame, theme, spots) {
  if (!scene.levels.length) return;
  ctx.strokeStyle = theme.line;
  ctx.lineWidth = 2;
  ctx.lineJoin = "miter";
  ctx.beginPath();
  scene.levels.forEach((level, i) => {
    ctx.lineTo(frame.x(level.x), frame.y(level.mean));
    ctx.lineTo(frame.x(endOf(scene, i)), frame.y(level.mean));
    const [left, right] = [frame.x(level.x), Math.min(frame.right, frame.x(endOf(scene, i)))];
    const [y, next] = [frame.y(level.mean), frame.y(scene.levels[i + 1]?.mean ?? level.mean)];
    for (let x = Math.max(frame.left, left); x <= right; x += 4) spots.put(x, y);
    for (let v = Math.min(y, next); v <= Math.max(y, next); v += 4) if (right >= frame.left) spots.put(right, v);
  });
  ctx.stroke();
}

/**
 * Experiments that were not kept, and incumbents' re-runs. What falls on a pixel that has its
 * mark already is not drawn again. Returns where marks are, in cells of 4 pixels.
 */
function points(ctx, scene, frame, theme, mask) {
  const { xs, codes, study, first, end } = scene;
  const { value, again } = study.cols;
  const many = end - first > MANY;
  const size = many ? 2.6 : 6;
  const layers = [[], [], [], [], []];
  const pale = [[], [], [], [], []];
  const seen = new Cells(frame.width, frame.height, 1);
  const spots = new Cells(frame.width, frame.height, 4);
  const edge = scene.worse === scene.low ? -1 : 1;
  const crashAt = scene.worse === scene.low ? frame.bottom - 7 : frame.top + 7;
  for (let i = first; i < end; i += 1) {
    const code = codes[i];
    const v = value[i];
    if (code === KEEP || (v === null && code !== CRASH)) continue;
    const x = frame.x(xs[i]);
    const y = code === CRASH ? crashAt : frame.y(Math.min(scene.high, Math.max(scene.low, v)));
    const left = !mask || mask[i];
    if (many && seen.put(x, y, 1 << (code * 2 + (left ? 1 : 0)))) continue;
    spots.put(x, y);
    const off = code === CRASH || frame.inside(v) ? 0 : v < scene.low ? -1 : 1;
    (left ? layers : pale)[code].push(x, off ? (off < 0 ? frame.bottom - (edge < 0 ? 18 : 6) : frame.top + (edge > 0 ? 18 : 6)) : y, off);
  }
  if (again) reruns(ctx, scene, frame, theme, many ? seen : null, spots);
  ctx.globalAlpha = 0.14;
  for (const code of [DISCARD, INCONCLUSIVE, CRASH, OPEN]) marks(ctx, pale[code], code, size, theme, many);
  for (const code of [DISCARD, INCONCLUSIVE, CRASH, OPEN]) {
    ctx.globalAlpha = many && code === DISCARD ? 0.6 : 0.9;
    marks(ctx, layers[code], code, size, theme, many);
  }
  ctx.globalAlpha = 1;
  return spots;
}

function marks(ctx, flat, code, size, theme, many) {
  if (!flat.length) return;
  const half = size / 2;
  const colour = [theme.line, theme.discard, theme.open, theme.keep, theme.crash][code];
  ctx.fillStyle = colour;
  ctx.strokeStyle = colour;
  ctx.lineWidth = code === CRASH ? (many ? 0.8 : 1.5) : 1.4;
  ctx.beginPath();
  for (let k = 0; k < flat.length; k += 3) {
    const x = flat[k], y = flat[k + 1], off = flat[k + 2];
    if (off) {
      const tip = half * 1.3 * off;
      ctx.moveTo(x, y - tip);
      ctx.lineTo(x - half * 1.2, y + tip * 0.7);
      ctx.lineTo(x + half * 1.2, y + tip * 0.7);
      ctx.lineTo(x, y - tip); // closePath takes ever longer on a path of thousands
    } else if (code === CRASH) {
      if (many) {
        ctx.moveTo(x, y - 4);
        ctx.lineTo(x, y + 4);
      } else {
        ctx.moveTo(x - 3.4, y - 3.4);
        ctx.lineTo(x + 3.4, y + 3.4);
        ctx.moveTo(x + 3.4, y - 3.4);
        ctx.lineTo(x - 3.4, y + 3.4);
      }
    } else if (code === INCONCLUSIVE) {
      const r = half * 1.35;
      ctx.moveTo(x, y - r);
      ctx.lineTo(x + r, y);
      ctx.lineTo(x, y + r);
      ctx.lineTo(x - r, y);
    } else if (many && code === DISCARD) {
      ctx.rect(x - half, y - half, size, size);
    } else {
      ctx.moveTo(x + half, y);
      ctx.arc(x, y, half, 0, 2 * Math.PI);
    }
  }
  if (code === CRASH || code === OPEN) ctx.stroke();
  else ctx.fill();
}

/** The incumbents' re-runs: what drifts when nothing changes. */
function reruns(ctx, scene, frame, theme, seen, spots) {
  const { again } = scene.study.cols;
  const r = seen ? 1.3 : 2.4;
  ctx.strokeStyle = theme.line;
  ctx.lineWidth = seen ? 0.5 : 0.9;
  ctx.globalAlpha = 0.6;
  ctx.beginPath();
  for (let i = scene.first; i < scene.end; i += 1) {
    for (const v of again[i] ?? []) {
      if (!frame.inside(v)) continue;
      const x = frame.x(scene.xs[i]), y = frame.y(v);
      if (seen?.put(x, y, 1 << 12)) continue;
      spots.put(x, y);
      ctx.moveTo(x + r, y);
      ctx.arc(x, y, r, 0, 2 * Math.PI);
    }
  }
  ctx.stroke();
  ctx.globalAlpha = 1;
}

/** Kept experiments over everything else. */
function keeps(ctx, scene, frame, theme, mask) {
  const { xs, study } = scene;
  const crowd = study.chain.length > 80;
  const radius = crowd ? 2.8 : frame.small ? 4.5 : 5.2;
  for (const left of [0, 1]) {
    ctx.beginPath();
    for (const n of study.chain) {
      const v = study.cols.value[n - 1];
      if (v === null || n - 1 < scene.first || n - 1 >= scene.end || (mask ? mask[n - 1] : 1) !== left) continue;
      ctx.moveTo(frame.x(xs[n - 1]) + radius, frame.y(v));
      ctx.arc(frame.x(xs[n - 1]), frame.y(v), radius, 0, 2 * Math.PI);
    }
    ctx.globalAlpha = left ? 1 : 0.25;
    ctx.strokeStyle = theme.paper;
    ctx.lineWidth = crowd ? 1 : 3;
    ctx.stroke();
    ctx.fillStyle = theme.keep;
    ctx.fill();
  }
  ctx.globalAlpha = 1;
}

/** Where an experiment's mark is, or null where it has none in view. */
export function spotOf(scene, frame, n) {
  const i = n - 1;
  if (i < scene.first || i >= scene.end) return null;
  const x = frame.x(scene.xs[i]);
  if (scene.codes[i] === CRASH) return { x, y: scene.worse === scene.low ? frame.bottom - 7 : frame.top + 7 };
  const v = scene.study.cols.value[i];
  if (v === null) return null;
  return { x, y: frame.y(Math.min(scene.high, Math.max(scene.low, v))) };
}

/** The experiment nearest to a place of the canvas, within `reach` pixels; else null. */
export function nearest(scene, frame, px, py, reach = 26) {
  let found = null;
  let least = reach * reach;
  for (let i = scene.first; i < scene.end; i += 1) {
    const dx = frame.x(scene.xs[i]) - px;
    if (dx < -reach) continue;
    if (dx > reach) break;
    const spot = spotOf(scene, frame, i + 1);
    if (!spot) continue;
    const dy = spot.y - py;
    const away = (dx * dx + dy * dy) * (scene.codes[i] === KEEP ? 0.6 : 1);
    if (away < least) {
      least = away;
      found = i + 1;
    }
  }
  return found;
}
