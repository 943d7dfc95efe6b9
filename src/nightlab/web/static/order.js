// Where an idea goes when it is moved: priorities alone say the order, the higher the sooner.

/**
 * Ideas as they will be once the lab has read what waits: {open, vetoed}, the most urgent first.
 * Each carries `asked`: something about it waits.
 */
export function asWished(ideas, waiting) {
  const known = new Map(ideas.map((idea) => [idea.id, { ...idea, asked: false }]));
  for (const message of waiting) {
    const idea = known.get(message.idea);
    if (!idea) continue;
    if (message.kind === "priority" && message.priority !== null) idea.priority = message.priority;
    else if (message.kind === "veto") idea.state = "vetoed";
    else continue;
    idea.asked = true;
  }
  const all = [...known.values()];
  return {
    open: all.filter((idea) => idea.state === "open").sort((a, b) => b.priority - a.priority || a.id - b.id),
    taken: all.filter((idea) => idea.state === "taken"),
    vetoed: all.filter((idea) => idea.state === "vetoed"),
  };
}

/** What to ask for so that the idea at `from` comes to `to`: [{id, priority}], the fewest changes. */
export function moved(open, from, to) {
  const order = [...open];
  const [idea] = order.splice(from, 1);
  order.splice(to, 0, idea);
  const after = order[to + 1]?.priority;
  const before = order[to - 1]?.priority;
  if (before === undefined) return [{ id: idea.id, priority: (after ?? 0) + 1 }];
  if (after === undefined) return [{ id: idea.id, priority: before - 1 }];
  const middle = (before + after) / 2;
  if (middle < before && middle > after) return [{ id: idea.id, priority: middle }];
  // Equal neighbours leave no room between them: it and those above it go up.
  const asked = [{ id: idea.id, priority: after + 1 }];
  let least = after + 1;
  for (let i = to - 1; i >= 0 && order[i].priority <= least; i -= 1) {
    least += 1;
    asked.push({ id: order[i].id, priority: least });
  }
  return asked;
}
