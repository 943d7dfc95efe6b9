// Small drawings: a run's curve against the incumbent's, and a study's progress on a card.

import { h } from "./dom.js";
import { line, number } from "./format.js";
import { gridLines, themeOf } from "./paint.js";
import { sized } from "./plot.js";
import { levelsOf, ticks } from "./scene.js";

/** What a run prints on its way, against the incumbent's own. Returns {node, draw(run)}. */
export function curveBox() {
  const canvas = h("canvas", { role: "img" });
  const none = h("p", { class: "soft curve-none" }, "no curve yet: this run has printed no value of a step");
  const node = h("div", { class: "curve" }, canvas, none);
  let run = null;
  const watch = new ResizeObserver(() => run && draw(run));
  watch.observe(node);
  function draw(now) {
    run = now;
    const own = now.curve?.points ?? [];
    const theirs = now.incumbent_curve?.points ?? [];
    const has = own.length + theirs.length > 1;
    none.hidden = has;
    canvas.hidden = !has;
    if (!has || !node.clientWidth) return;
    const name = line(now.curve?.name ?? now.incumbent_curve?.name, 40);
    const last = own.length ? number(own[own.length - 1][1]) : "none";
    canvas.setAttribute("aria-label", `${name} of this run, last ${last}, against the incumbent's curve`);
    curves(sized(canvas, node.clientWidth, node.clientHeight), node, own, theirs, name, now.deadline_seconds);
  }
  return { node, draw, close: () => watch.disconnect() };
}

function curves(ctx, node, own, theirs, name) {
  const theme = themeOf(node);
  const { clientWidth: width, clientHeight: height } = node;
  const box = { left: 48, right: width - 10, top: 18, bottom: height - 20 };
  const both = [...own, ...theirs];
  const end = Math.max(...both.map((p) => p[0])) || 1;
  const [low, high] = robust(both.map((p) => p[1]));
  const x = (s) => box.left + (s / end) * (box.right - box.left);
  const y = (v) => box.bottom - ((Math.min(high, Math.max(low, v)) - low) / (high - low || 1)) * (box.bottom - box.top);
  ctx.clearRect(0, 0, width, height);
  ctx.font = "11px ui-sans-serif, system-ui, sans-serif";
  ctx.fillStyle = theme.soft;
  ctx.strokeStyle = theme.rule;
  ctx.lineWidth = 1;
  gridLines(ctx, box, ticks(low, high, 3), y, 6);
  ctx.textAlign = "left";
  ctx.fillText(name, box.left, 8);
  ctx.textAlign = "right";
  ctx.fillText(`${Math.round(end)} s`, box.right, height - 8);
  trace(ctx, theirs, x, y, theme.soft, [5, 4], 1.4);
  trace(ctx, own, x, y, theme.line, [], 2.2);
}

function trace(ctx, points, x, y, colour, dash, width) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.setLineDash(dash);
  ctx.beginPath();
  for (const [s, v] of points) ctx.lineTo(x(s), y(v));
  ctx.stroke();
  ctx.setLineDash([]);
}

/** Bounds of a curve without its first fall: the 2 % and 92 % quantiles, with some air. */
function robust(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const [low, high] = sorted.length > 12 ? [sorted[0], at(0.92)] : [sorted[0], at(1)];
  const air = (high - low || Math.abs(high) * 0.05 || 1) * 0.06;
  return [low - air, high + air];
}

/** A study's progress, small: what was tried, and the incumbent's steps. */
export function drawSmall(canvas, study) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !study.loaded) return;
  const ctx = sized(canvas, width, height);
  const theme = themeOf(canvas);
  ctx.clearRect(0, 0, width, height);
  const levels = levelsOf(study, "n");
  if (!levels.length) return;
  const means = levels.map((l) => l.mean);
  const pad = Math.max((Math.max(...means) - Math.min(...means)) * 0.35, 3 * (study.sigma ?? 0)) || Math.abs(means[0]) * 0.02 || 1;
  const [low, high] = [Math.min(...means) - pad, Math.max(...means) + pad];
  const x = (n) => 3 + ((n - 1) / Math.max(1, study.size - 1)) * (width - 8);
  const y = (v) => height - 3 - ((v - low) / (high - low)) * (height - 6);
  ctx.fillStyle = theme.discard;
  ctx.globalAlpha = 0.55;
  const every = Math.max(1, Math.floor(study.size / 1500));
  for (let i = 0; i < study.size; i += every) {
    const v = study.cols.value[i];
    if (v !== null && v >= low && v <= high) ctx.fillRect(x(i + 1) - 1, y(v) - 1, 2, 2);
  }
  ctx.globalAlpha = 1;
  ctx.strokeStyle = theme.line;
  ctx.lineWidth = 1.8;
  ctx.beginPath();
  levels.forEach((level, i) => {
    ctx.lineTo(x(level.x), y(level.mean));
    ctx.lineTo(x(levels[i + 1]?.x ?? study.size), y(level.mean));
  });
  ctx.stroke();
  ctx.fillStyle = theme.keep;
  for (const level of levels.slice(1)) {
    ctx.beginPath();
    ctx.arc(x(level.x), y(level.mean), 2.6, 0, 2 * Math.PI);
    ctx.fill();
  }
}
