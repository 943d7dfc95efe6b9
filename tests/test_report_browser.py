"""The debrief as a person meets it: a real Chromium opens the file, offline, and uses it."""

import re

import pytest

from nightlab import phases, plot, report
from nightlab.events import Noted
from nightlab.model import Verdict
from nightlab.report import document

from .browser import screenshot
from .simulated import Idea, Night, night
from .test_report import of

PLAN = "## Phase: tuning (40 experiments)\n## Phase: architecture (25 experiments)\n## Phase: moonshots\n"
DIFF = """\
diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -12,3 +12,3 @@ DEPTH = 8
 WARMUP = 0.1
-LR = 0.04
+LR = 0.08  # </pre></script><script>alert(1)</script>
 BATCH = 64
"""
LOG = "\n".join(f"step {n:05d} | loss {3 / (n + 1):.4f} | dt 312 ms" for n in range(40))


def look(numbers):
    return {
        n: report.Evidence(DIFF if n > 1 else "", f"{LOG}\n---\nval_bpb: 0.99") for n in numbers
    }


def saved(made, folder, name="report"):
    history = made.fold()
    facts = report.facts(
        history,
        locked=False,
        now=made.at,
        phases=phases.parse(PLAN).phases,
        most_rows=document.ROWS,
    )
    text = report.html(facts, drawing=plot.inside(history, facts), look=look)
    path = folder / f"{name}.html"
    path.write_text(text)
    return path.as_uri()


@pytest.fixture(scope="module")
def made():
    made = night(90, seed=3, scale=0.003, extra={"peak_vram_mb": 41_000.0, "mfu": 38.2})
    made.record(Noted(text="try a lower warmup", author="Ada"))
    return made.end()


@pytest.fixture(scope="module")
def address(made, tmp_path_factory):
    return saved(made, tmp_path_factory.mktemp("night"))


def tip(page):
    return page.locator(".tip")


def test_the_plot_tells_what_is_pointed_at_and_leads_to_its_diff(page, address, made):
    page.goto(address)
    kept = max(e.number for e in made.history.settled() if e.verdict is Verdict.KEEP)
    point = page.locator(f'a.p[href="#e{kept}"]')
    point.scroll_into_view_if_needed()
    assert tip(page).is_hidden()
    box = point.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle[0] + 4, middle[1] + 3)
    assert tip(page).is_visible()
    told = tip(page).inner_text()
    experiment = made.history.experiments[kept]
    assert told.startswith(f"exp {kept} · keep · val_bpb")
    assert experiment.claim.description in told
    assert experiment.decision.reason in told
    screenshot(page, "report-hover", whole=False)
    page.mouse.click(*middle)
    row = page.locator(f"#e{kept}")
    assert row.get_attribute("open") is not None
    assert "+LR = 0.08" in row.locator(".diff").inner_text()
    assert "val_bpb: 0.99" in row.locator(".log").inner_text()
    assert row.locator("summary").evaluate("row => row.getBoundingClientRect().top") < 500
    screenshot(page, "report-experiment", whole=False)


def test_the_keyboard_goes_through_the_experiments(page, address):
    page.goto(address)
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('p')"):
            break
    assert tip(page).inner_text().startswith("exp 90 · ")
    page.keyboard.press("ArrowLeft")
    assert tip(page).inner_text().startswith("exp 89 · ")
    page.keyboard.press("Home")
    assert tip(page).inner_text().startswith("exp 1 · ")
    assert page.locator('a.p[tabindex="0"]').count() == 1
    page.keyboard.press("Escape")
    assert tip(page).is_hidden()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#e90"
    page.wait_for_selector("#e90[open]", state="attached")


