"""Ledgers in: real ones, every known shape, hostile ones; and the debrief of what was read."""

from __future__ import annotations

import json
import math
import re
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab import exchange
from nightlab.cli import main
from nightlab.errors import NightlabError, UsageError
from nightlab.exchange import Ledger, Row, Status, cells, honest, page, prior, read, tables
from nightlab.exchange.choosing import choose
from nightlab.model import Better
from nightlab.report.words import escape

HERE = Path(__file__).parent / "ledgers"
SHARED = Path(__file__).parent.parent.parent / "shared" / "ledgers"
GOLDEN: dict[str, dict[str, Any]] = json.loads((HERE / "golden.json").read_text("utf-8"))


def ledger_file(name: str) -> Path:
    for folder in (HERE, SHARED):
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"{name} lies in ../shared/ledgers only, and that is not here")


def written(tmp_path: Path, text: str | bytes, name: str = "results.tsv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows(ledger: Ledger) -> list[Row]:
    return [row for segment in ledger.segments for row in segment.rows]


def seen_as(ledger: Ledger) -> dict[str, Any]:
    """What golden.json holds of a ledger."""
    return {
        "form": ledger.form,
        "rows": [len(s.rows) for s in ledger.segments],
        "metric": [s.metric for s in ledger.segments],
        "better": [s.better.value if s.better else None for s in ledger.segments],
        "statuses": dict(sorted(Counter(r.status.value for r in rows(ledger)).items())),
        "values": sum(r.value is not None for r in rows(ledger)),
        "commits": sum(r.commit is not None for r in rows(ledger)),
        "repeated": sum(r.same_as is not None for r in rows(ledger)),
        "repairs": dict(sorted(Counter(r.what for r in ledger.repairs).items())),
    }


# -- real ledgers


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_real_ledger_reads_as_the_table_says(name: str) -> None:
    ledger = read(ledger_file(name))
    assert seen_as(ledger) == GOLDEN[name]
    lines = ledger_file(name).read_bytes().count(b"\n") + 1
    assert all(0 <= r.line <= lines for r in ledger.repairs)


MENDED = {  # rows more or less than a plain count of lines gives
    "dragonkid__auto-researchtrading.tsv": 3,  # glued rows taken apart
    "dragonkid__auto-researchtrading__2.tsv": 3,
    "karpathy__autoresearch__2.tsv": -95,  # lines of pasted source
    "caelum0x__numerical-thesis.tsv": -14,  # lines of a library's warning
    "colinjoc__hdr_autoresearch__2.tsv": -2,
}


def test_rows_directions_and_metrics_agree_with_what_people_wrote_of_the_ledgers() -> None:
    """The README of the ledgers was written by reading them, not by this reader."""
    if not SHARED.exists():
        pytest.skip("../shared/ledgers is not here")
    checked = 0
    for line in (SHARED / "README.md").read_text("utf-8").splitlines():
        told = [cell.strip() for cell in line.split("|")]
        if len(told) < 7 or not (SHARED / told[1]).exists():
            continue
        first = read(SHARED / told[1]).segments[0]
        if first.metric is not None:
            assert first.metric in told[4], told[1]
        if first.better is not None:
            assert first.better.value == told[5], told[1]
        found = sum(len(s.rows) for s in read(SHARED / told[1]).segments)
        assert found == int(told[3]) + MENDED.get(told[1], 0), told[1]
        checked += 1
    assert checked >= 59


def test_every_value_of_the_reference_night_is_the_one_in_the_file() -> None:
    path = ledger_file("karpathy__autoresearch.tsv")
    plain = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    segment = read(path).segments[0]
    for cells_, row in zip(plain, segment.rows, strict=True):
        assert row.value == (None if cells_[3] == "crash" else float(cells_[1]))
        assert (row.word, row.description) == (cells_[3], cells_[4])
        assert row.metrics == {"memory_gb": float(cells_[2])}
        assert row.raw.split("\t") == cells_


# -- words and numbers of single cells


@pytest.mark.parametrize(
    ("cell", "value", "unit"),
    [
        ("1223.2 agg_tps@6streams", 1223.2, "agg_tps@6streams"),
        ("84.50%", 84.5, "%"),
        ("5.07x", 5.07, "x"),
        ("+0.0000", 0.0, ""),
        ("−0.5", -0.5, ""),
        ("1,234,567", 1234567.0, ""),
        ("1,234.5", 1234.5, ""),
        ("1.5e-3", 0.0015, ""),
        (".5", 0.5, ""),
        (12, 12.0, ""),
        # What only looks like a number, or may be two.
        ("1,234", None, ""),
        ("0,93", None, ""),
        ("2026-03-26 13:10:21", None, ""),
        ("1.2.3", None, ""),
        ("3-5", None, ""),
        ("9b201ff", None, ""),
        ("inf", None, ""),
        ("nan", None, ""),
        ("FAIL", None, ""),
        ("—", None, ""),
        ("", None, ""),
        (None, None, ""),
        (True, None, ""),
        (10**400, None, ""),
        (math.nan, None, ""),
    ],
)
def test_a_cell_is_a_number_with_a_unit_or_none(cell: object, value: float, unit: str) -> None:
    assert cells.number(cell) == (value, unit)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("keep", Status.KEEP), ("KEEP:small_gain", Status.KEEP), ("accepted", Status.KEEP),
        ("baseline", Status.KEEP), ("保留✔✔", Status.KEEP), (True, Status.KEEP),
        ("REVERT", Status.DISCARD), ("REJECTED (noise)", Status.DISCARD), ("回滚(交易<10)", Status.DISCARD),
        ("discard_wallclock", Status.DISCARD), ("checks_failed", Status.DISCARD), (False, Status.DISCARD),
        ("oom", Status.CRASH), ("DIVERGED", Status.CRASH), ("tentative", Status.INCONCLUSIVE),
        ("ok", Status.OTHER), ("no-op", Status.OTHER), ("wibble", None), ("", None), (None, None),
    ],
)  # fmt: skip
def test_verdicts_are_known_in_the_words_that_ledgers_use(word: object, status: object) -> None:
    assert cells.status(word) is status


