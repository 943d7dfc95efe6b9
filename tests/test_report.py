import json
import math
import re
from collections import Counter
from dataclasses import replace
from statistics import fmean, median

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from scipy import stats as sp

from nightlab import report
from nightlab.events import Noted, SessionStarted, Warned
from nightlab.judge import estimate
from nightlab.model import Better, Change, Guard, Outcome, Purpose, Verdict
from nightlab.report import claims
from nightlab.report.words import clean, code, duration, escape, number, signed

from .simulated import BASELINE, Idea, Night, night

LR_DOWN = (Change(name="LR", old=0.1, new=0.03),)


def facts(made, **other):
    return report.facts(made.fold(), locked=False, now=made.at, **other)


def page(made, **other):
    return report.markdown(made.fold(), locked=False, now=made.at, **other)


def of(made, *ideas):
    made.try_(BASELINE)
    for idea in ideas:
        made.try_(idea)
    return made


@pytest.fixture(scope="module")
def usual():
    return night(60, seed=3, scale=0.003, extra={"peak_vram_mb": 41_000.0}).end()


def fair_values(history, number):
    runs = [r for r in history.experiments[number].runs if r.outcome is Outcome.OK]
    fair = [r for r in runs if r.purpose is not Purpose.SCREEN] or runs
    return [r.metrics["val_bpb"] for r in fair]


def pooled(history):
    groups = [
        [r.metrics["val_bpb"] for r in e.runs if r.outcome is Outcome.OK]
        for e in history.experiments.values()
    ]
    squares = sum((x - fmean(g)) ** 2 for g in groups if g for x in g)
    df = sum(len(g) - 1 for g in groups if g)
    return math.sqrt(squares / df), df


# --- the numbers, each computed again -------------------------------------------------------


def test_the_gain_and_its_interval_come_from_runs_that_did_not_select(usual):
    history, seen = usual.fold(), facts(usual)
    start = fair_values(history, 1)
    end = fair_values(history, history.incumbent_number)
    sigma, df = pooled(history)
    effect = fmean(start) - fmean(end)
    half = sp.t.ppf(0.95, df) * sigma * math.sqrt(1 / len(start) + 1 / len(end))
    assert seen.gain.fresh
    assert seen.gain.effect == pytest.approx(effect)
    assert (seen.gain.low, seen.gain.high) == pytest.approx((effect - half, effect + half))
    assert seen.gain.relative == pytest.approx(effect / fmean(start))
    assert (seen.noise.sigma, seen.noise.df) == pytest.approx((sigma, df))
    assert (seen.baseline.n, seen.incumbent.n) == (len(start), len(end))


def test_estimates_agree_with_the_judge(usual):
    history = usual.fold()
    for experiment in history.settled():
        mine = claims.estimated(experiment, "val_bpb").mean
        theirs = estimate(experiment.runs, "val_bpb")
        assert mine == (None if theirs is None else pytest.approx(theirs))


def test_the_naive_gain_is_the_luckiest_run_against_the_first(usual):
    history, seen = usual.fold(), facts(usual)
    runs = [
        r for e in history.settled() if e.verdict is not Verdict.CRASH for r in e.runs if r.metrics
    ]
    lucky = min(runs, key=lambda r: r.metrics["val_bpb"])
    first = history.baseline.runs[0].metrics["val_bpb"]
    assert seen.naive.run == lucky.id
    assert seen.naive.gain == pytest.approx(first - lucky.metrics["val_bpb"])
    assert seen.naive.gain > seen.gain.effect


def test_the_effects_of_the_keeps_add_up_to_the_gain_and_are_ranked(usual):
    seen = facts(usual)
    effects = [d.effect for d in seen.discoveries]
    assert len(effects) >= 4
    assert sum(effects) == pytest.approx(seen.gain.effect)
    assert effects == sorted(effects, reverse=True)
    assert seen.top_share == pytest.approx(sum(effects[:3]) / seen.gain.effect)
    for found in seen.discoveries:
        before = fair_values(usual.history, found.replaced)
        after = fair_values(usual.history, found.experiment)
        assert found.effect == pytest.approx(fmean(before) - fmean(after))


