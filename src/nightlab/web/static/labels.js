// Names beside the kept steps, placed so that none covers another.

import { line } from "./format.js";

const MOST = 14;
const CHARS = 34;

/**
 * Name the kept steps on the better, empty side of the line, the largest first; what finds no
 * place has no label. `spots` are the cells of 4 pixels that have a mark.
 */
export function nameSteps(ctx, scene, frame, theme, spots, font) {
  const room = Math.min(MOST, Math.floor((frame.right - frame.left) / 75));
  const found = scene.levels
    .slice(1)
    .map((level, i) => ({ ...level, size: Math.abs(level.mean - scene.levels[i].mean) }))
    .filter((s) => s.x >= scene.from && s.x <= scene.to && frame.inside(s.mean))
    .sort((a, b) => b.size - a.size)
    .slice(0, room);
  ctx.font = `11.5px ${font}`;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  ctx.lineJoin = "round";
  const taken = [];
  for (const step of found) {
    const words = line(scene.study.cols.description[step.n - 1], CHARS);
    const size = { width: ctx.measureText(words).width, height: 14 };
    const at = { x: frame.x(step.x), y: frame.y(step.mean) };
    const box = placed(size, at, frame, taken, spots, scene.study.sign > 0 ? -1 : 1);
    if (!box) continue;
    taken.push(box);
    write(ctx, words, box, at, theme);
  }
}

/** The cheapest free box near a step: close to it, over few marks, over no other label. */
function placed(size, at, frame, taken, spots, side) {
  let chosen = null;
  let least = 150;
  for (let away = 13; away <= 125; away += 8) {
    for (const shift of [-1, 0, -0.5, -0.75, -0.25]) {
      const left = at.x + 5 + shift * (size.width + 10);
      const middle = at.y + side * away;
      const box = { left, top: middle - size.height / 2, right: left + size.width, bottom: middle + size.height / 2, away };
      if (box.left < frame.left + 2 || box.right > frame.right) continue;
      if (box.top < frame.top || box.bottom > frame.bottom - 2) continue;
      if (taken.some((other) => overlap(box, other, at))) continue;
      const cost = away + (shift === -1 || shift === 0 ? 0 : 6) + 7 * covered(box, spots);
      if (cost < least) {
        least = cost;
        chosen = box;
      }
    }
  }
  return chosen;
}

function overlap(a, b, at) {
  if (a.left < b.right + 6 && b.left < a.right + 6 && a.top < b.bottom + 2 && b.top < a.bottom + 2) return true;
  // Nor may the hairline from the step to its name cross a name.
  const [up, down] = [Math.min(at.y, a.top), Math.max(at.y, a.bottom)];
  return at.x > b.left - 3 && at.x < b.right + 3 && up < b.bottom && b.top < down;
}

function covered(box, spots) {
  let marks = 0;
  for (let x = box.left; x <= box.right; x += spots.size) {
    for (let y = box.top; y <= box.bottom; y += spots.size) if (spots.has(x, y)) marks += 1;
  }
  return marks;
}

function write(ctx, words, box, at, theme) {
  const middle = (box.top + box.bottom) / 2;
  if (box.away > 24) {
    ctx.strokeStyle = theme.soft;
    ctx.globalAlpha = 0.55;
    ctx.lineWidth = 0.8;
    ctx.beginPath();
    ctx.moveTo(at.x, at.y + Math.sign(middle - at.y) * 6);
    ctx.lineTo(Math.min(box.right, Math.max(box.left, at.x)), middle > at.y ? box.top : box.bottom);
    ctx.stroke();
    ctx.globalAlpha = 1;
  }
  ctx.strokeStyle = theme.paper;
  ctx.lineWidth = 3.5;
  ctx.strokeText(words, box.left, middle);
  ctx.fillStyle = theme.ink;
  ctx.fillText(words, box.left, middle);
}
