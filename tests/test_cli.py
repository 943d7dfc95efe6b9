"""The command line as a person and a program use it: real processes, real repositories."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nightlab import cli, config, journal
from nightlab.cli import base, debrief, health, reference
from nightlab.history import fold
from tests.support import CONFIG, TRAIN, git, make_project

ROOT = Path(__file__).parent.parent
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"}
NOISY = TRAIN.replace("NOISE", "0.001")
SWEEP = """
[researcher]
use = "sweep"
values = { LR = [0.5, 0.4, 0.03] }
"""
KEPT = """
[researcher]
use = "sweep"
values = { LR = [0.05] }
"""
SLOW = """\
import os, time
LR = 0.1
print("begun", flush=True)
time.sleep(SECONDS)
print("val_loss:", 1 + LR + int(os.environ["NIGHTLAB_SEED"]) / 1000)
"""


def nightlab(
    folder: Path, *args: str, check: int | None = None
) -> subprocess.CompletedProcess[str]:
    """The command in ``folder``: the lab itself as a process, quick verbs within this one."""
    real = not args or args[0] in ("run", "demo") or args[0].startswith("-")
    done = process(folder, *args) if real else inside(folder, *args)
    assert "src/nightlab" not in done.stderr  # a traceback of ours
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done


def process(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nightlab", *args],
        cwd=folder,
        env=ENV,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


def inside(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    out, err = io.StringIO(), io.StringIO()
    place = [] if {"-C", "--help"} & set(args) else ["-C", str(folder)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([args[0], *place, *args[1:]])
    return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())


def begin(folder: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nightlab", *args],
        cwd=folder,
        env=ENV,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(holds: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def three_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = done.stderr.splitlines()[-3:]
    assert [line.split(" ")[0:3][-1] for line in lines[1:]] == ["why:", "try:"], done.stderr
    assert lines[0].startswith("error: "), done.stderr
    return lines


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished study of four experiments, the last of them kept, and what the run printed."""
    root = make_project(tmp_path_factory.mktemp("night") / "p", more=SWEEP)
    done = nightlab(root, "run", "--tag", "mar5", "-n", "4", check=0)
    return root, done.stdout


# -- the night


def test_a_run_says_first_what_it_will_do_and_what_the_sandbox_leaves_open(
    night: tuple[Path, str],
) -> None:
    head = night[1].split("\n\n")[0].splitlines()
    names = [line[:12].strip() for line in head]
    assert names[:2] == ["study", "branch"]
    assert {"sandbox", "covers", "open", "researcher", "left", "command", "budget"} <= set(names)
    assert "autoresearch/mar5" in head[1]
    assert "left        4 of 4 experiments" in head


def test_plain_lines_tell_every_run_and_verdict_with_its_reason(night: tuple[Path, str]) -> None:
    root, out = night
    history = fold(journal.read(config.Paths(root).journal("mar5")))
    lines = [line for line in out.splitlines() if re.match(r"\d\d:\d\d:\d\d  ", line)]
    assert sum(" run " in line for line in lines) == history.runs
    for experiment in history.settled():
        assert experiment.decision is not None
        assert any(experiment.decision.reason in line for line in lines)


def test_a_run_ends_with_the_debrief_its_files_and_the_next_command(
    night: tuple[Path, str],
) -> None:
    root, out = night
    end = out.splitlines()[-4:]
    assert [line.split()[0] for line in end] == ["report:", "plot:", "next:", "then:"]
    assert Path(end[0].split(maxsplit=1)[1]).read_text().startswith("<!doctype html>")
    assert Path(end[1].split(maxsplit=1)[1]).read_bytes().startswith(b"\x89PNG")
    command = end[2].split(maxsplit=1)[1].split("   ")[0]
    patch = subprocess.run(
        command, shell=True, cwd=root, capture_output=True, text=True, check=True
    )
    assert "+LR = 0.03" in patch.stdout


def test_the_persons_checkout_is_as_it_was(night: tuple[Path, str]) -> None:
    root, _ = night
    assert git(root, "status", "--short").splitlines() == ["?? nightlab.toml", "?? results.tsv"]
    assert git(root, "branch", "--show-current") == "main\n"


def test_json_gives_one_object_per_experiment_and_a_last_one(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", more=SWEEP)
    done = nightlab(root, "run", "-n", "4", "--json", check=0)
    *rows, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["experiment"] for row in rows] == [1, 2, 3, 4]
    assert [row["verdict"] for row in rows] == ["keep", "discard", "discard", "keep"]
    assert last["ended"]["reason"] == "bound"
    assert last["exit_code"] == 0
    assert last["status"]["experiments"]["total"] == 4
    assert "study " in done.stderr