def test_chance_keeps_is_the_expected_number_of_records(usual):
    seen = facts(usual)
    n = sum(e.number > 1 and e.value is not None for e in usual.history.settled())
    assert seen.chance_keeps == pytest.approx(sum(1 / k for k in range(1, n + 2)) - 1)


def test_totals_are_those_of_the_events(usual):
    seen, kinds = facts(usual).totals, Counter(type(e).__name__ for e in usual.events)
    assert seen.experiments == kinds["Settled"] == 60
    assert seen.runs == kinds["RunFinished"]
    assert seen.keep + seen.discard + seen.inconclusive + seen.crash == 60
    assert seen.device_s == pytest.approx(sum(r.run.duration_s for r in finished(usual)))
    assert seen.wall_s == pytest.approx(usual.events[-1].at - usual.events[0].at)


def finished(made):
    return [e for e in made.events if type(e).__name__ == "RunFinished"]


def test_categories_and_moves_tally_every_experiment(usual):
    seen, history = facts(usual), usual.history
    changes = [e for e in history.settled() if e.number > 1]
    assert sum(t.tried for t in seen.categories) == len(changes)
    for tally in seen.categories:
        mine = [e for e in changes if e.claim.category == tally.name]
        verdicts = Counter(e.verdict.value for e in mine)
        assert tally.tried == len(mine)
        assert [tally.keep, tally.discard, tally.inconclusive, tally.crash] == [
            verdicts[v] for v in ("keep", "discard", "inconclusive", "crash")
        ]
        effects = [e.decision.evidence.effect for e in mine if e.verdict is not Verdict.CRASH]
        assert tally.median == pytest.approx(median(effects))
        assert tally.largest == max(effects)
    assert sum(t.tried for t in seen.moves) == sum(len(e.claim.changes) for e in changes)


def test_a_move_is_named_by_constant_and_direction():
    made = of(
        Night(),
        Idea("a", -0.5, changes=LR_DOWN),
        Idea("b", -0.5, changes=(Change(name="LR", old=0.1, new=0.2),)),
        Idea("c", -0.5, changes=(Change(name="ACT", old="relu", new="gelu"),)),
        Idea("d", -0.5, changes=(Change(name="TIE", old=False, new=True),)),
        Idea("e", -0.5, changes=(*LR_DOWN, Change(name="TIE", old=True, new=False))),
    )
    moves = {t.name: t for t in facts(made).moves}
    assert set(moves) == {"LR down", "LR up", "ACT → gelu", "TIE on", "TIE off"}
    assert (moves["LR down"].tried, moves["LR down"].alone) == (2, 1)


def test_crashes_are_counted_by_cause_whatever_the_numbers_in_the_message():
    def crash(outcome, detail):
        return Idea("x", outcome=outcome, detail=detail)

    made = of(
        Night(),
        crash(Outcome.OOM, "tried to allocate 2.1 GiB"),
        crash(Outcome.OOM, "tried to allocate 17 GiB"),
        crash(Outcome.CRASHED, "NameError: x"),
    )
    found = facts(made).crashes
    assert [(c.outcome, c.count, c.experiments) for c in found] == [
        ("oom", 2, (2, 3)),
        ("crashed", 1, (4,)),
    ]


def test_vetoes_and_trade_offs_are_told():
    guard = Guard(
        metric="vram", relation="<=", limit=1.2, of_baseline=True, text="<= baseline * 1.2"
    )
    made = of(
        Night(guards=(guard,), extra={"vram": 100.0, "mfu": 40.0}),
        Idea("fat", 0.5, extra={"vram": 2.0}),
        Idea("lean", 0.5, extra={"vram": 1.1}),
    )
    seen = facts(made)
    assert [(g.metric, g.vetoed, g.experiments) for g in seen.guards] == [("vram", 1, (2,))]
    trade = {t.metric: t for t in seen.trade_offs}
    assert trade["vram"].relative == pytest.approx(0.1)
    assert (trade["mfu"].baseline, trade["mfu"].incumbent) == (40.0, 40.0)
    assert seen.naive.experiment != 2  # a vetoed run is nobody's claim
    assert "vetoed 1 (exp 2)" in page(made)