def test_the_table_is_filtered_by_words_and_verdicts(page, address, made):
    page.goto(address)
    rows = page.locator(".exp:visible")
    assert rows.count() == 90
    page.locator(".find").fill("depth")
    wanted = [e for e in made.history.settled() if "depth" in e.claim.description.lower()]
    assert rows.count() == len(wanted) > 0
    assert page.locator(".found").inner_text() == f"{len(wanted)} of 90 experiments"
    page.locator(".find").fill("")
    page.locator('.pick input[value="keep"]').check()
    kept = sum(e.verdict is Verdict.KEEP for e in made.history.settled())
    assert rows.count() == kept
    page.locator('.pick input[value="crash"]').check()
    crashed = sum(e.verdict is Verdict.CRASH for e in made.history.settled())
    assert rows.count() == kept + crashed
    # A link to a row that is filtered away brings it back.
    hidden = next(e.number for e in made.history.settled() if e.verdict is Verdict.DISCARD)
    page.evaluate(f"location.hash = '#e{hidden}'")
    page.locator(f"#e{hidden}[open]").wait_for()
    assert rows.count() == 90


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "width"), [("desk", 1280), ("phone", 390)])
def test_it_fits_every_screen_and_reads_in_both_lights(page, address, scheme, name, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("svg.plot").bounding_box()["height"] > 150
    for what in ("body", ".soft", "a.p.keep", ".plot .step", ".verdict.crash", ".tile.naive b"):
        assert contrast(page, what) >= 4.5, what
    screenshot(page, f"report-{name}-{scheme}")


def contrast(page, what):
    """The contrast of an element's ink to the page, as WCAG 2 reckons it."""
    ink = page.locator(what).first.evaluate(
        "e => { const s = getComputedStyle(e); return e.ownerSVGElement ? s.fill : s.color; }"
    )
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_it_prints(page, address, tmp_path):
    page.emulate_media(color_scheme="dark")  # paper is white all the same
    page.goto(address)
    paper = page.pdf(format="A4", path=tmp_path / "report.pdf")
    assert paper.startswith(b"%PDF")
    pages = paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ")
    assert 2 <= pages <= 20
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".filter").is_hidden()
    page.set_viewport_size({"width": 794, "height": 1123})
    assert page.evaluate("document.documentElement.scrollWidth") == 794
    screenshot(page, "report-print")


def test_without_scripts_points_have_titles_and_rows_open(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("a.p title").first.text_content().startswith("exp 1 · keep")
    assert page.locator(".filter").is_hidden()
    page.locator("#e5 > summary").click()
    assert page.locator("#e5 .diff").is_visible()
    context.close()


EVIL = [
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>",
    "</title></script></style></pre><svg onload=\"document.title='owned'\">",
    "' onmouseover='document.title=1' \" autofocus onfocus=\"document.title='owned'\"",
    "javascript:document.title='owned'",
]


def test_hostile_words_stay_words(page, tmp_path):
    hostile = of(Night(tag="t"), *(Idea(w, 0.5, category=w, detail=w) for w in EVIL))
    hostile.record(Noted(text=EVIL[0]))
    page.goto(saved(hostile, tmp_path))
    assert page.title() == "Debrief of t"
    for row in page.locator(".exp > summary").all():
        row.click()
    for point in page.locator("a.p").all():
        point.hover(force=True)
    assert page.title() == "Debrief of t"
    assert page.locator("img, iframe, main script").count() == 0
    shown = [e.strip() for e in page.locator(".exp .words").all_inner_texts()]
    assert EVIL[0] in shown


def test_the_policy_stops_what_escaping_would_let_through(browser, address, tmp_path):
    """The second wall: even markup that got in could neither run nor load."""
    text = tmp_path / "planted.html"
    original = browser.new_page()
    original.goto(address)
    planted = original.content().replace(
        "<main>", "<main><script>document.title='owned'</script><p id=x style='color:red'>x</p>"
        "<img src='http://127.0.0.1:9/x.png' onerror=\"document.title='owned'\">", 1
    )  # fmt: skip
    original.close()
    text.write_text(planted)
    page = browser.new_page()
    refused, asked = [], []
    page.on("console", lambda line: refused.append(line.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(text.as_uri())
    assert page.title() == "Debrief of mar5"
    assert page.locator("#x").evaluate("e => getComputedStyle(e).color") != "rgb(255, 0, 0)"
    assert sum("Content Security Policy" in line for line in refused) >= 3
    page.close()


def test_two_thousand_rows_open_and_filter_at_once(page, tmp_path):
    large = of(
        Night(calibration_runs=2, looks=0, sigma=0.01),
        *(Idea(f"idea {n}", 0.05 if n % 200 == 0 else -0.5) for n in range(1999)),
    )
    page.goto(saved(large, tmp_path))
    assert page.locator(".exp").count() == 2000
    took = page.evaluate(
        """async () => {
            const find = document.querySelector('.find');
            const began = performance.now();
            find.value = 'idea 77';
            find.dispatchEvent(new Event('input'));
            await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
            return performance.now() - began;
        }"""
    )
    shown = page.locator(".exp:visible").all_inner_texts()
    assert 11 <= len(shown) < 200
    assert all("77" in row for row in shown)
    assert took < 3000