# -- sentinels, order, ids


def table(*lines: str, head: str = "commit\tval_bpb\tmemory_gb\tstatus\tdescription") -> str:
    return "\n".join([head, *lines]) + "\n"


def test_a_zero_is_a_value_or_none_by_what_stands_around_it(tmp_path: Path) -> None:
    ledger = read(
        written(
            tmp_path,
            table(
                "aaaaaaa\t1.0\t1\tkeep\ta",
                "bbbbbbb\t0.000000\t0\tcrash\tb",
                "ccccccc\t0.000000\t0\tdiscard\tc",
                "ddddddd\t0.000000\t0\tkeep\td",
                "eeeeeee\t999\t0\tdiscard\te",
                "fffffff\t-1\t0\tdiscard\tf",
                "abababa\t0.9\t1\tdiscard\tg",
            ),
        )
    )
    assert [r.value for r in rows(ledger)] == [1.0, None, None, 0.0, None, None, 0.9]
    told = {r.line: r.what for r in ledger.repairs}
    assert set(told) == {3, 4, 5, 6, 7}
    assert "0 of a crash" in told[3]
    assert "may mean no result" in told[5]


def test_a_zero_among_values_of_both_signs_is_a_value(tmp_path: Path) -> None:
    text = table("aaaaaaa\t-0.5\tkeep\ta", "bbbbbbb\t0.0\tdiscard\tb", "ccccccc\t0.4\tkeep\tc",
                 head="commit\tval_sharpe\tstatus\tdescription")  # fmt: skip
    assert [r.value for r in rows(read(written(tmp_path, text)))] == [-0.5, 0.0, 0.4]