def test_drift_is_the_slope_of_an_analysis_of_covariance_and_is_flagged():
    made = night(120, seed=1, drift=-0.01)
    seen, groups = facts(made).drift, []
    chain = claims.lineage(made.history)
    for experiment, successor in zip(chain, [*chain[1:], None], strict=True):
        deciding = {successor.number} if successor else set()
        deciding |= {experiment.number} if experiment.number > 1 else set()  # nobody chose exp 1
        runs = [r for r in experiment.runs if r.metrics and r.occasion not in deciding]
        if len(runs) > 1:
            groups.append(runs)
    xs, ys = [], []
    for runs in groups:
        hours = [r.started_at / 3600 for r in runs]
        values = [-r.metrics["val_bpb"] for r in runs]
        xs += [h - fmean(hours) for h in hours]
        ys += [v - fmean(values) for v in values]
    slope = sum(x * y for x, y in zip(xs, ys, strict=True)) / sum(x * x for x in xs)
    assert seen.per_hour == pytest.approx(slope, rel=1e-6)
    assert seen.significant
    assert "drift" in {s.kind for s in facts(made).steps}
    assert not facts(night(60, seed=1)).drift.significant


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_mirrored_study_has_mirrored_facts(seed):
    lower = facts(night(25, seed=seed, start=2.0, better=Better.LOWER))
    higher = facts(night(25, seed=seed, start=-2.0, better=Better.HIGHER))

    def mirrored(plain):
        plain["better"] = "higher"
        for side in ("baseline", "start", "incumbent"):
            plain[side]["mean"] *= -1
        plain["naive"]["value"] *= -1
        for row in plain["rows"]:
            row["value"] = None if row["value"] is None else -row["value"]
        return plain

    assert mirrored(lower.json()) == higher.json()


def test_facts_are_plain_json_and_the_history_is_left_alone(usual):
    history = usual.fold()
    before = [history.experiments[n] for n in history.experiments]
    plain = report.facts(history, locked=False, now=usual.at).json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == json.loads(json.dumps(plain))
    assert [history.experiments[n] for n in history.experiments] == before
    assert plain["gain"]["effect"] == facts(usual).gain.effect


# --- every state of a study reads well ------------------------------------------------------


def test_the_debrief_is_in_the_order_a_person_wants(usual):
    text = page(usual, plot="progress.png")
    places = [
        text.index(words)
        for words in (
            "went from",
            "![Progress",
            "## Notable discoveries",
            "## What does not work",
            "## Guards and trade-offs",
            "## Recommended next steps",
            "## Appendix: every experiment",
            "## Appendix: how to reproduce",
        )
    ]
    assert places == sorted(places)
    assert "provisional: not yet confirmed on fresh seeds" in text[: places[2]]
    assert "naive gain" in text[: places[1]]


def test_a_study_without_a_run_reads_well():
    text = page(Night())
    assert "never measured" in text
    assert "None" not in text


def test_a_running_study_without_a_baseline_says_so():
    made = Night()
    text = report.markdown(made.fold(), locked=True, now=made.at)
    assert "The baseline is not measured yet." in text
    assert "still running" in text


def test_the_baseline_alone_reads_well():
    text = page(of(Night()))
    assert "Nothing was kept" in text
    assert "No change was kept." in text
    assert "For scale" not in text  # no change was looked at


def test_a_baseline_that_fails_is_the_first_thing_to_mend():
    made = Night()
    made.try_(replace(BASELINE, outcome=Outcome.CRASHED, detail="NameError: x"))
    made.end("baseline", "the untouched code does not give val_bpb")
    text = page(made)
    assert "There is no baseline" in text
    assert "the baseline failed" in text
    assert [s.kind for s in facts(made).steps] == ["baseline"]


