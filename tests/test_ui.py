"""The dashboard in a real browser, before a real server, beside a real lab."""

import math
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from nightlab import journal
from nightlab.config import Paths
from nightlab.events import FinalDecided, FinalStarted
from nightlab.final import Contest, Result, Side, Word
from nightlab.final import Plan as FinalPlan
from nightlab.plot.scene import scene_of
from nightlab.report import words
from nightlab.stats import t_quantile

from .browser import screenshot
from .simulated import BASELINE, Idea, Night, night
from .support import make_project
from .ui_support import Dashboard, Lab, Wire, learning, put

STATIC = Path(__file__).parent.parent / "src" / "nightlab" / "web" / "static"
INDEX = STATIC.parent / "templates" / "index.html"
HOSTILE = {
    "markup": '<img src=x onerror="window.pwned=1"><b>bold</b> & </script><script>window.pwned=1</script>',
    "template": "${window.pwned=1} {{constructor.constructor('window.pwned=1')()}} javascript:window.pwned=1",
    "bidi": "safe \u202etxt.exe\u202c \u2066hidden\u2069 \u200b\u200d\ufeff end",
    "control": "a\x1b[31mred\x07\r\nnext\ttab\x7f",
    "long": "x" * 1_000_000,
    "zalgo": "a" + "\u0301" * 400,
    "address": "](javascript:alert(1)) http://example.com/",
}


def finalized(made):
    """The night with a finalization of its incumbent that calls it a win."""
    history, none = made.history, Side(mean=1.0, sd=None, n=0)
    plan = FinalPlan(
        number=1, baseline=history.base_commit, final=history.tip,
        experiment=history.incumbent_number, objective=history.study.objective, pairs=0, seeds=(),
        lot=0, sigma=None, df=0, gain=None, kept=(), ablated=(), blocks=0, recheck=0, full=0,
        run_s=1.0, full_s=1.0, device_s=1.0,
    )  # fmt: skip
    made.record(FinalStarted(plan=plan))
    claim = Contest(arm="final", mine=none, against=none, planned=0, n=0)
    found = Result(word=Word.WIN, reason="it holds", chosen="final", claim=claim)
    made.record(FinalDecided(result=found))
    return made


class World:
    """Two projects and the dashboard that shows them; a lab works in the first."""

    def __init__(self, folder: Path) -> None:
        self.first = learning(folder / "digits")
        self.second = make_project(folder / "nanochat")
        self.night = night(60, seed=1, tag="mar5")
        put(self.second, self.night, whole=True)
        put(self.second, finalized(night(40, seed=5, tag="mar6")))
        self.lab = Lab(self.first, "live")
        soon(Paths(self.first).journal("live").exists)
        self.dashboard = Dashboard(self.first, self.second)

    def close(self) -> None:
        self.lab.close()
        self.dashboard.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory, browser):
    made = World(tmp_path_factory.mktemp("ui"))
    yield made
    made.close()


@pytest.fixture
def show(world, page):
    """Open an address of the dashboard, logged in."""

    def to(fragment=""):
        page.goto(world.dashboard.at(fragment))
        expect(page.locator("main h1, main .empty").first).to_be_visible()
        return page

    return to


def events(root, tag, kind):
    return [e for e in journal.read(Paths(root).journal(tag)) if type(e).__name__ == kind]