def test_newest_first_by_time_is_turned_round(tmp_path: Path) -> None:
    head = "timestamp\tcommit\tval_loss\tstatus\tdescription"
    lines = [
        f"2026-03-0{day}T10:00:00Z\taaaaaa{day}\t0.{day}\tkeep\tn{day}" for day in (5, 4, 3, 2)
    ]
    ledger = read(written(tmp_path, table(*lines, head=head)))
    assert [r.description for r in rows(ledger)] == ["n2", "n3", "n4", "n5"]
    assert any("newest first" in r.what for r in ledger.repairs)


def test_a_repeated_row_counts_once_and_says_where_it_is_repeated(tmp_path: Path) -> None:
    line = "aaaaaaa\t1.0\t1\tdiscard\tthe same thing in the same words"
    ledger = read(written(tmp_path, table(line, "bbbbbbb\t0.9\t1\tkeep\tother", line)))
    assert [r.same_as for r in rows(ledger)] == [4, None, None]
    assert len(ledger.segments[0].counting()) == 2


def test_windows_bytes_literal_tabs_and_a_second_header_are_mended(tmp_path: Path) -> None:
    text = "\ufeff" + table(
        "aaaaaaa\t1.0\t1\tkeep\ta",
        "bbbbbbb\\t0.9\\t1\\tkeep\\tb",
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription",
        "ccccccc\t0.8\t1\tkeep\tc",
    ).replace("\n", "\r\n")
    for data in (text.encode(), text.lstrip("\ufeff").encode("utf-16")):
        ledger = read(written(tmp_path, data))
        assert [r.value for r in rows(ledger)] == [1.0, 0.9, 0.8]
        assert {r.line for r in ledger.repairs if r.line} == {3, 4}


@pytest.mark.parametrize(
    "text",
    [
        'commit,val_loss,status,description\naaaaaaa,0.5,keep,"one, two"\nbbbbbbb,0.4,discard,x\n',
        "commit;val_loss;status;description\naaaaaaa;0.5;keep;one, two\nbbbbbbb;0.4;discard;x\n",
        (
            "| commit | val_loss | status | description |\n|---|---:|---|---|\n"
            "| aaaaaaa | 0.5 | keep | one, two |\n| bbbbbbb | 0.4 | discard | x |\n"
        ),
    ],
)
def test_csv_semicolons_and_markdown_are_tables_too(tmp_path: Path, text: str) -> None:
    found = rows(read(written(tmp_path, text)))
    assert [(r.commit, r.value, r.status.value, r.description) for r in found] == [
        ("aaaaaaa", 0.5, "keep", "one, two"),
        ("bbbbbbb", 0.4, "discard", "x"),
    ]


# -- the other shapes of peers, each as its own program writes it


def test_pi_segments_metrics_and_borrowed_commits(tmp_path: Path) -> None:
    config = {"type": "config", "name": "n", "metricName": "ms", "metricUnit": "ms"}
    run = {"commit": "aaaaaaa", "metrics": {"x": 1}, "description": "d", "timestamp": 1773690000000}
    log = [
        config | {"bestDirection": "lower"},
        run | {"run": 1, "metric": 5, "status": "keep", "asi": {"hypothesis": "h", "lane": "l"}},
        run | {"run": 2, "metric": 0, "status": "crash"},
        {"type": "hook", "stage": "before"},
        config | {"metricName": "rps", "bestDirection": "higher"},
        run | {"run": 3, "metric": 7, "status": "checks_failed"},
    ]
    text = "\n".join(map(json.dumps, log)) + "\n{broken\n"
    ledger = read(written(tmp_path, text, "log.jsonl"))
    one, two = ledger.segments
    assert (one.metric, one.better, two.metric, two.better) == (
        "ms",
        Better.LOWER,
        "rps",
        Better.HIGHER,
    )
    assert [(r.value, r.commit, r.status.value) for r in rows(ledger)] == [
        (5.0, "aaaaaaa", "keep"),
        (None, None, "crash"),
        (7.0, "aaaaaaa", "discard"),
    ]
    assert (one.rows[0].hypothesis, one.rows[0].category) == ("h", "l")
    assert one.rows[0].metrics == {"x": 1.0}
    assert {r.line for r in ledger.repairs} == {3, 4, 7}