def test_a_study_without_a_keep_claims_nothing():
    made = of(Night(), *(Idea(f"idea {n}", -1.0) for n in range(25)))
    seen, text = facts(made), page(made)
    assert seen.gain is None
    assert seen.top_share is None
    assert "Nothing was kept: the baseline" in text
    assert "plateau" in {s.kind for s in seen.steps}


def test_a_deterministic_study_asks_whether_the_seed_reaches_the_script():
    made = of(Night(sigma=0.0), Idea("a", 0.1), Idea("b", -0.1))
    seen, text = facts(made), page(made)
    assert seen.noise.deterministic
    assert seen.chance_keeps is None
    assert (seen.gain.low, seen.gain.high) == (seen.gain.effect, seen.gain.effect)
    assert "exact as far as seen" in text
    assert "NIGHTLAB_SEED" in next(s.do for s in seen.steps if s.kind == "seeds")


def test_unknown_noise_gives_no_interval_and_says_so():
    made = of(Night(calibration_runs=1, looks=0), Idea("a", 0.1))
    seen, text = facts(made), page(made)
    assert seen.noise.sigma is None
    assert (seen.gain.low, seen.gain.high, seen.gain.fresh) == (None, None, False)
    assert "no interval" in text
    assert "by the very run that selected it, which flatters" in text
    assert {"noise", "confirm"} <= {s.kind for s in seen.steps}


def test_a_loss_is_called_a_loss():
    made = of(Night(sigma=0.01), Idea("looked good", 0.05))
    for run in made.history.experiments[2].runs[1:]:
        run.metrics["val_bpb"] = 1.2
    seen = report.facts(made.history, locked=False, now=made.at)
    assert seen.gain.effect < 0
    text = report.markdown(made.history, locked=False, now=made.at)
    assert "a loss of" in text
    assert "a gain of" not in text.split("\n\n")[1]


@pytest.mark.parametrize(
    ("reason", "detail", "words"),
    [
        ("bound", "the time that was set is over", "It ended because the time"),
        ("stopped", "asked by Ada", "It was stopped, asked by Ada."),
        ("interrupted", "SIGINT", "It was interrupted (SIGINT)."),
        ("exhausted", "no values left", "nothing left to propose: no values left."),
        ("error", "disk full", "It ended by an error: disk full."),
    ],
)
def test_the_end_is_told_in_words(reason, detail, words):
    assert words in page(of(Night()).end(reason, detail))


def test_an_end_without_a_word_advises_to_resume():
    made = of(Night())
    assert "ended without a word" in page(made)
    assert facts(made).steps[0].command == "nightlab run"


def test_a_running_study_counts_time_until_now():
    made = of(Night())
    seen = report.facts(made.fold(), locked=True, now=made.at + 100)
    assert seen.ending.state == "running"
    assert seen.totals.wall_s == pytest.approx(made.at + 100 - made.events[0].at)


def test_several_sessions_notes_and_warnings_are_told():
    made = of(Night())
    made.end("interrupted", "SIGINT")
    first = next(e for e in made.events if isinstance(e, SessionStarted))
    made.record(first)
    made.record(Noted(text="try *lower* warmup", author="Ada"))
    made.record(Warned(text="the branch stays"))
    text = page(made)
    assert "in 2 sessions" in text
    assert "“try \\*lower\\* warmup”" in text
    assert "“the branch stays”" in text


def test_a_long_study_is_shortened_with_a_pointer_to_the_rest():
    made = Night(calibration_runs=2, looks=0, sigma=0.01)
    made.try_(BASELINE)
    for n in range(699):
        made.try_(Idea(f"idea {n}", 0.05 if n % 60 == 0 else -0.5))
    seen = facts(made)
    assert len(seen.rows) == 200
    assert seen.rows_left_out == 500
    kept = {e.number for e in made.history.settled() if e.verdict is Verdict.KEEP}
    assert kept <= {r.experiment for r in seen.rows}
    text = page(made)
    assert "nightlab export" in text
    assert len(text) < 60_000