def soon(check, seconds=30.0):
    """What ``check`` gives once it is true."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
    return found


def drawn(page, count):
    expect(page.locator(f".plot[data-drawn='{count}']")).to_be_visible()


def test_the_gain_is_called_what_it_is(show):
    expect(show("#/1/mar5").locator("main")).to_contain_text(", provisional")
    expect(show("#/1/mar6").locator("main")).to_contain_text(", finalized: win")
    expect(show("#/1/mar6").locator("main")).not_to_contain_text("provisional")


# --- the plot ---------------------------------------------------------------------------------


def test_the_plot_shows_every_verdict_and_a_pointer_shows_what_it_points_at(show, world):
    page = show("#/1/mar5")
    drawn(page, 60)
    found = page.evaluate(
        """() => {
          const canvas = document.querySelector(".base"), ctx = canvas.getContext("2d");
          const data = ctx.getImageData(0, 0, canvas.width, canvas.height).data;
          const style = getComputedStyle(canvas), seen = {};
          for (const name of ["keep", "discard", "crash", "line"]) {
            const hex = style.getPropertyValue(`--${name}`).trim();
            const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
            seen[name] = 0;
            for (let i = 0; i < data.length; i += 4)
              if (Math.abs(data[i]-r) + Math.abs(data[i+1]-g) + Math.abs(data[i+2]-b) < 60 && data[i+3] > 200) seen[name] += 1;
          }
          return seen;
        }"""
    )
    assert all(count > 20 for count in found.values()), found
    box = page.locator(".over").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 2)
    for share in (0.3, 0.4, 0.5, 0.6, 0.7):
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * share)
        if page.locator(".tip").is_visible():
            break
    text = page.locator(".tip").inner_text()
    number = int(re.search(r"exp (\d+)", text)[1])
    told = world.night.history.experiments[number]
    assert told.claim.description[:20] in text
    assert told.verdict.value in text
    screenshot(page, "ui-study")


def test_arrow_keys_go_from_keep_to_keep_and_enter_opens(show, world):
    page = show("#/1/mar5")
    drawn(page, 60)
    page.locator(".over").focus()
    seen = []
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
        text = page.locator(".tip-head").inner_text()
        assert "keep" in text
        seen.append(int(re.search(r"exp (\d+)", text)[1]))
    kept = [e.number for e in world.night.history.settled() if e.verdict.value == "keep"]
    assert seen == kept[:3]
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text(f"exp {seen[-1]}")
    assert page.url.endswith(f"#/1/mar5/exp/{seen[-1]}")


def test_a_finger_first_sees_and_then_opens(browser, world):
    context = browser.new_context(viewport={"width": 375, "height": 740}, has_touch=True)
    page = context.new_page()
    page.goto(world.dashboard.at("#/1/mar5"))
    drawn(page, 60)
    box = page.locator(".over").bounding_box()
    spots = [(x, y) for x in range(80, 340, 20) for y in range(30, 220, 20)]
    for x, y in spots:
        page.touchscreen.tap(box["x"] + x, box["y"] + y)
        if page.locator(".tip").is_visible():
            break
    number = re.search(r"exp (\d+)", page.locator(".tip-head").inner_text())[1]
    assert "/exp/" not in page.url
    page.touchscreen.tap(box["x"] + x, box["y"] + y)
    expect(page.locator("h1")).to_contain_text(f"exp {number}")
    context.close()


def test_a_range_of_the_plot_is_chosen_with_the_pointer_and_given_back(show):
    page = show("#/1/mar5")
    drawn(page, 60)
    box = page.locator(".over").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 60, steps=4)
    page.mouse.up()
    expect(page.get_by_role("button", name="whole study")).to_be_visible()
    page.locator(".over").focus()
    page.keyboard.press("Home")
    assert int(re.search(r"exp (\d+)", page.locator(".tip-head").inner_text())[1]) > 20
    page.get_by_role("button", name="device hours").click()
    page.get_by_role("button", name="all values").click()
    page.get_by_role("button", name="whole study").click()
    expect(page.get_by_role("button", name="whole study")).to_have_count(0)


def test_the_incumbents_re_runs_are_told_where_they_were_made(show, world):
    page = show("#/1/mar5")
    told = page.evaluate(
        """async () => {
          const { get } = await import("/static/api.js");
          const { n, again } = (await get("/api/studies/1/mar5/rows")).columns;
          return n.flatMap((number, i) => (again[i] ?? []).map((value) => [number, value]));
        }"""
    )
    runs = [e.run for e in world.night.events if type(e).__name__ == "RunFinished"]
    made = [(r.occasion, r.metrics["val_bpb"]) for r in runs if r.purpose == "incumbent"]
    assert len(made) > 5
    told, made = sorted(told), sorted(made)
    assert [n for n, _ in told] == [n for n, _ in made]
    assert [v for _, v in told] == pytest.approx([v for _, v in made], rel=1e-6)


def test_the_axis_is_that_of_the_debrief(show, world):
    page = show("#/1/mar5")
    drawn(page, 60)
    low, high, levels = page.evaluate(
        """async () => {
          const [S, T, A] = await Promise.all(["store", "scene", "api"].map((n) => import(`/static/${n}.js`)));
          const study = new S.Study("1/mar5");
          study.status = await A.get("/api/studies/1/mar5/status");
          study.apply({ ...(await A.get("/api/studies/1/mar5/rows")), full: true });
          const scene = T.sceneOf(study, { axis: "n", from: null, to: null, all: false });
          return [scene.low, scene.high, scene.levels.map((l) => [l.n, l.mean, l.half])];
        }"""
    )
    scene = scene_of(world.night.fold())
    assert (low, high) == pytest.approx((scene.low, scene.high), rel=1e-4)
    assert [n for n, _, _ in levels] == [e.number for e in scene.chain]
    assert [m for _, m, _ in levels] == pytest.approx([e.mean for e in scene.levels], rel=1e-6)
    t = t_quantile(0.95, scene.noise.df)
    halves = [t * scene.noise.sigma / math.sqrt(e.n) for e in scene.levels]
    assert [half for _, _, half in levels] == pytest.approx(halves, rel=1e-6)


# --- the table --------------------------------------------------------------------------------


def test_the_table_is_filtered_searched_and_sorted(show, world):
    page = show("#/1/mar5")
    drawn(page, 60)
    settled = world.night.history.settled()
    crashed = [e for e in settled if e.verdict.value == "crash"]
    page.get_by_role("button", name=re.compile("^crash")).click()
    expect(page.locator(".count")).to_have_text(f"{len(crashed)} of 60 experiments")
    expect(page.locator(".row")).to_have_count(len(crashed))
    page.get_by_role("button", name="clear").click()
    page.locator("input[type=search]").fill("dropout")
    matching = [e for e in settled if "dropout" in e.claim.description.lower()]
    expect(page.locator(".count")).to_have_text(f"{len(matching)} of 60 experiments")
    page.keyboard.press("Escape")
    page.get_by_label("category").select_option("architecture")
    of_it = [e for e in settled if e.claim.category == "architecture"]
    expect(page.locator(".count")).to_have_text(f"{len(of_it)} of 60 experiments")
    page.get_by_role("button", name="clear").click()
    page.get_by_role("button", name="value", exact=True).click()
    values = [
        float(text)
        for text in page.locator(".row .c-value").all_inner_texts()
        if text not in ("", "—")
    ]
    assert len(values) > 10
    assert values == sorted(values)  # lower is better: the better first


def test_only_rows_in_sight_exist(show):
    page = show("#/1/mar5")
    drawn(page, 60)
    assert page.locator(".row").count() < 60
    assert page.locator(".grid").get_attribute("aria-rowcount") == "61"
    page.locator(".viewport").evaluate("v => v.scrollTop = v.scrollHeight")
    expect(page.locator(".row[data-n='1']")).to_be_visible()


# --- a lab that runs --------------------------------------------------------------------------


def test_what_runs_now_has_its_curve_its_time_and_its_log(show):
    page = show("#/0/live")
    expect(page.locator(".run .tail").first).to_contain_text("val_loss", timeout=40_000)
    expect(page.locator(".state.running")).to_be_visible()
    expect(page.locator(".run .time").first).to_contain_text("killed at")
    expect(page.locator(".run .curve canvas").first).to_be_visible(timeout=30_000)
    screenshot(page, "ui-live")


def test_new_verdicts_come_by_themselves_and_are_said_aloud(show, world):
    page = show("#/0/live")
    soon(lambda: len(events(world.first, "live", "Settled")) >= 2, 60)
    expect(page.locator("#news")).to_contain_text("xperiment", timeout=40_000)
    count = len(events(world.first, "live", "Settled"))
    expect(page.locator(f".row[data-n='{count}']")).to_be_visible()


def test_a_note_reaches_the_journal_and_is_shown_with_who_wrote_it(show, world):
    page = show("#/0/live")
    page.keyboard.press("n")
    page.keyboard.type("try a lower warmup <b>please</b>")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).not_to_be_empty()
    noted = soon(lambda: [e for e in events(world.first, "live", "Noted") if "warmup" in e.text])
    assert noted[0].text == "try a lower warmup <b>please</b>"
    assert noted[0].author
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Asked").click()
    expect(page.locator(".asked-tab")).to_contain_text("try a lower warmup <b>please</b>")
    expect(page.locator(".asked-tab")).to_contain_text("wrote a note")
    expect(page.locator(".asked-tab")).to_contain_text(noted[0].author)


def test_ideas_are_added_moved_and_vetoed_with_the_keyboard(show, world):
    page = show("#/0/live/backlog")
    for text in ("first idea", "second idea", "third idea"):
        page.locator("textarea[aria-label='An idea to try']").fill(text)
        page.keyboard.press("Enter")
        expect(page.locator(".idea", has_text=text)).to_be_visible()
    soon(lambda: len(events(world.first, "live", "IdeaAdded")) >= 3)
    expect(page.locator(".idea[tabindex]")).to_have_count(3)
    # A person's idea goes before all that wait: the last is on top.
    expect(page.locator(".idea .what")).to_have_text(["third idea", "second idea", "first idea"])
    page.locator(".idea", has_text="third idea").focus()
    page.keyboard.press("Shift+ArrowDown")
    expect(page.locator(".idea .what")).to_have_text(["second idea", "third idea", "first idea"])
    soon(lambda: events(world.first, "live", "IdeaChanged"))
    page.locator(".idea", has_text="first idea").focus()
    page.keyboard.press("v")
    expect(page.locator(".idea[tabindex] .what")).to_have_text(["second idea", "third idea"])
    vetoed = soon(
        lambda: [
            e for e in events(world.first, "live", "IdeaChanged") if e.idea.state.value == "vetoed"
        ]
    )
    assert vetoed[0].idea.text == "first idea"
    screenshot(page, "ui-backlog")


def test_the_page_of_an_experiment_has_claim_evidence_runs_diff_log_and_lineage(show, world):
    soon(lambda: len(events(world.first, "live", "Settled")) >= 2, 60)
    page = show("#/0/live/exp/2")
    expect(page.locator(".l.add").first).to_be_visible()
    shown = page.locator(".l.del .tx").all_inner_texts()
    assert any(text.startswith(("LR = 0.1", "DEPTH = 2")) for text in shown)
    expect(page.locator(".log")).to_contain_text("step 3 val_loss")
    panel = page.locator("main")
    for said in ("Claim", "Decision", "noise of one run", "seed", "Lineage", "proposed by"):
        expect(panel).to_contain_text(said)
    expect(page.locator(".chain li").first).to_contain_text("exp 1")
    screenshot(page, "ui-experiment")
    page.keyboard.press("[")
    expect(page.locator("h1")).to_contain_text("exp 1")
    expect(panel).to_contain_text("untouched code")
    expect(page.locator(".chain").first.locator("li")).to_have_count(1)


def test_pause_resume_and_stop_are_asked_confirmed_and_told(show, world):
    lab = Lab(world.first, "brief")
    try:
        soon(Paths(world.first).journal("brief").exists)
        page = show("#/")
        page.get_by_role("link", name="brief").click(timeout=30_000)
        page.get_by_role("button", name="Pause").click()
        expect(page.locator(".state.paused")).to_be_visible(timeout=30_000)
        assert events(world.first, "brief", "Paused")
        expect(page.locator(".doing")).to_contain_text("Paused")
        page.get_by_role("button", name="Resume").click()
        expect(page.locator(".state.running")).to_be_visible(timeout=30_000)
        page.get_by_role("button", name="Stop").click()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Stop now").click()
        expect(page.locator("dialog")).to_contain_text("Kill the runs in flight?")
        page.get_by_role("button", name="Do not").click()
        assert not events(world.first, "brief", "SessionEnded")
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="After these runs").click()
        expect(page.locator(".state.stopped")).to_be_visible(timeout=40_000)
        assert lab.process.wait(30) is not None
        assert events(world.first, "brief", "SessionEnded")
        expect(page.locator(".doing")).to_contain_text("No lab works on this study")
        # Nobody listens now: what is written waits, and the page says so.
        page.locator("textarea[aria-label='A note to the researcher']").fill("for tomorrow")
        page.keyboard.press("Enter")
        expect(page.locator("#toast")).to_contain_text("again")
        page.get_by_role("link", name="Asked").click()
        expect(page.locator(".asked-tab")).to_contain_text("will be read when the lab runs again")
        for did in ("paused the lab", "let the lab go on", "stopped the lab"):
            expect(page.locator(".asked-tab")).to_contain_text(did)
        # It goes on, reads what waited, and is stopped at once.
        lab = Lab(world.first, "brief")
        expect(page.locator(".asked-tab .asked")).to_have_count(0, timeout=30_000)
        assert [e.text for e in events(world.first, "brief", "Noted")] == ["for tomorrow"]
        page.get_by_role("button", name="Stop").click(timeout=30_000)
        page.get_by_role("button", name="Stop now").click()
        page.get_by_role("button", name="Kill them").click()
        assert lab.process.wait(30) is not None
    finally:
        lab.close()


# --- several studies --------------------------------------------------------------------------


def test_studies_are_seen_side_by_side_and_compared(show):
    page = show("#/")
    expect(page.locator(".card").nth(2)).to_be_visible()
    screenshot(page, "ui-overview")
    for tag in ("mar5", "mar6"):
        page.get_by_label(f"compare {tag}").check()
    page.get_by_role("link", name="Compare 2").click()
    expect(page.locator(".stage[data-drawn='2']")).to_be_visible()
    expect(page.locator(".plain tbody tr")).to_have_count(2)
    assert page.url.endswith("#/compare/1/mar5/1/mar6") or page.url.endswith(
        "#/compare/1/mar6/1/mar5"
    )
    page.get_by_role("button", name="device hours").click()
    expect(page.get_by_role("button", name="device hours")).to_have_attribute(
        "aria-pressed", "true"
    )
    screenshot(page, "ui-compare")


def test_a_project_without_a_study_says_what_to_do_and_shows_one_when_it_comes(page, tmp_path):
    root = make_project(tmp_path / "new")
    dashboard = Dashboard(root)
    try:
        page.goto(dashboard.at())
        expect(page.locator(".empty")).to_contain_text("nightlab run")
        screenshot(page, "ui-empty")
        put(root, night(3, tag="mar9"))
        expect(page.locator("#bar")).to_contain_text("mar9", timeout=30_000)
        drawn(page, 3)
    finally:
        dashboard.close()


# --- for everyone -----------------------------------------------------------------------------


def test_the_keyboard_alone_goes_everywhere(show):
    page = show("#/1/mar5")
    drawn(page, 60)
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_contain_text("Keyboard")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("architecture exp")  # no experiment has both
    expect(page.locator(".tried .empty")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    for key in "jjk":
        page.keyboard.press(key)
    expect(page.locator(".row.at")).to_have_attribute("data-n", "60")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("exp 59")
    expect(page.locator(".l.add .tx")).to_have_text("LR = 59")
    expect(page.locator(".log")).to_contain_text("the log of run")
    page.keyboard.press("]")
    expect(page.locator("h1")).to_contain_text("exp 60")
    page.keyboard.press("Escape")
    expect(page.locator(".tabs a[aria-current]")).to_have_text("Experiments")
    for key, name in (("2", "Backlog"), ("3", "Memory"), ("4", "Cost"), ("5", "Asked")):
        page.keyboard.press(key)
        expect(page.locator(".tabs a[aria-current]")).to_have_text(name)
    page.keyboard.press("p")
    expect(page.locator(".over")).to_be_focused()


@pytest.mark.parametrize(
    "fragment",
    [
        "#/",
        "#/1/mar5",
        "#/1/mar5/exp/17",
        "#/1/mar5/cost",
        "#/1/mar5/asked",
        "#/0/live",
        "#/0/live/backlog",
        "#/0/live/memory",
        "#/compare/1/mar5/1/mar6",
    ],
)
def test_nothing_is_wider_than_a_phone(show, page, fragment):
    page.set_viewport_size({"width": 375, "height": 740})
    show(fragment)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    screenshot(page, "ui-phone" + re.sub(r"\W+", "-", fragment[1:]))


def test_the_dark_page_is_dark_and_its_plot_too(show, page):
    page.emulate_media(color_scheme="dark")
    show("#/1/mar5")
    drawn(page, 60)
    colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert sum(int(x) for x in re.findall(r"\d+", colour)[:3]) < 150
    screenshot(page, "ui-study-dark")


def test_everything_that_can_be_pressed_has_a_name(show):
    for fragment in ("#/", "#/1/mar5", "#/1/mar5/exp/17", "#/0/live/backlog"):
        page = show(fragment)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, a[href], input, textarea, select, [tabindex='0']")]
              .filter((e) => e.checkVisibility() && !(e.getAttribute("aria-label") || e.innerText || e.title || e.labels?.length))
              .map((e) => e.outerHTML)"""
        )
        assert nameless == []