def test_leo_and_uditgoenka_tables_and_their_state(tmp_path: Path) -> None:
    head = "iteration\tcommit\tmetric\tdelta\tguard\tstatus\tdescription"
    text = table(
        "0\taaaaaaa\t10\t0\t-\tbaseline\tstart",
        "1a\t-\t12\t2\tpass\tdiscard\ta worker's",
        "1\taaaaaaa\t12\t2\tpass\tdiscard\tgone back",
        "2\tbbbbbbb\t9\t-1\tpass\tkeep\tbetter",
        head=head,
    )
    path = written(tmp_path, text)
    (tmp_path / "state.json").write_text(json.dumps({"config": {"direction": "lower"}}))
    segment = read(path).segments[0]
    assert (segment.metric, segment.better) == ("metric", Better.LOWER)
    assert [(r.label, r.commit) for r in segment.rows] == [
        ("0", "aaaaaaa"),
        ("1", None),
        ("2", "bbbbbbb"),
    ]
    written(tmp_path, "# metric_direction: higher_is_better\n" + text)
    assert read(path).segments[0].better is Better.HIGHER


def test_leo_exec_lines_coral_attempts_and_evo_graphs(tmp_path: Path) -> None:
    seven = {"iteration": 1, "commit": "aaaaaaa", "metric": 3, "delta": 0, "guard": "pass",
             "status": "keep", "description": "d"}  # fmt: skip
    last = {"status": "completed", "baseline": 3, "best": 3, "total_iterations": 1}
    text = "\n".join(map(json.dumps, [seven, last]))
    ledger = read(written(tmp_path, text, "exec.jsonl"))
    assert (ledger.form, [r.value for r in rows(ledger)]) == ("leo", [3.0])

    attempts = tmp_path / "coral" / ".coral" / "public" / "attempts"
    attempts.mkdir(parents=True)
    for n, (score, status) in enumerate([(0.5, "baseline"), (None, "crashed"), (0.7, "improved")]):
        attempt = {"commit_hash": f"{n}" * 40, "title": f"t{n}", "score": score, "status": status,
                   "timestamp": f"2026-03-01T10:0{n}:00", "agent_id": "a"}  # fmt: skip
        (attempts / f"{9 - n}.json").write_text(json.dumps(attempt))
    (attempts / "0.json").write_text("[[[[")
    ledger = read(tmp_path / "coral")
    assert [(r.value, r.status.value) for r in rows(ledger)] == [
        (0.5, "keep"), (None, "crash"), (0.7, "keep"),
    ]  # fmt: skip
    assert ledger.segments[0].better is None  # it stands in task.yaml, which is not there
    (tmp_path / "coral" / "task.yaml").write_text("grader:\n  direction: maximize\n")
    assert read(tmp_path / "coral").segments[0].better is Better.HIGHER

    run = tmp_path / "evo" / ".evo" / "run_0001"
    outcome = run / "experiments" / "exp_0001" / "attempts" / "001"
    outcome.mkdir(parents=True)
    nodes = {
        "root": {"parent": None, "status": "root", "hypothesis": "", "score": None},
        "exp_0001": {"parent": "root", "status": "committed", "hypothesis": "h", "score": 2.5,
                     "commit": "a" * 40, "eval_epoch": 1},
        "exp_0002": {"parent": "root", "status": "pruned", "hypothesis": "i", "score": 9.0, "eval_epoch": 2},
    }  # fmt: skip
    (run / "graph.json").write_text(json.dumps({"nodes": nodes}))
    (outcome / "outcome.json").write_text(json.dumps({"experiment_id": "exp_0001", "metric": "min",
                                                      "outcome": "committed", "score": 2.5}))  # fmt: skip
    ledger = read(tmp_path / "evo")
    assert [(len(s.rows), s.better) for s in ledger.segments] == [(1, Better.LOWER)] * 2
    assert [r.status.value for r in rows(ledger)] == ["keep", "discard"]