def test_three_lines_for_a_notification(usual):
    lines = report.short(usual.fold(), locked=False, now=usual.at).split("\n")
    assert len(lines) == 3
    assert "gain" in lines[0]
    assert "60 experiments" in lines[1]
    assert max(map(len, lines)) < 200


# --- next steps ------------------------------------------------------------------------------


def test_inconclusive_ones_are_to_be_tested_again(usual):
    seen = facts(usual)
    open_ones = [e for e in usual.history.settled() if e.verdict is Verdict.INCONCLUSIVE]
    assert open_ones
    advised = {s.command for s in seen.steps if s.kind == "retest"}
    assert advised <= {f"nightlab show {m.experiment} --diff" for m in seen.near_misses}
    assert {m.experiment for m in seen.near_misses if m.verdict == "inconclusive"} == {
        e.number for e in open_ones if e.decision.evidence.effect > 0
    }


def test_a_near_miss_whose_constant_a_keep_moved_since_is_not_advised_again():
    miss = Idea("LR down", 0.0005, changes=LR_DOWN)
    elsewhere = (msgspec.structs.replace(LR_DOWN[0], name="DEPTH"),)
    for changes, again in ((elsewhere, True), (LR_DOWN, False)):
        made = of(Night(sigma=0.001, seed=3), miss, Idea("a keep", 0.5, changes=changes))
        seen = facts(made)
        assert [m.experiment for m in seen.near_misses] == [2]
        assert ("retest" in {s.kind for s in seen.steps}) == again


def test_a_near_miss_was_measured_better(usual):
    misses = facts(usual).near_misses
    assert misses
    assert all(m.effect > 0 for m in misses)


def test_untouched_constants_are_named_and_touched_ones_are_not():
    made = of(Night(), Idea("a", -1.0, changes=LR_DOWN))
    step = next(s for s in facts(made, constants=("LR", "DEPTH")).steps if s.kind == "untouched")
    assert "DEPTH" in step.do
    assert "LR" not in step.do
    assert "untouched" not in {s.kind for s in facts(made).steps}


def test_a_large_gain_is_to_be_pushed_further():
    made = of(Night(), Idea("LR down", 0.5, changes=LR_DOWN))
    step = next(s for s in facts(made).steps if s.kind == "push")
    assert "LR down from 0.03" in step.do


def test_a_direction_is_pushed_from_where_it_stands_now():
    further = tuple(msgspec.structs.replace(c, old=c.new, new=0.02) for c in LR_DOWN)
    ideas = Idea("LR down", 0.5, changes=LR_DOWN), Idea("LR further", 0.2, changes=further)
    steps = [s.do for s in facts(of(Night(), *ideas)).steps if s.kind == "push"]
    assert [s for s in steps if "LR down from 0.02" in s]
    assert not [s for s in steps if "from 0.03" in s]


def test_a_direction_whose_next_step_lost_is_not_pushed():
    further = tuple(msgspec.structs.replace(c, old=c.new, new=0.02) for c in LR_DOWN)
    back = tuple(msgspec.structs.replace(c, old=c.new, new=0.04) for c in LR_DOWN)
    for next_, pushed in ((further, False), (back, True)):
        ideas = Idea("LR down", 0.5, changes=LR_DOWN), Idea("LR moved", -0.5, changes=next_)
        assert ("push" in {s.kind for s in facts(of(Night(), *ideas)).steps}) == pushed


def test_a_noise_floor_too_coarse_for_the_changes_is_told():
    made = of(Night(sigma=0.01, seed=1), *(Idea(f"i{n}", 0.0) for n in range(20)))
    assert "coarse" in {s.kind for s in facts(made).steps}
    bold = of(Night(sigma=0.0001), *(Idea(f"i{n}", -0.1) for n in range(20)))
    assert "coarse" not in {s.kind for s in facts(bold).steps}


# --- words -----------------------------------------------------------------------------------

