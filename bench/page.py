"""The dashboard's page on a long study, in a real Chromium: first paint, redraws, scrolling.

    python -m bench.page [--experiments 20000] [--loads 7] [--json]

The study of `bench.ui` is written as a journal, `nightlab ui` started on it, and the study's page
opened again and again. Times are the browser's own (its performance entries); where other work
shares the machine, the smallest figures are the ones to read.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.ui import project, served

_SCROLL = """async () => {
  const view = document.querySelector(".viewport"), spent = [];
  for (let i = 0; i < 60; i += 1) {
    const began = performance.now();
    view.scrollTop += 3000;
    view.dispatchEvent(new Event("scroll"));
    spent.push(performance.now() - began);
    await new Promise((done) => requestAnimationFrame(done));
  }
  return spent;
}"""
_REDRAW = """async () => {
  const button = () => document.querySelector(".tools [data-key=all]");
  performance.clearMeasures();
  for (let i = 0; i < 30; i += 1) {
    button().click();
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  }
  return performance.getEntriesByName("nightlab: plot").map((e) => e.duration);
}"""
_FILTER = """async () => {
  const [{ choose, everything }, { Study }, { get }] = await Promise.all(
    ["filter", "store", "api"].map((name) => import(`/static/${name}.js`)));
  const study = new Study("0/bench");
  study.apply({ ...(await get("/api/studies/0/bench/rows")), full: true });
  const spent = [];
  for (const words of ["d", "dr", "dro", "drop", "dropout", "dropout 0.3"]) {
    const began = performance.now();
    choose(study, { ...everything(), words });
    spent.push(performance.now() - began);
  }
  return spent;
}"""


def load(page: Any, url: str, count: int) -> dict[str, float]:
    """Milliseconds from navigation to the first pixels, and to the plot with all experiments."""
    page.goto("about:blank")
    page.goto(url)
    page.wait_for_selector(f".plot[data-drawn='{count}']", timeout=120_000)
    told: dict[str, float] = page.evaluate(
        """() => {
          const plot = performance.getEntriesByName("nightlab: plot")[0];
          const fetched = performance.getEntriesByType("resource");
          const rows = fetched.find((e) => e.name.endsWith("/rows"));
          return {
            first_paint_ms: performance.getEntriesByName("first-contentful-paint")[0].startTime,
            rows_ms: rows.responseEnd - rows.startTime,
            plot_ms: plot.startTime + plot.duration,
          };
        }"""
    )
    return told


def measure(folder: Path, count: int, loads: int, chromium: str) -> dict[str, Any]:
    """All figures of one machine."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  of the tests' environment

    writer, file = project(folder, count)
    file.close()
    with served(folder) as (told, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        page = browser.new_page(viewport={"width": 1360, "height": 900})
        url = told["url"].split("login?")[0] + "#/0/bench"
        page.goto(told["url"] + "#/0/bench")
        page.wait_for_selector(f".plot[data-drawn='{count}']", timeout=120_000)
        times = [load(page, url, count) for _ in range(loads)]
        figures: dict[str, Any] = {name: _spread([one[name] for one in times]) for name in times[0]}
        figures["redraw_ms"] = _spread(page.evaluate(_REDRAW))
        figures["scroll_ms"] = _spread(page.evaluate(_SCROLL))
        figures["search_ms"] = _spread(page.evaluate(_FILTER))
        figures["rows_in_the_page"] = page.locator(".row").count()
        figures["keeps"] = writer.history.counts.keep
        browser.close()
    return figures


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "min": round(min(values), 1),
        "median": round(statistics.median(values), 1),
        "max": round(max(values), 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the dashboard's page on a long study")
    parser.add_argument("--experiments", type=int, default=20_000)
    parser.add_argument("--loads", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    chromium = os.environ.get("NIGHTLAB_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        sys.exit("there is no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), asked.experiments, asked.loads, chromium)
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.machine()}"
    if asked.json:
        print(json.dumps({"machine": machine, **figures}, indent=2))
        return
    print(machine)
    for label, found in figures.items():
        print(f"{label:18}", found)


if __name__ == "__main__":
    main()