@pytest.mark.parametrize(
    ("objects", "form", "expected"),
    [
        (
            [{"id": 1, "status": "kept", "metric": {"name": "ms", "value": 4.5}, "description": "d",
              "commit_hash": "a" * 7}],
            "autoloop",
            [(4.5, "keep")],
        ),
        ([{"iteration": 1, "before": 3, "after": 4, "action": "x", "result": "reverted"}], "goal-md",
         [(4.0, "discard")]),
        ([{"step": 1, "timestamp": 1.0, "output_file": "o", "output_length": 5}], "weco", [(None, "other")]),
        (
            [{"id": "O1", "experiment": "E", "instrument": "bench", "measured_at": "2026-03-01",
              "value": 3.5, "unit": "ms", "exit_code": 0, "candidate_sha": "a" * 40}],
            "observations",
            [(3.5, "other")],
        ),
        ([{"trial": 1, "results": {"val_loss": 0.5}, "success": True, "config": {"lr": 1}},
          {"trial": 2, "results": {"val_loss": None}, "success": False, "config": {"lr": 2}}],
         "JSON records", [(0.5, "other"), (None, "crash")]),
    ],
)  # fmt: skip
def test_json_of_other_loops(
    tmp_path: Path, objects: list[Any], form: str, expected: list[Any]
) -> None:
    ledger = read(written(tmp_path, "\n".join(map(json.dumps, objects)), "x.jsonl"))
    assert ledger.form == form
    assert [(r.value, r.status.value) for r in rows(ledger)] == expected


@pytest.mark.parametrize(
    ("head", "line", "metric"),
    [
        ("timestamp\tcommit\tprimary_metric\tmetric_value\tsecondary_metrics\tstatus\tdescription",
         '2026-03-01T00:00:00\taaaaaaa\tval_loss\t0.5\t{"a": 1}\tkeep\td', "metric_value"),
        ("session\tcommit\taccuracy\tlatency_ms\tstatus\tdescription", "s1\taaaaaaa\t0.5\t3\tkeep\td",
         "accuracy"),
        ("experiment_id\tstatus\tval_bpb\tmemory_gb\tdescription", "e1\tkeep\t0.5\t3\td", "val_bpb"),
        ("experiment\ttag\tkernel_type\tthroughput_tflops\tlatency_us\tpct_peak\tdescription",
         "1\tt\tmatmul\t0.5\t3\t20\td", "throughput_tflops"),
    ],
)  # fmt: skip
def test_tables_of_other_loops(tmp_path: Path, head: str, line: str, metric: str) -> None:
    segment = read(written(tmp_path, table(line, head=head))).segments[0]
    assert (segment.metric, segment.rows[0].value) == (metric, 0.5)
    assert segment.rows[0].description == "d"


# -- what cannot be known is not guessed


def test_a_direction_that_nobody_told_is_an_error_that_names_the_flag() -> None:
    ledger = read(HERE / "ggnet_night.tsv")
    with pytest.raises(UsageError) as refused:
        choose(ledger)
    assert "--better" in refused.value.hint
    assert choose(ledger, better=Better.HIGHER).better is Better.HIGHER


def test_segments_and_metrics_that_nobody_told_are_errors_that_name_the_flag(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError, match="segments") as refused:
        choose(read(HERE / "Shopify__bluejay__2.jsonl"))
    assert refused.value.hint == "--segment 1"
    text = table("aaaaaaa\tx\t1.0\t2.0\tkeep", head="commit\tdescription\talpha\tbeta\tstatus")
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match="which column") as refused:
        choose(read(path))
    assert "--metric 'alpha'" in refused.value.hint
    chosen = choose(read(path, metric="beta"), better=Better.LOWER, metric="beta")
    assert chosen.segment.rows[0].value == 2.0
    with pytest.raises(UsageError, match="no column 'gamma'"):
        choose(read(path, metric="gamma"), metric="gamma")