# --- other people's text ----------------------------------------------------------------------


def test_hostile_text_is_text(browser, tmp_path):
    root = make_project(tmp_path / "hostile")
    made = Night(tag="mar5", seed=2)
    made.try_(BASELINE)
    for text in HOSTILE.values():
        made.try_(Idea(text, effect=0.05, category=text[:40]))
    put(root, made)
    Paths(root).scratchpad("mar5").write_text(HOSTILE["markup"] + HOSTILE["bidi"])
    (root / "program.md").write_text(HOSTILE["markup"])
    dashboard = Dashboard(root)
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    opened = []  # the console tells of diffs that cannot be had: these commits never were
    page.on("dialog", lambda dialog: opened.append(dialog.message) or dialog.dismiss())
    page.on("pageerror", lambda error: opened.append(str(error)))
    try:
        for fragment in ("#/0/mar5", "#/0/mar5/exp/2", "#/0/mar5/exp/6", "#/0/mar5/memory", "#/"):
            page.goto(dashboard.at(fragment))
            expect(page.locator("main h1").first).to_be_visible()
            page.wait_for_timeout(300)
            assert page.evaluate("window.pwned") is None
            assert page.evaluate("document.documentElement.scrollWidth") <= 1280
            assert page.locator("main img, main script, main b:text-is('bold')").count() == 0
            text = page.locator("main").inner_text()
            assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\ufeff\x1b]", text)
        page.goto(dashboard.at("#/0/mar5"))
        drawn(page, 1 + len(HOSTILE))
        page.locator(".over").focus()
        for _ in range(9):
            page.keyboard.press("ArrowRight")
        expect(page.locator(".row[data-n='2'] .c-what a")).to_contain_text("<img src=x onerror=")
        assert opened == []
        screenshot(page, "ui-hostile")
    finally:
        page.context.close()
        dashboard.close()


