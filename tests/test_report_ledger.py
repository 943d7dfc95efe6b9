"""The debrief of another loop's ledger as a page: real ones, computed again from their raw lines."""

import json
import re

import pytest

from nightlab.cli import main
from nightlab.errors import UsageError
from nightlab.exchange import Status, honest, page, read
from nightlab.exchange.choosing import choose
from nightlab.model import Better
from nightlab.plot import ledger as plot
from nightlab.report.words import clean

from .browser import screenshot
from .test_exchange import EVIL, GOLDEN, HERE, ledger_file, table, written
from .test_report_html import Page

RULERLESS = {"christopherkarani__Espresso.tsv"}  # it measures nothing: a list of what was done


def debrief(path, **told):
    ledger = read(path)
    number = max(range(len(ledger.segments)), key=lambda n: len(ledger.segments[n].rows))
    segment = ledger.segments[number]
    metric = segment.metric or (segment.candidates or ("",))[0]
    ledger = ledger if segment.metric else read(path, metric=metric)
    chosen = choose(ledger, number=ledger.segments[number].number, **told)
    points = [(r.number, r.value, r.status.value) for r in chosen.segment.counting()]
    seen = honest.look(chosen)
    words = page.told(chosen, seen)
    drawing = plot.inside(points, chosen.metric, chosen.better, words)
    return Page(page.html(chosen, seen, drawing=drawing))


@pytest.mark.parametrize(
    ("name", "sign"),
    [("karpathy__autoresearch__7.tsv", -1), ("miolini__autoresearch-macos.tsv", -1)],
)
def test_the_numbers_of_a_table_are_those_of_its_lines(name, sign):
    head, *lines = (HERE / name).read_text().splitlines()
    columns = head.split("\t")
    raw = [dict(zip(columns, line.split("\t"), strict=False)) for line in lines]
    crashes = [r["status"] == "crash" for r in raw]
    values = [sign * float(r[columns[1]]) for r, c in zip(raw, crashes, strict=True) if not c]
    kept = [sign * float(r[columns[1]]) for r in raw if r["status"] == "keep"]
    found = debrief(HERE / name, better=Better.LOWER)
    tiles = found.tiles()
    assert float(tiles["naive gain"]) == pytest.approx(max(kept) - values[0], rel=1e-4)
    assert tiles["kept"] == f"{len(kept)} of {len(raw)}"
    records = sum(v > max(values[:n]) for n, v in enumerate(values) if n)
    assert tiles["records"] == f"{records} of {len(values) - 1}"
    shown = [d for d in found.find("details") if d.get("class") == "exp"]
    assert [d["data-verdict"] for d in shown] == [r["status"] for r in raw]
    for row, line in zip(shown, lines, strict=True):
        assert found.inside(row, "pre")[0]["text"] == line
    told = [s["text"] for s in found.find("span", class_="words")]
    assert [clean(r["description"], 160) for r in raw] == told[-len(raw) :]


def test_the_numbers_of_json_lines_are_those_of_its_lines():
    path = HERE / "Shopify__bluejay__2.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    parts = [[]]
    for row in rows:  # a configuration after a run begins another part, with another ruler
        if "run" in row:
            parts[-1].append(row)
        elif parts[-1]:
            parts.append([])
    runs = max(parts, key=len)
    values = [r["metric"] for r in runs if r["status"] != "crash"]
    kept = [r["metric"] for r in runs if r["status"] == "keep"]
    tiles = debrief(path).tiles()
    assert float(tiles["naive gain"]) == pytest.approx(values[0] - min(kept), rel=1e-3)
    assert tiles["kept"] == f"{len(kept)} of {len(runs)}"


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_every_real_ledger_makes_a_page(name):
    path = ledger_file(name)
    if name in RULERLESS:
        with pytest.raises(UsageError, match="no metric"):
            debrief(path, better=Better.LOWER)
        return
    found = debrief(path, better=Better.LOWER)
    assert found.open == []
    rows = [d for d in found.find("details") if d.get("class") == "exp"]
    points = [a for a in found.find("a") if (a.get("class") or "").startswith("p ")]
    segment = max(read(path).segments, key=lambda s: len(s.rows))
    assert len(rows) == len(segment.rows)
    assert len(points) == len(segment.counting())
    assert {a["href"] for a in points} <= {f"#{d['id']}" for d in rows}


def test_a_hostile_ledger_is_text(page_of_evil):
    text = page_of_evil.read_text()
    found = Page(text)
    assert not {n["tag"] for n in found.all} & {"img", "iframe", "form", "link"}
    assert len(found.find("script")) == 1
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\u202e]", text)
    words = [s["text"] for s in found.find("span", class_="words")]
    assert clean(EVIL, 160) in words
    assert len(text) < 200_000  # a cell of a megabyte is cut


@pytest.fixture
def page_of_evil(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = written(
        tmp_path,
        table(
            f"aaaaaaa\t1.0\t1\tkeep\t{EVIL}",
            f"bbbbbbb\t0.9\t1\tkeep\t\x1b]0;owned\x07\u202e{EVIL}",
            f"ccccccc\t0.8\t1\tdiscard\t{'x' * 1_000_000}",
            head="commit\tval_bpb\tmemory_gb\tstatus\tdescription",
        ),
    )
    assert main(["report", "--import", str(path)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "report: results-report/report.html"
    return tmp_path / "results-report" / "report.html"


def test_a_browser_shows_a_ledger_and_what_it_says_stays_words(page, page_of_evil):
    page.goto(page_of_evil.as_uri())
    assert page.title() == "results.tsv"
    for row in page.locator(".exp > summary").all():
        row.click()
    assert page.locator("img").count() == 0
    assert EVIL in page.locator("#e1 .log").inner_text()
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    screenshot(page, "ledger-phone-hostile")


def test_a_browser_shows_a_real_ledger(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = HERE / "ggnet_night.tsv"
    assert main(["report", "--import", str(path), "--better", "higher"]) == 0
    page.goto((tmp_path / "ggnet_night-report" / "report.html").as_uri())
    point = page.locator("a.p.keep").nth(2)
    point.hover(force=True)
    kept = [r for r in read(path).segments[0].rows if r.status is Status.KEEP][2]
    assert page.locator(".tip").inner_text().startswith(f"row {kept.number} · keep")
    page.locator(".find").fill("STN")
    assert 0 < page.locator(".exp:visible").count() < 38
    screenshot(page, "ledger-desk")