def test_an_end_without_a_keep_is_exit_code_four(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    done = nightlab(root, "run", "-n", "1", check=4)
    assert "1 experiment" in done.stdout


def test_the_same_command_again_goes_on_and_does_nothing_twice(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", more=KEPT)
    nightlab(root, "run", "-n", "1", check=4)
    done = nightlab(root, "run", "-n", "2", check=0)
    assert "resumed at experiment 2" in done.stdout
    rows = nightlab(root, "export", "--format", "jsonl", check=0).stdout
    assert rows.count("\n") == 2
    nightlab(root, "run", "-n", "2", check=0)
    assert nightlab(root, "export", "--format", "jsonl").stdout == rows


def test_until_and_for_bound_the_time(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", SLOW.replace("SECONDS", "0.1"), more=SWEEP)
    began = time.monotonic()
    done = nightlab(root, "run", "--for", "1s")
    assert time.monotonic() - began < 20
    assert re.search(r"left +(1\.0|0\.\d) s until \d\d:\d\d", done.stdout)
    assert "the time that was set is over" in done.stdout


def test_a_flag_names_another_researcher_and_another_number_of_slots(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", more=SWEEP)
    done = nightlab(root, "run", "-n", "1", "--researcher", "optuna", "--slots", "2")
    assert "optuna, on cpu0, cpu1" in done.stdout


# -- reading


def test_status_json_has_the_promised_keys(night: tuple[Path, str]) -> None:
    found = json.loads(nightlab(night[0], "status", "--json", check=0).stdout)
    assert found["tag"] == "mar5"
    assert found["branch"] == "autoresearch/mar5"
    assert found["state"] == "finished"
    objective = {"name": "val_loss", "better": "lower", "expression": None, "parts": {}}
    assert found["objective"] == objective
    assert set(found["baseline"]) >= {"mean", "sd", "n"}
    assert set(found["incumbent"]) >= {"experiment", "commit", "mean", "sd", "n"}
    verdicts = {"total", "keep", "discard", "inconclusive", "crash"}
    assert set(found["experiments"]) >= verdicts
    assert set(found["noise"]) >= {"sigma", "df"}
    assert set(found["cost"]) >= {"tokens", "usd", "device_seconds", "per_keep"}
    assert found["cost"]["tokens"] == 0
    assert found["cost"]["usd"] == 0.0
    assert found["researcher"] == "sweep"
    assert found["runs"] > 4
    assert found["incumbent"]["commit"] == git(night[0], "rev-parse", "autoresearch/mar5").strip()


def test_status_tells_a_person_the_same(night: tuple[Path, str]) -> None:
    text = nightlab(night[0], "status", check=0).stdout
    assert "study      mar5 on autoresearch/mar5: finished" in text
    assert "exp 4" in text


def test_show_tells_claim_runs_verdict_and_reason(night: tuple[Path, str]) -> None:
    text = nightlab(night[0], "show", "3", check=0).stdout
    assert text.startswith("exp 3: ")
    assert "DISCARD: " in text
    assert "first look, seed" in text
    found = json.loads(nightlab(night[0], "show", "3", "--json", check=0).stdout)
    assert found["verdict"] == "discard"
    assert found["run_records"][0]["experiment"] == 3
    assert Path(found["run_records"][0]["log"]).is_file()


def test_show_diff_is_a_patch_that_git_applies(night: tuple[Path, str], tmp_path: Path) -> None:
    patch = nightlab(night[0], "show", "3", "--diff", check=0).stdout
    assert "+LR = 0.4" in patch
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(night[0]), str(clone))
    git(clone, "fetch", "-q", "origin", "refs/nightlab/mar5/1")
    git(clone, "checkout", "-q", "FETCH_HEAD")
    subprocess.run(["git", "apply", "-"], cwd=clone, input=patch, text=True, check=True)
    assert "LR = 0.4" in (clone / "train.py").read_text()


def test_show_log_is_what_the_run_printed(night: tuple[Path, str]) -> None:
    text = nightlab(night[0], "show", "2", "--log", check=0).stdout
    assert text.startswith("---\nval_loss: ")
    assert "no experiment" not in text
    done = nightlab(night[0], "show", "2", "--log", "--run", "1", check=2)
    assert "run 1 is not one of experiment 2" in done.stderr


def test_every_format_exports_every_experiment(night: tuple[Path, str], tmp_path: Path) -> None:
    root = night[0]
    tsv = nightlab(root, "export", check=0).stdout.splitlines()
    jsonl = nightlab(root, "export", "--format", "jsonl", check=0).stdout.splitlines()
    whole = json.loads(nightlab(root, "export", "--format", "json", check=0).stdout)
    assert len(tsv) == 5
    assert {len(line.split("\t")) for line in tsv} == {len(tsv[0].split("\t"))}
    assert [json.loads(line) for line in jsonl] == whole
    wanted = {"experiment", "commit", "parent", "verdict", "metrics", "runs", "seeds"}
    wanted |= {"durations_seconds", "description", "reason"}
    assert wanted <= set(whole[0])
    assert wanted <= set(tsv[0].split("\t"))
    out = tmp_path / "x.jsonl"
    nightlab(root, "export", "--format", "jsonl", "--out", str(out), check=0)
    assert out.read_text().splitlines() == jsonl


def test_a_report_goes_where_it_is_wanted(night: tuple[Path, str], tmp_path: Path) -> None:
    found = json.loads(
        nightlab(night[0], "report", "--out", str(tmp_path / "r"), "--json", check=0).stdout
    )
    assert found["report"] == str(tmp_path / "r" / "report.html")
    assert found["markdown"] == str(tmp_path / "r" / "report.md")
    assert (tmp_path / "r" / "progress.svg").read_text().startswith("<?xml")
    assert "progress.png" in (tmp_path / "r" / "report.md").read_text()


def test_a_report_of_a_part_says_so_and_leaves_the_whole_one_alone(
    night: tuple[Path, str], tmp_path: Path
) -> None:
    out = str(tmp_path / "r")
    said = nightlab(night[0], "report", "--out", out, "--since", "2", check=0).stdout
    assert said.splitlines()[0] == f"report: {out}/since.html"
    assert "mar5 since experiment 2: " in said
    page = (tmp_path / "r" / "since.html").read_text()
    assert "Debrief of mar5 since experiment 2" in page
    assert "[objective]" in page  # nightlab.toml, for doing it again
    assert "+LR = 0.03" in page or "+DEPTH" in page  # diffs come from git
    assert not (tmp_path / "r" / "report.html").exists()
    error = nightlab(night[0], "report", "--since", "soon", check=2).stderr
    assert "nightlab report --since yesterday" in error


def test_verbs_find_the_project_from_below_and_from_elsewhere(
    night: tuple[Path, str], tmp_path: Path
) -> None:
    below = night[0] / "src" / "deep"
    below.mkdir(parents=True, exist_ok=True)
    assert json.loads(nightlab(below, "status", "--json").stdout)["tag"] == "mar5"
    (night[0] / "src" / "deep").rmdir()
    (night[0] / "src").rmdir()
    done = nightlab(tmp_path, "status", "-C", str(night[0]), "--json", check=0)
    assert json.loads(done.stdout)["tag"] == "mar5"


def test_a_reader_that_goes_away_leaves_no_traceback(night: tuple[Path, str]) -> None:
    command = f"{sys.executable} -m nightlab export --format json | head -c 10"
    done = subprocess.run(
        command, shell=True, cwd=night[0], env=ENV, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_a_log_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    evil = NOISY + 'print("\\x1b]0;owned\\x07\\x1b[2Jafter\\u202e[red]")\n'
    root = make_project(tmp_path / "p", evil)
    nightlab(root, "run", "-n", "1", check=4)
    text = nightlab(root, "show", "1", "--log", check=0).stdout
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "owned" not in text
    assert "after\ufffd[red]" in text


# -- meanwhile


def test_notes_reach_a_running_lab_and_stop_ends_it(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", SLOW.replace("SECONDS", "0.3"), more=SWEEP)
    paths = config.Paths(root)
    lab = begin(root, "run", "--tag", "live")
    wait_until(lambda: journal.is_locked(paths.lock("live")))
    second = nightlab(root, "run", check=1)
    assert f"process {lab.pid}" in three_lines(second)[0]
    wait_until(lambda: json.loads(nightlab(root, "status", "--json").stdout)["running"] != [])
    assert json.loads(nightlab(root, "status", "--json").stdout)["state"] == "running"
    told = nightlab(root, "note", "try a lower warmup", check=0).stdout
    assert "with its next proposal" in told
    wait_until(lambda: bool(fold(journal.read(paths.journal("live"))).notes))
    assert fold(journal.read(paths.journal("live"))).notes[0].text == "try a lower warmup"
    nightlab(root, "stop", check=0)
    out, _ = lab.communicate(timeout=30)
    assert lab.returncode == 0
    assert "note      try a lower warmup" in out
    assert json.loads(nightlab(root, "status", "--json").stdout)["state"] == "stopped"
    assert "nothing to stop" in three_lines(nightlab(root, "stop", check=1))[1]


def test_ctrl_c_once_finishes_the_run_and_twice_stops_it(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", SLOW.replace("SECONDS", "1"), more=SWEEP)
    paths = config.Paths(root)

    def interrupted(times: int) -> list[str]:
        lab = begin(root, "run", "--tag", "x")
        known = len(list(paths.study("x").glob("runs/*/log.txt")))
        wait_until(lambda: len(list(paths.study("x").glob("runs/*/log.txt"))) > known)
        for _ in range(times):
            lab.send_signal(signal.SIGINT)
            time.sleep(0.2)
        lab.communicate(timeout=30)
        assert lab.returncode == 130
        history = fold(journal.read(paths.journal("x")))
        assert history.pending == {}
        assert history.ended is not None
        assert history.ended.reason == "interrupted"
        return [run.outcome.value for e in history.experiments.values() for run in e.runs]

    assert interrupted(1) == ["ok"]
    assert interrupted(2)[-1] == "stopped"


# -- a baseline that does not run


@pytest.mark.parametrize(
    ("train", "command", "said"),
    [
        ("x = 1 / 0\n", None, ["crashed", "ZeroDivisionError: division by zero"]),
        ("print('loss is 3')\n", None, ["no metric", "val_loss"]),
        ("print('val_loss: nan')\n", None, ["diverged", "val_loss"]),
        ("pass\n", "nosuchprogram train.py", ["crashed", "nosuchprogram"]),
    ],
)
def test_a_baseline_that_fails_says_why_and_shows_its_last_lines(
    tmp_path: Path, train: str, command: str | None, said: list[str]
) -> None:
    toml = CONFIG.replace("{python} train.py", command) if command else CONFIG
    root = make_project(tmp_path / "p", train, toml)
    done = nightlab(root, "run", "-n", "3", check=1)
    lines = three_lines(done)
    assert "nightlab show 1 --log" in lines[2]
    for words in said:
        assert words in done.stderr
    assert nightlab(root, "show", "1", "--log").returncode == 0
    nightlab(root, "run", "-n", "3", check=1)


def test_a_repaired_baseline_starts_the_study_anew_under_the_same_tag(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", "x = 1 / 0\n")
    nightlab(root, "run", "-n", "1", "--tag", "t", check=1)
    (root / "train.py").write_text(NOISY)
    git(root, "commit", "-qam", "mend")
    nightlab(root, "run", "-n", "1", "--tag", "t", check=4)


# -- bad input gets three lines


def test_no_project_and_no_study_say_what_to_do(tmp_path: Path) -> None:
    assert "nightlab init" in three_lines(nightlab(tmp_path, "run", check=2))[2]
    root = make_project(tmp_path / "p")
    assert "nightlab run" in three_lines(nightlab(root, "status", check=2))[2]
    nightlab(root, "run", "-n", "1")
    lines = three_lines(nightlab(root, "status", "--tag", "other", check=2))
    assert "'other'" in lines[0]
    gone = tmp_path / "nowhere"
    assert "is not a folder" in three_lines(nightlab(root, "status", "-C", str(gone), check=2))[0]


def test_a_folder_that_was_deleted_under_us_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", f"cd {gone} && rmdir {gone} && exec {sys.executable} -m nightlab status"],
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "does not exist any more" in three_lines(done)[0]


def test_no_git_repository(tmp_path: Path) -> None:
    (tmp_path / "nightlab.toml").write_text(CONFIG.format(python=sys.executable))
    (tmp_path / "train.py").write_text(NOISY)
    lines = three_lines(nightlab(tmp_path, "run", check=1))
    assert "not in a git repository" in lines[0]
    assert "git init" in lines[2]


def test_a_file_in_scope_that_is_not_committed(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", toml=CONFIG.replace('["train.py"]', '["model.py"]'))
    assert "model.py is not in the last commit" in three_lines(nightlab(root, "run"))[0]
    (root / "model.py").write_text("x = 1\n")
    lines = three_lines(nightlab(root, "run", check=2))
    assert "git add model.py" in lines[2]


def test_a_typo_in_the_configuration_names_the_nearest_key(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", toml=CONFIG.replace("budget", "buget"))
    lines = three_lines(nightlab(root, "run", check=2))
    assert "buget" in lines[0]
    assert "'budget'" in lines[2]


def test_broken_toml(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", toml="[study\n")
    assert "not valid TOML" in three_lines(nightlab(root, "run", check=2))[0]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda b: b[: len(b) // 2] + b"garbage\n" + b[len(b) // 2 :], "is not an event"),
        (lambda b: b"{}\n", "is not an event"),
        (lambda b: b'{"name": "pi-autoresearch"}\n', "is not an event"),
        (lambda b: b.split(b"\n", 1)[1], "out of sequence"),
        (lambda b: b"\n".join(b.split(b"\n")[::-1]), "is not an event"),
    ],
)
def test_a_torn_or_foreign_journal(
    tmp_path: Path, night: tuple[Path, str], damage: Callable[[bytes], bytes], said: str
) -> None:
    root = Path(shutil.copytree(night[0], tmp_path / "copy", symlinks=True))
    path = config.Paths(root).journal("mar5")
    path.write_bytes(damage(path.read_bytes()))
    for verb in ("status", "run"):
        lines = three_lines(nightlab(root, verb, check=1))
        assert said in lines[0]
    assert nightlab(root, "doctor", check=1).stdout.count("✗") == 1


def test_a_torn_last_line_is_an_act_that_never_happened(
    tmp_path: Path, night: tuple[Path, str]
) -> None:
    root = Path(shutil.copytree(night[0], tmp_path / "copy", symlinks=True))
    with config.Paths(root).journal("mar5").open("ab") as file:
        file.write(b'{"type":"noted","te')
    assert json.loads(nightlab(root, "status", "--json", check=0).stdout)["runs"] > 0
    nightlab(root, "run", "-n", "4", check=0)


def test_a_tag_whose_branch_exists(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    git(root, "branch", "autoresearch/mar5")
    lines = three_lines(nightlab(root, "run", "--tag", "mar5", check=2))
    assert "autoresearch/mar5 exists already" in lines[0]
    assert "--tag mar5b" in lines[2]


def test_a_ruler_that_changed_under_a_study(tmp_path: Path, night: tuple[Path, str]) -> None:
    root = Path(shutil.copytree(night[0], tmp_path / "copy", symlinks=True))
    text = (root / "nightlab.toml").read_text()
    (root / "nightlab.toml").write_text(text.replace('"10s"', '"20s"'))
    assert "--tag mar5b" in three_lines(nightlab(root, "run", check=2))[2]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "--until", "25:00"], "25:00"),
        (["run", "--for", "long"], "--for 'long' is not a duration"),
        (["run", "-n", "0"], "-n"),
        (["run", "--tag", "a b"], "'a b'"),
        (["run", "--tag", "../up"], "'../up'"),
        (["run", "--researcher", "oracle"], "oracle"),
        (["show", "99"], "no experiment 99"),
        (["show", "x"], "'N'"),
        (["show"], "N"),
        (["show", "1", "--diff", "--log"], "exclude each other"),
        (["show", "1", "--run", "3"], "--run"),
        (["note", "  "], "empty"),
        (["note", "x" * 5000], "5000 characters"),
        (["export", "--format", "xml"], "xml"),
        (["shw", "1"], "show"),
        (["run", "--nope"], "--nope"),
    ],
)
def test_a_wrong_command_line_is_exit_code_two(
    night: tuple[Path, str], args: list[str], said: str
) -> None:
    done = nightlab(night[0], *args, check=2)
    assert len(done.stderr.splitlines()) <= 3
    assert said in done.stderr
    assert "try: " in done.stderr.splitlines()[-1]


def test_errors_are_json_where_json_was_asked_for(tmp_path: Path) -> None:
    done = nightlab(tmp_path, "status", "--json", check=2)
    error = json.loads(done.stdout)["error"]
    assert set(error) == {"what", "why", "hint", "exit_code"}
    assert error["hint"] == "nightlab init"
    assert done.stderr == ""


def test_a_disk_that_takes_nothing_more_is_told_and_nothing_is_lost(
    tmp_path: Path, night: tuple[Path, str]
) -> None:
    root = Path(shutil.copytree(night[0], tmp_path / "copy", symlinks=True))
    path = config.Paths(root).journal("mar5")
    before = path.read_bytes()
    blocks = len(before) // 512  # no file may grow beyond what the journal already is
    done = subprocess.run(
        ["/bin/sh", "-c", f"ulimit -f {blocks}; exec {sys.executable} -m nightlab run -n 9"],
        cwd=root,
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot write the journal" in three_lines(done)[0]
    assert path.read_bytes().startswith(before)
    nightlab(root, "run", "-n", "4", check=0)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    (root / ".nightlab").write_text("not a folder\n")
    lines = three_lines(nightlab(root, "run", check=1))
    assert ".nightlab" in lines[0] + lines[1]


def test_a_bug_is_one_line_with_a_file_to_send_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        secret = "do not tell"  # noqa: F841
        raise ZeroDivisionError("one\ntwo")

    root = make_project(tmp_path / "p")
    (root / ".nightlab").mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setattr(base, "place", broken)
    assert cli.main(["status"]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "ZeroDivisionError: one two" in said
    path = next((root / ".nightlab").glob("bug-*.txt"))
    assert str(path) in said
    text = path.read_text()
    assert "Traceback" in text
    assert "nightlab status" in text
    assert cli.main(["status", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 3


# -- hostile paths


@pytest.mark.parametrize("name", ['it\'s "a\nb"', "$HOME `実験` ✓"])
def test_a_whole_night_works_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    root = make_project(tmp_path / name, more=KEPT)
    nightlab(root, "run", "-n", "2", check=0)
    assert "+LR = 0.05" in nightlab(root, "show", "2", "--diff", check=0).stdout
    assert nightlab(root, "show", "2", "--log", check=0).stdout.startswith("---")
    nightlab(root, "report", check=0)
    nightlab(root, "doctor", check=0)
    assert (root / "results.tsv").read_text().count("\n") == 3


def test_a_folder_whose_name_is_not_utf8_works(tmp_path: Path) -> None:
    root = make_project(Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff")), more=KEPT)
    nightlab(root, "run", "-n", "2", check=0)
    nightlab(root, "status", "--json", check=0)
    nightlab(root, "report", "--json", check=0)


# -- doctor


def test_the_doctor_finds_a_sound_project_sound(night: tuple[Path, str]) -> None:
    found = json.loads(nightlab(night[0], "doctor", "--json", check=0).stdout)
    assert found["ok"] is True
    names = {check["name"] for check in found["checks"]}
    wanted = {"git", "repository", "python", "config", "command", "scope", "metric", "disk"}
    assert wanted | {"devices", "box process", "study mar5"} <= names


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("{python} train.py", "nosuchprogram train.py", "command"),
        ("{python} train.py", ".venv/bin/python train.py", "command"),
        ("{python} train.py", "python 'train.py", "command"),
        ('["train.py"]', '["model.py"]', "scope"),
        ("budget", "buget", "config"),
        ('better = "lower"', "", "config"),
        ('better = "lower"', 'better = "lower"\n[sandbox]\nuse = "bubble"', "sandbox"),
        ('budget = "10s"', 'data = ["corpus"]', "data"),
    ],
)
def test_the_doctor_finds_what_would_stop_a_run_and_names_the_cure(
    tmp_path: Path, old: str, new: str, name: str
) -> None:
    root = make_project(tmp_path / "p", toml=CONFIG.replace(old, new))
    found = json.loads(nightlab(root, "doctor", "--json", check=1).stdout)
    bad = [check for check in found["checks"] if check["state"] == "bad"]
    assert [check["name"] for check in bad] == [name]
    assert bad[0]["cure"]


def test_the_doctor_outside_everything_still_answers(tmp_path: Path) -> None:
    done = nightlab(tmp_path, "doctor", check=1)
    assert "✗ repository" in done.stdout
    assert "try: nightlab init" in done.stdout


def test_the_doctor_refuses_an_agents_script_that_its_copy_will_not_hold(tmp_path: Path) -> None:
    ask = '[researcher]\nuse = "command"\ncommand = "python agent.py"\n'
    root = make_project(tmp_path / "p", toml=f"{CONFIG}\n{ask}")
    (root / "agent.py").write_text("print('nothing')\n")
    found = nightlab(root, "doctor", check=1).stdout
    assert "✗ researcher  agent.py is not in the last commit" in found
    assert str(root / "agent.py") in found
    toml = (root / "nightlab.toml").read_text()
    (root / "nightlab.toml").write_text(toml.replace("agent.py", str(root / "agent.py")))
    assert "✓ researcher" in nightlab(root, "doctor", check=0).stdout
    (root / "nightlab.toml").write_text(toml)
    subprocess.run(["git", "add", "agent.py"], cwd=root, check=True)
    subprocess.run(["git", "commit", "-qm", "agent"], cwd=root, check=True, env=ENV)
    assert "✓ researcher" in nightlab(root, "doctor", check=0).stdout


def test_a_baseline_that_fails_for_an_uncommitted_cure_is_told_to_commit(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    good = (root / "train.py").read_text()
    (root / "train.py").write_text("print('no metric here')\n")
    subprocess.run(["git", "commit", "-qam", "broken"], cwd=root, check=True, env=ENV)
    assert "nightlab show 1 --log" in three_lines(nightlab(root, "run", check=1))[2]
    (root / "train.py").write_text(good)
    (root / "knowledge").mkdir()
    (root / "knowledge" / "notes.md").write_text("# Notes\n")
    done = nightlab(root, "run", check=1)
    assert "not in it: train.py" in done.stdout
    assert "knowledge" not in done.stdout  # it is read where it lies
    assert "git commit -m 'start' train.py && nightlab run" in three_lines(done)[2]


@pytest.mark.parametrize(
    ("named", "cure"),
    [
        ("../sets/rows.csv", "nothing beside it: give the script {home}/sets/rows.csv"),
        ("{home}/sets/rows.csv", 'the box hides {home}/sets: write read = ["{home}/sets"]'),
        ("data/rows.csv", 'data = ["data"] in nightlab.toml under [study]'),
    ],
)
def test_what_a_run_lacks_and_the_person_has_is_told_with_the_line_that_gives_it(
    tmp_path: Path, named: str, cure: str
) -> None:
    named, cure = named.format(home=tmp_path), cure.format(home=tmp_path)
    train = f"import numpy\nnumpy.loadtxt({named!r})\n"  # its traceback names numpy's own files
    root = make_project(tmp_path / "p", train)
    for folder in (tmp_path / "sets", root / "data"):
        folder.mkdir()
        (folder / "rows.csv").write_text("1\n")
    end = three_lines(nightlab(root, "run", check=1))[2]
    assert cure in end if boxed(root) or named.startswith(("..", "data")) else "show 1" in end


def test_a_number_that_was_printed_in_another_form_is_told_how_to_print_it(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", 'LR = 0.1\nprint(f"val_loss = {LR}")\n')
    lines = three_lines(nightlab(root, "run", check=1))
    assert "seen: 'val_loss = 0.1'" in lines[1]
    assert "print it so, commit, then: nightlab run" in lines[2]
    assert "val_loss: 0.123" in lines[2]


def boxed(root: Path) -> bool:
    """Whether a sandbox works here that hides the person's files."""
    return "✓ box bubblewrap" in nightlab(root, "doctor").stdout


def test_a_night_with_nothing_to_turn_is_refused_by_the_doctor_and_says_so_at_its_end(
    tmp_path: Path,
) -> None:
    root = make_project(tmp_path / "p", 'rate = 0.1\nprint("val_loss:", rate)\n')
    assert "✗ researcher  the embedded one finds no constant in train.py" in (
        nightlab(root, "doctor", check=1).stdout
    )
    assert "next:   nightlab doctor" in nightlab(root, "run", check=4).stdout


def test_a_missing_word_of_a_command_line_is_named_with_its_choices(tmp_path: Path) -> None:
    assert "install, uninstall, stop-hook" in three_lines(nightlab(tmp_path, "skill", check=2))[0]


def test_a_bound_below_what_the_study_has_says_how_many_it_has(
    tmp_path: Path, night: tuple[Path, str]
) -> None:
    root = Path(shutil.copytree(night[0], tmp_path / "copy", symlinks=True))
    done = nightlab(root, "run", "-n", "2")
    assert "the bound of 2 experiments is reached (the study has 4)" in done.stdout
    assert "nightlab finalize   (does it hold on fresh seeds?)" in done.stdout


def test_a_metric_nobody_prints_is_a_warning(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", toml=CONFIG.replace("val_loss", "val_acc"))
    assert "! metric" in nightlab(root, "doctor", check=0).stdout


# -- demo


def test_the_demo_runs_the_main_job_on_real_digits(tmp_path: Path) -> None:
    done = nightlab(tmp_path, "demo", "-n", "2", "--budget", "0.3s")
    assert done.returncode in (0, 4), done.stdout + done.stderr
    root = tmp_path / "nightlab-demo"
    assert "val_loss" in done.stdout
    assert "plot:" in done.stdout
    assert git(root, "status", "--short") == ""
    found = json.loads(nightlab(root, "status", "--json", check=0).stdout)
    assert found["researcher"] == "optuna"
    assert found["experiments"]["total"] == 2
    assert 0 < found["baseline"]["mean"] < 2.3


def test_the_demo_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work\n")
    lines = three_lines(nightlab(tmp_path, "demo", "--dir", "mine", check=2))
    assert "exists already" in lines[0]
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]
    (tmp_path / "nightlab-demo").mkdir()
    nightlab(tmp_path, "demo", "-n", "1", "--budget", "1s", check=4)
    assert (tmp_path / "nightlab-demo-2" / "train.py").is_file()
    assert os.listdir(tmp_path / "nightlab-demo") == []


# -- help


def test_the_reference_page_is_what_the_commands_say() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert page == reference.render(), "python -m nightlab.cli.reference > docs/cli.md"


def test_help_shows_every_flag_of_the_reference_page(tmp_path: Path) -> None:
    page = reference.render()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert len(sections) == 17
    for section in sections:
        verb = section.split("\n")[0]
        text = nightlab(tmp_path, verb, "--help", check=0).stdout
        for flag in re.findall(r"`(--?[a-z-]+)", section.split("| | |")[1].split("\n\n")[0]):
            assert flag in text, (verb, flag)
        assert "Examples" in text


def test_the_first_screen_shows_the_first_night_and_every_verb(tmp_path: Path) -> None:
    text = nightlab(tmp_path, check=0).stdout
    assert text.strip() == nightlab(tmp_path, "--help", check=0).stdout.strip()
    for words in ("nightlab init", "nightlab run --until 07:00", "nightlab report"):
        assert words in text
    for verb in (
        "init",
        "run",
        "status",
        "show",
        "report",
        "export",
        "stop",
        "note",
        "doctor",
        "demo",
    ):
        assert f" {verb} " in text


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["status"], ["show", "2"]])
def test_no_verb_loads_a_library_that_it_does_not_use(
    night: tuple[Path, str], args: list[str]
) -> None:
    script = (
        "import sys; from nightlab.cli import main; main(sys.argv[1:]);"
        "heavy = {'optuna', 'matplotlib', 'scipy', 'numpy', 'libcst', 'pynvml', 'psutil'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *args],
        cwd=night[0],
        env=ENV,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == "[]"


def test_the_version_is_told(tmp_path: Path) -> None:
    assert re.fullmatch(r"nightlab \d+\.\d+\.\d+\n", nightlab(tmp_path, "--version").stdout)


def test_device_hours_bound_a_study_and_show_says_what_an_experiment_cost(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", train=NOISY, more=SWEEP)
    done = nightlab(root, "run", "--tag", "t", "--max-device-hours", "0.000001", "--plain", check=4)
    assert "1e-06 device hours is reached" in done.stdout
    assert "of device time" in nightlab(root, "show", "1", check=0).stdout
    found = json.loads(nightlab(root, "show", "1", "--json", check=0).stdout)
    assert found["cost"]["device_seconds"] > 0
    assert found["cost"]["tokens"] == 0
    assert "of device time" in nightlab(root, "status", check=0).stdout


def test_help_names_no_type_beside_a_flag_and_breaks_no_sentence(tmp_path: Path) -> None:
    for verb in ((), ("run",), ("finalize",), ("skill",)):
        text = nightlab(tmp_path, *verb, "--help", check=0).stdout
        assert "<bool>" not in text
        assert "--help" in text
    for line in reference.render().splitlines():
        if line.startswith("Exit codes"):
            assert line.endswith("130 interrupted.")


def test_status_counts_as_the_report_does_and_explains_the_plateau(night: tuple[Path, str]) -> None:
    found = json.loads(nightlab(night[0], "status", "--json", check=0).stdout)
    counts = found["experiments"]
    said = nightlab(night[0], "status", check=0).stdout
    kept = counts["keep"] - 1
    assert f"the baseline and 3 changes: {kept} kept, {counts['discard']} discarded" in said
    assert (
        f": {kept} kept, {counts['discard']} discarded"
        in nightlab(night[0], "report", check=0).stdout
    )
    assert "refine (build on what was kept): " in said
    assert found["priors"] == []


def test_status_shows_the_ledgers_that_were_imported(
    night: tuple[Path, str], tmp_path: Path
) -> None:
    root = tmp_path / "p"
    shutil.copytree(night[0], root, symlinks=True)
    ledger = tmp_path / "other.tsv"
    ledger.write_text(
        "commit\tval_loss\tmemory_gb\tstatus\tdescription\n"
        "aaaaaaa\t1.5\t1.0\tkeep\tbaseline\n"
        "bbbbbbb\t1.4\t1.0\tkeep\tlower LR\n"
    )
    nightlab(root, "import", str(ledger), "--better", "lower", "--into", "mar5", check=0)
    assert (
        "prior      other.tsv: 2 rows of another loop" in nightlab(root, "status", check=0).stdout
    )


def test_show_tells_the_processor_time_and_the_memory_of_each_run(night: tuple[Path, str]) -> None:
    said = nightlab(night[0], "show", "2", check=0).stdout
    runs = [line for line in said.splitlines() if line.startswith("run ")]
    assert runs
    assert all(re.search(r", [\d.]+ s of CPU, \d+ MiB of memory", line) for line in runs), runs


def test_the_lines_of_doctor_fold_to_the_width_and_cures_do_not() -> None:
    check = health.Check("box", health.State.WARN, "word " * 40, "a command " * 15)
    lines = check.lines(60)
    assert max(len(line) for line in lines[:-1]) <= 60
    assert all(line.startswith(" " * 14 + "word") for line in lines[1:-1])
    assert lines[-1].endswith("try: " + "a command " * 15)


def test_the_short_debrief_says_who_proposed_where_it_was_not_one_alone(
    night: tuple[Path, str],
) -> None:
    history = fold(journal.read(config.Paths(night[0]).journal("mar5")))
    closing = debrief.closing(history, locked=False, now=0.0, width=200)
    assert not any("proposed by" in line for line in closing)
    claim = msgspec.structs.replace(history.experiments[4].claim, researcher="optuna")
    history.experiments[4] = msgspec.structs.replace(history.experiments[4], claim=claim)
    closing = debrief.closing(history, locked=False, now=0.0, width=200)
    assert "proposed by sweep (2), optuna (1)" in closing
