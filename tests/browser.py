"""A real Chromium for tests of what people open: no page may complain, or reach beyond this machine.

``page`` is the fixture; ``screenshot`` keeps what it shows where ``NIGHTLAB_SCREENSHOTS`` names a
folder, for a person to look at. Where there is no Chromium the tests that ask are skipped.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_FLAGS = (
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    # Not even a name is looked up: what a page tries to fetch elsewhere fails, and is told.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
)
_HERE = {"127.0.0.1", "localhost", "::1"}


def chromium() -> str | None:
    """The path of the browser; None without one. ``NIGHTLAB_CHROMIUM`` names another."""
    named = os.environ.get("NIGHTLAB_CHROMIUM")
    return named or next((found for name in _NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser():
    """One Chromium for a module of tests: while it is driven, no other event loop can run."""
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=[*_FLAGS])
        yield opened
        opened.close()


@pytest.fixture
def page(browser) -> Iterator:
    """A page of its own; the test fails on an error in its console, and on a request elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    opened = context.new_page()
    told: list[str] = []
    opened.on("console", lambda line: told.append(line.text) if line.type == "error" else None)
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("request", lambda request: told.extend(_elsewhere(request.url)))
    opened.on("websocket", lambda socket: told.extend(_elsewhere(socket.url)))
    opened.set_default_timeout(15_000)
    yield opened
    context.close()
    assert told == [], told


def _elsewhere(url: str) -> list[str]:
    parts = urlsplit(url)
    inside = parts.scheme in {"data", "blob", "about", "file"} or parts.hostname in _HERE
    return [] if inside else [f"a request left this machine: {url}"]


def screenshot(page, name: str, *, whole: bool = True) -> Path | None:
    """Keep what the page shows (all of its length if ``whole``); None where nobody asked."""
    folder = os.environ.get("NIGHTLAB_SCREENSHOTS")
    if not folder:
        return None
    path = Path(folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, full_page=whole)
    return path