# -- the honest statistics, recomputed


def test_the_figures_of_the_debrief_are_those_that_plain_arithmetic_gives() -> None:
    path = ledger_file("karpathy__autoresearch.tsv")
    plain = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    values = [(float(c[1]), c[3]) for c in plain if c[3] != "crash"]
    keeps = [v for v, s in values if s == "keep"]
    seen = honest.look(choose(read(path)))
    assert seen.naive == pytest.approx(values[0][0] - min(keeps))
    assert seen.chance == pytest.approx(sum(1 / k for k in range(2, len(values) + 1)))
    assert seen.looked == len(values) - 1
    assert seen.records == sum(
        v < min(u for u, _ in values[:n]) for n, (v, _) in enumerate(values) if n
    )
    assert seen.not_better == sum(v >= min(keeps[:n]) for n, v in enumerate(keeps) if n)
    assert not seen.against
    wrong = honest.look(choose(read(path), better=Better.HIGHER))
    assert wrong.against  # the keeps speak against it


def test_noise_is_of_rows_of_the_same_code_only(tmp_path: Path) -> None:
    text = table(
        "aaaaaaa\t1.00\t1\tkeep\tbaseline", "aaaaaaa\t1.02\t1\tdiscard\tbaseline",
        "aaaaaaa\t0.98\t1\tdiscard\tBaseline ", "bbbbbbb\t0.97\t1\tkeep\tbetter",
        "ccccccc\t0.50\t1\tkeep\tmuch better",
    )  # fmt: skip
    seen = honest.look(choose(read(written(tmp_path, text))))
    assert seen.sigma == pytest.approx(statistics.stdev([1.0, 1.02, 0.98]))
    assert (seen.df, seen.within) == (2, 1)
    assert honest.look(choose(read(HERE / "miolini__autoresearch-macos.tsv"))).sigma is None


# -- hostile ledgers

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> [x](javascript:alert(3)) `rm -rf /` $(id)"


def test_html_and_terminal_escapes_in_descriptions_are_inert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(
        tmp_path,
        table(
            f"aaaaaaa\t1.0\t1\tkeep\t{EVIL}",
            f"bbbbbbb\t0.9\t1\tkeep\t\x1b]0;owned\x07\x1b[2J{EVIL}",
            f"ccccccc\t0.8\t1\t{EVIL}\tlast",
            head="commit\tval_bpb\tmemory_gb\tstatus\tdescription",
        ),
    )
    assert main(["import", str(path)]) == 0
    assert main(["report", "--import", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    text = (tmp_path / "results-report" / "report.md").read_text()
    assert escape(EVIL) in text
    assert not re.search(r"<(?!--)[a-zA-Z/]", text)
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    assert (tmp_path / "results-report" / "progress.png").read_bytes()[:4] == b"\x89PNG"


def test_a_hundred_thousand_rows_and_a_megabyte_cell_are_read_in_time(tmp_path: Path) -> None:
    lines = [f"{n:07x}\t{1 + n % 7 / 10}\t1\tdiscard\tchange {n}" for n in range(100_000)]
    lines[5] += "x" * 1_000_000
    began = time.process_time()
    ledger = read(written(tmp_path, table(*lines)))
    assert time.process_time() - began < 30
    assert len(rows(ledger)) == 100_000
    assert max(len(r.description) + len(r.raw) for r in rows(ledger)) < 20_000
    assert [r.line for r in ledger.repairs if "cut" in r.what] == [7]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n\n\n", b"#\n# only a comment\n", b"\x7fELF" + bytes(range(256)) * 50,
        b"\0" * 1000, b"[" * 100_000, b'{"a":' * 50_000, b'{"run": ' + b"9" * 10_000 + b"}",
        b"just one line of prose", b"\xff\xfe\x00", b"commit\tval_bpb\tstatus\tdescription\n",
        b"null", b"[]", b"{}", b"[1, 2, 3]", b'"text"',
    ],
)  # fmt: skip
def test_what_is_no_ledger_is_refused_in_three_lines(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NightlabError) as refused:
        read(written(tmp_path, data))
    assert all(refused.value.lines())