def test_numbers_and_lines_read_as_in_the_debrief(show):
    page = show("#/1/mar5")
    values = [0.0, 1.0, -1.5, 0.99791234, 123456.789, 1e-9, -3.2e-7, 2.5e8, 0.5]
    sigmas = [None, 0.0, 0.01, 0.0123, 5.0, 120.0, 1e-4]
    pairs = [(v, s) for v in values for s in sigmas]
    texts = [t[:5000] for t in HOSTILE.values()]
    told = page.evaluate(
        """async ([pairs, texts]) => {
          const f = await import("/static/format.js");
          return [pairs.map(([v, s]) => f.number(v, s)), texts.map((t) => f.line(t, 120))];
        }""",
        [pairs, texts],
    )
    expected = [words.number(v, s) for v, s in pairs]
    assert [n.replace("−", "-") for n in told[0]] == [
        re.sub(r"e([+-])0", r"e\1", n) for n in expected
    ]
    assert told[1] == [words.clean(t, 120) for t in texts]


def test_moving_an_idea_asks_for_priorities_that_give_that_order(show):
    page = show("#/1/mar5")
    wrong = page.evaluate(
        """async () => {
          const { moved, asWished } = await import("/static/order.js");
          const wrong = [];
          for (const list of [[3], [5, 4, 3, 2], [1, 1, 1, 1], [2, 1, 1, 0], [0, 0], [7, 7, 3, 3, 3, -1]]) {
            const ideas = list.map((priority, i) => ({ id: i + 1, priority, state: "open" }));
            for (let from = 0; from < list.length; from += 1) for (let to = 0; to < list.length; to += 1) {
              if (from === to) continue;
              const wish = ideas.map((i) => i.id);
              wish.splice(to, 0, ...wish.splice(from, 1));
              const asked = moved(ideas, from, to).map((m) => ({ kind: "priority", idea: m.id, priority: m.priority }));
              const got = asWished(ideas, asked).open.map((i) => i.id);
              if (got.join() !== wish.join()) wrong.push([list, from, to, got, wish]);
            }
          }
          return wrong;
        }"""
    )
    assert wrong == []