HOSTILE = [
    "a | b || c",
    "`rm -rf` ``two`` ```",
    "<script>alert(1)</script><img src=x onerror=y>",
    "line\nbreak\r\n\r\n# heading\n- list",
    "\x1b[31mred\x07\x00 \u202eright to left\u200b",
    "[click](javascript:alert(1)) ![i](http://x/y.png) <http://x>",
    "*bold* _it_ ~~gone~~ $x$ \\| \\",
    "&lt;b&gt; &#124; &amp;",
    "| --- | --- |",
    "x" * 100_000,
    "\ud800 lone",
    "改进学习率 🚀",
    "",
]


def rendered(text):
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


def shown(html):
    text = re.sub(r"<[^>]*>", "", html)
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(entity, char)
    return text


@pytest.mark.parametrize("words", HOSTILE)
def test_a_hostile_description_shows_as_typed_and_does_nothing(words):
    made = Night(tag="t")
    made.try_(BASELINE)
    crash = {"outcome": Outcome.CRASHED, "detail": words}
    for effect in (0.5, -0.5, 0.004):
        made.try_(Idea(words, effect, category=words, changes=(Change(name=words, old=1, new=2),)))
    made.try_(Idea(words, **crash))
    made.record(Noted(text=words))
    made.end("error", words)
    html = rendered(page(made))
    assert not re.search(r"<(script|img|a|b|del|h[3-6])\b", html)
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    assert {r.count("<td") + r.count("<th") for r in rows} <= {5, 6, 7}
    assert len(re.findall("<h2>", html)) == 6 - (not facts(made).guards)
    cells = [shown(c) for c in re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)]
    if clean(words, 120):
        assert cells.count(clean(words, 120)) >= 5  # a discovery and four in the appendix
    for line in report.short(made.fold(), locked=False, now=made.at).split("\n"):
        assert line.isprintable()
    page(made).encode()


@given(st.text(max_size=80))
def test_escaped_text_is_one_inert_cell(words):
    html = rendered(f"| a | b |\n| --- | --- |\n| x | {escape(words)} |")
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)
    assert len(cells) == 2
    assert "<" not in cells[1]
    assert shown(cells[1]) == clean(words)


@given(st.text(alphabet="`a \\|<", min_size=1, max_size=30))
def test_code_cannot_be_closed_from_inside(words):
    html = rendered(f"x {code(words)} y")
    if clean(words):
        assert html.count("<code>") == 1
        assert shown(html).strip() == f"x {clean(words)} y"


@given(st.floats(-1e6, 1e6), st.floats(1e-7, 1e4))
def test_numbers_are_rounded_to_two_digits_of_the_noise(value, sigma):
    text = number(value, sigma)
    unit = 10.0 ** (math.floor(math.log10(sigma)) - 1)
    assert abs(float(text) - value) <= 0.5001 * unit + math.ulp(value)
    assert not text.startswith("-0.0") or float(text) != 0.0
    assert float(signed(value, sigma)) == float(text)


@pytest.mark.parametrize(
    ("value", "sigma", "text"),
    [
        (0.997912, 0.00031, "0.99791"),
        (0.997912, 0.0996, "0.998"),
        (1234.5, 130.0, "1230"),
        (0.1234567, None, "0.123457"),
        (0.5, 0.0, "0.5"),
        (None, 1.0, "—"),
        (math.nan, 1.0, "—"),
        (-0.0001, 0.05, "0.000"),
        (1.5e-9, 1e-11, "1.500e-09"),
    ],
)
def test_numbers_read_well(value, sigma, text):
    assert number(value, sigma) == text


def test_durations_read_well():
    assert [duration(s) for s in (2.34, 45, 192, 44_280, 200_000)] == [
        "2.3 s",
        "45 s",
        "3.2 min",
        "12.3 h",
        "2.3 days",
    ]


def test_the_plots_address_cannot_break_the_image():
    text = page(of(Night()), plot='a b/)"<>\n%.png')
    assert "](a%20b/%29%22%3C%3E%0A%25.png)" in text