def test_nul_bad_utf8_and_absurd_numbers_do_not_stop_the_rest(tmp_path: Path) -> None:
    data = table("aaaaaaa\t1.0\t1\tkeep\ta", "bbbbbbb\t0.9\t1\tkeep\tb").encode()
    data += b"ccccccc\t0.8\t1\tkeep\tn\0ul\nddddddd\t0.7\t1\tkeep\t\xff\xfe\n"
    data += b"eeeeeee\t" + b"9" * 5000 + b"\t1\tkeep\thuge\nfffffff\t1e999\t1\tkeep\tinf\n"
    ledger = read(written(tmp_path, data))
    assert [r.value for r in rows(ledger)] == [1.0, 0.9, 0.8, 0.7, None, None]
    assert {4, 5, 6, 7} <= {r.line for r in ledger.repairs}


@given(
    st.text(max_size=400)
    | st.lists(st.text(alphabet="\t\n ab0.9#-|,keep", max_size=60)).map("\n".join)
)
def test_no_text_breaks_the_parser(text: str) -> None:
    blocks, repairs = tables.parse(text)
    found, _ = exchange.rows.segments(blocks)
    assert all(r.value is None or math.isfinite(r.value) for s in found for r in s.rows)
    assert all(isinstance(line, str) for line in page.mended(repairs))


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["run", "metric", "status", "type", "score", "commit", "x", "metrics"]
                    ),
                    inner,
                    max_size=5,
                )
            ),
            max_leaves=12,
        ),
        max_size=6,
    )
)
def test_no_json_breaks_the_parser(values: list[Any]) -> None:
    text = "\n".join(json.dumps(value) for value in values)
    for _, blocks, _ in (
        exchange.records.parse_lines(text),
        exchange.records.parse_document(values),
    ):
        found, _ = exchange.rows.segments(blocks)
        assert all(r.value is None or math.isfinite(r.value) for s in found for r in s.rows)


# -- prior knowledge


def test_prior_ideas_are_bounded_and_what_was_kept_comes_first(tmp_path: Path) -> None:
    lines = [
        f"{n:07x}\t{2 - n / 1e4}\t1\t{'keep' if n % 4 == 0 else 'discard'}\tchange {n} {'x' * 999}"
        for n in range(2000)
    ]
    event = prior.event(choose(read(written(tmp_path, table(*lines)))))
    assert len(event.ideas) == prior.MOST
    assert [i.status for i in event.ideas[:50]] == ["keep"] * 50
    assert max(len(i.text) for i in event.ideas) <= 300
    assert (event.rows, event.counts) == (2000, {"keep": 500, "discard": 1500})


@pytest.mark.parametrize(
    "text",
    [
        "\t".join(["commit", "status", *map(str, range(1_000_000))]) + "\nx\n",
        "commit\tstatus\tval_loss\n" + "\t".join("7" * 1_000_000) + "\n" + "aaaaaaa\tkeep\t1\n",
        'commit,status,val_loss\n"' + "aaaaaaa,keep,1\n" * 100_000,
        "\n".join(json.dumps({f"k{n}x{k}": k for k in range(100)}) for n in range(3000)),
        "# a: " + "b" * 1_000_000 + "\n" + "#" * 1_000_000,
        "commit\tstatus\tval_loss\n" + "keep-" * 200_000 + "\t1\t2\n" + "1," * 500_000 + "\tkeep\t3\n",
    ],
)  # fmt: skip
def test_lines_columns_quotes_and_keys_without_end_take_bounded_time(
    tmp_path: Path, text: str
) -> None:
    began = time.process_time()
    try:
        read(written(tmp_path, text))
    except NightlabError as refused:
        assert all(refused.lines())
    assert time.process_time() - began < 20