# --- when something is wrong ------------------------------------------------------------------


def test_without_the_key_the_page_says_where_to_find_it(browser, world):
    opened = browser.new_context().new_page()  # a refused request is told in the console
    opened.goto(world.dashboard.base + "#/1/mar5")
    expect(opened.locator(".empty")).to_contain_text("nightlab ui")
    opened.context.close()


def test_a_lost_connection_is_shown_and_found_again(browser, tmp_path):
    root = make_project(tmp_path / "lost")
    put(root, night(5, tag="mar5"))
    dashboard = Dashboard(root)
    wire = Wire(dashboard.base)
    opened = browser.new_context().new_page()  # a lost connection is told in the console
    try:
        opened.goto(wire.through(dashboard.at("#/0/mar5")))
        drawn(opened, 5)
        expect(opened.locator("#lost")).to_be_hidden()
        wire.cut()
        expect(opened.locator("#lost")).to_be_visible(timeout=20_000)
        screenshot(opened, "ui-lost")
        put(root, night(8, tag="mar5"))  # the same study, gone on meanwhile
        wire.mend()
        expect(opened.locator("#lost")).to_be_hidden(timeout=20_000)
        drawn(opened, 8)
    finally:
        opened.context.close()
        dashboard.close()
        wire.cut()


# --- the files --------------------------------------------------------------------------------


def test_the_page_is_small_modules_all_fetched_at_once_with_nothing_made_of_markup():
    modules = sorted(p.name for p in STATIC.glob("*.js"))
    index = INDEX.read_text()
    fetched = re.findall(r'modulepreload" href="/static/([\w.]+)"', index)
    assert sorted([*fetched, "app.js", "early.js"]) == modules
    assert not re.search(r"<script[^>]*>[^<]|<style|style=|\son\w+=", index)
    for path in STATIC.glob("*.js"):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path.name
        forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
        assert not re.search(forbidden, text), path.name
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path.name


def test_every_import_between_modules_is_used_and_exists():
    exported = {
        p.name: set(re.findall(r"export (?:async )?(?:function|const|class) (\w+)", p.read_text()))
        for p in STATIC.glob("*.js")
    }
    used: dict[str, set[str]] = {name: set() for name in exported}
    for path in STATIC.glob("*.js"):
        text = path.read_text()
        for names, source in re.findall(r'import \{([^}]*)\} from "\./([\w.]+)"', text):
            for name in (n.strip() for n in names.split(",")):
                assert name in exported[source], f"{path.name} imports {name} from {source}"
                used[source].add(name)
                assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{path.name} does not use {name}"
