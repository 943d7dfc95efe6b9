"use strict";
// Everything here only adds to what the page is without it: points have titles and lead to their
// rows, rows open by themselves. Text is only ever set as text.

function plot(svg) {
  const tip = svg.parentElement.querySelector(".tip");
  const points = [...svg.querySelectorAll("a.p")];
  if (!points.length) return;
  let on = null;
  let touched = null;
  for (const point of points) {
    const title = point.querySelector("title");
    point.dataset.told = title.textContent;
    point.setAttribute("aria-label", title.textContent);
    point.setAttribute("tabindex", "-1");
    title.remove(); // or the browser would show it a second time
  }
  points[points.length - 1].setAttribute("tabindex", "0");

  function centre(point) {
    const box = point.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  }
  function show(point) {
    if (on) on.classList.remove("on");
    on = point;
    tip.hidden = !point;
    if (!point) return;
    point.classList.add("on");
    tip.textContent = point.dataset.told;
    const pan = svg.parentElement;
    const frame = pan.getBoundingClientRect();
    const [x, y] = centre(point);
    const left = x - frame.left + pan.scrollLeft;
    const least = pan.scrollLeft + 4;
    const most = pan.scrollLeft + frame.width - tip.offsetWidth - 4;
    tip.style.setProperty("left", Math.max(least, Math.min(left + 12, most)) + "px");
    const above = y - frame.top - tip.offsetHeight - 12;
    tip.style.setProperty("top", (above > 0 ? above : y - frame.top + 14) + "px");
  }
  function near(event, reach) {
    let found = null;
    let least = reach * reach;
    for (const point of points) {
      const [x, y] = point.spot;
      const away = (x - event.clientX) ** 2 + (y - event.clientY) ** 2;
      if (away < least) [found, least] = [point, away];
    }
    return found;
  }
  function measure() {
    for (const point of points) point.spot = centre(point);
  }
  svg.addEventListener("pointerenter", measure);
  addEventListener("scroll", measure, { passive: true });
  svg.parentElement.addEventListener("scroll", measure, { passive: true });
  addEventListener("resize", measure);
  svg.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    if (!points[0].spot) measure();
    const point = near(event, 16);
    if (point !== on) show(point);
    svg.style.setProperty("cursor", point ? "pointer" : "default");
  });
  svg.addEventListener("pointerleave", () => show(null));
  svg.addEventListener("click", (event) => {
    measure();
    const touch = event.pointerType === "touch";
    const point = near(event, touch ? 28 : 16);
    if (!point) return show(null);
    event.preventDefault();
    // A finger cannot hover: its first touch tells, its second follows.
    if (touch && touched !== point) {
      touched = point;
      return show(point);
    }
    location.hash = point.getAttribute("href");
  });
  points.forEach((point, place) => {
    point.addEventListener("focus", () => show(point));
    point.addEventListener("blur", () => show(null));
    point.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: points.length - 1 };
      if (event.key === "Escape") return show(null);
      const next = points[to[event.key]];
      if (!next) return;
      event.preventDefault();
      point.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  });
}

function filtering(filter) {
  const find = filter.querySelector(".find");
  const picks = [...filter.querySelectorAll(".pick input")];
  const rows = [...document.querySelectorAll(".exp")];
  const words = rows.map((row) => {
    const more = row.querySelector(".hypothesis");
    return (row.firstElementChild.textContent + " " + (more ? more.textContent : "")).toLowerCase();
  });
  const found = filter.querySelector(".found");
  const noun = found.textContent.trim().replace(/^\S+\s*/, "");
  function apply() {
    const asked = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kinds = picks.filter((pick) => pick.checked).map((pick) => pick.value);
    let shown = 0;
    rows.forEach((row, place) => {
      const fits = asked.every((word) => words[place].includes(word));
      row.hidden = !(fits && (!kinds.length || kinds.includes(row.dataset.verdict)));
      shown += !row.hidden;
    });
    found.textContent = shown === rows.length ? `${shown} ${noun}` : `${shown} of ${rows.length} ${noun}`;
  }
  filter.hidden = false;
  find.addEventListener("input", apply);
  for (const pick of picks) pick.addEventListener("change", apply);
  return () => {
    find.value = "";
    for (const pick of picks) pick.checked = false;
    apply();
  };
}

const clear = [...document.querySelectorAll(".filter")].map(filtering);
document.querySelectorAll("svg.plot").forEach(plot);

function arrive() {
  const row = /^#e\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
  for (const old of document.querySelectorAll(".exp.target")) old.classList.remove("target");
  if (!row) return;
  if (row.hidden) clear.forEach((each) => each());
  row.open = true;
  row.classList.add("target");
  row.scrollIntoView({ block: "start" });
  row.firstElementChild.focus({ preventScroll: true });
}
addEventListener("hashchange", arrive);
arrive();
