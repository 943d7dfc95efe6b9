"""nightlab.toml: every key changes behaviour, every mistake gets three lines."""

from __future__ import annotations

import socket
import time
import tomllib
from pathlib import Path

import pytest

from nightlab import brief, config
from nightlab.cli.session import fallback, researcher_settings
from nightlab.errors import ConfigError, ResearcherError, SandboxError
from nightlab.lab import open_study
from nightlab.model import Better, Outcome, Usage, Verdict
from nightlab.researchers import Context, Desk, Plan, open_researcher
from nightlab.researchers import Settings as ResearcherSettings
from nightlab.researchers.agents import open_agent
from nightlab.researchers.agents.prices import priced
from nightlab.researchers.agents.seam import Order
from nightlab.sandboxes import Cell, Options
from nightlab.sandboxes.container import ContainerSandbox
from nightlab.sandboxes.process import ProcessSandbox
from tests.support import CONFIG, TRAIN, Reader, Steps, drive, lr, make_project
from tests.test_fixes import Mending, broken, other_slip

GOOD = CONFIG.format(python="python")


def parse(text: str) -> config.Settings:
    return config.parse(tomllib.loads(text))


def test_a_typical_file_is_understood() -> None:
    settings = parse(GOOD + '[guards]\npeak_vram_mb = "<= baseline * 1.2"\n')
    assert settings.command == "python train.py"
    assert settings.edit == ("train.py",)
    assert settings.budget_s == 10.0
    assert settings.objective.better is Better.LOWER
    assert settings.guards[0].of_baseline
    assert settings.guards[0].limit == 1.2


@pytest.mark.parametrize(
    ("wrong", "says", "hint"),
    [
        ('[study]\ncomand = "x"', "[study] comand", "did you mean 'command'"),
        ('[objektive]\nmetric = "x"', "[objektive]", "did you mean 'objective'"),
        (GOOD.replace('better = "lower"', ""), "better = None", "better ="),
        (GOOD.replace('"lower"', '"smaller"'), "'smaller'", "better ="),
        (GOOD.replace('["train.py"]', "[]"), "[study] edit = []", "mend"),
        (GOOD.replace('["train.py"]', '["../x"]'), "'../x'", "mend"),
        (GOOD.replace('["train.py"]', '["/etc/x"]'), "'/etc/x'", "mend"),
        (GOOD.replace('"10s"', '"soon"'), "'soon'", "mend"),
        (GOOD.replace('"10s"', '"0s"'), "'0s'", "mend"),
        (GOOD.replace('"10s"', "true"), "True", "mend"),
        (GOOD.replace('"val_loss"', '"val loss"'), "'val loss'", "mend"),
        (GOOD.replace('metric = "val_loss"', ""), "no [objective] metric", "init"),
        (GOOD + '[guards]\nx = "about 5"\n', "about 5", "<="),
        (GOOD + "[devices]\nslots = 0\n", "slots", "mend"),
        (GOOD + "[researcher]\ncontext_tokens = 100\n", "context_tokens", "mend"),
        (GOOD + '[sandbox]\nmemory = "lots"\n', "'lots'", "mend"),
        (GOOD + '[sandbox]\nenv = ["A-B"]\n', "'A-B'", "mend"),
        (GOOD + '[sandbox]\nread = ["data"]\n', "'data'", "mend"),
        (GOOD + "[sandbox]\nprocesses = 0\n", "processes", "mend"),
        (GOOD.replace('budget = "10s"', "kill_factor = 0.5"), "kill_factor", "mend"),
    ],
)
def test_every_mistake_names_itself_and_the_cure(wrong: str, says: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(wrong)
    what, why, cure = caught.value.lines()
    assert says in what
    assert why
    assert hint in cure
    assert caught.value.exit_code == 2


def test_a_missing_an_unreadable_and_a_broken_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert caught.value.hint == "nightlab init"
    (tmp_path / "nightlab.toml").write_text("[study\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        config.load(tmp_path)
    (tmp_path / "nightlab.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read"):
        config.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("90s", 90),
        ("1h30m", 5400),
        ("8h", 28800),
        ("2.5m", 150),
        (60, 60),
        ("1d", 86400),
    ],
)
def test_durations(text: str | int, seconds: float) -> None:
    assert config.duration_s("x", text) == seconds


@pytest.mark.parametrize(("text", "size"), [("8G", 8 << 30), ("512M", 512 << 20), (1024, 1024)])
def test_sizes(text: str | int, size: int) -> None:
    assert config.size_bytes("x", text) == size


def test_until_is_the_next_time_the_clock_shows_it() -> None:
    now = time.mktime((2026, 11, 21, 22, 30, 0, 0, 0, -1))
    assert config.until_unix("23:00", now) - now == 1800
    assert config.until_unix("07:00", now) - now == 8.5 * 3600
    with pytest.raises(ConfigError):
        config.until_unix("25:00", now)


def test_tags() -> None:
    assert config.default_tag(time.mktime((2026, 3, 5, 12, 0, 0, 0, 0, -1))) == "mar5"
    for bad in ("", "a b", "../x", "a..b", "x.lock", "-x", "a/b", "current", "é", "a" * 65):
        with pytest.raises(ConfigError):
            config.check_tag(bad)


# One test for every key of config.KEYS: what it changes.


def study(tmp_path: Path, toml: str, train: str = TRAIN, experiments: int = 1) -> object:
    root = make_project(tmp_path / "p", train=train, toml=toml)
    return drive(root, Steps([lr(0.03)]), experiments)[1].engine


PRINTS_ENV = (
    TRAIN + "import json\nfor k, v in sorted(os.environ.items()):\n    print('ENV', k, v)\n"
)


def log_of(engine: object) -> str:
    folder = engine.paths.study(engine.study.tag) / "runs" / "000001"  # type: ignore[attr-defined]
    return (folder / "log.txt").read_text()


def test_key_objective_metric_and_better_study_command_and_edit(tmp_path: Path) -> None:
    toml = (
        CONFIG.replace("train.py", "other.py").replace("val_loss", "acc").replace("lower", "higher")
    )
    root = make_project(tmp_path / "p", toml=toml)
    (root / "other.py").write_text("print('acc:', 0.5)\n")
    from tests.support import git

    git(root, "add", "other.py")
    git(root, "commit", "-qm", "other")
    engine = open_study(root).engine
    with engine.journal:
        assert set(engine.files_in_scope()) == {"other.py"}
        assert engine.study.objective.better is Better.HIGHER
        assert engine.study.objective.metric == "acc"


def test_key_study_budget_is_handed_over(tmp_path: Path) -> None:
    engine = study(tmp_path, CONFIG.replace('"10s"', '"7s"'), PRINTS_ENV)
    assert "ENV TIME_BUDGET 7\n" in log_of(engine)


def test_key_study_budget_and_kill_factor_bound_a_run(tmp_path: Path) -> None:
    toml = CONFIG.replace('budget = "10s"', 'budget = "0.4s"\nkill_factor = 1.5')
    engine = study(tmp_path, toml, "import time\nprint('started', flush=True)\ntime.sleep(30)\n")
    run = engine.history.experiments[1].runs[0]  # type: ignore[attr-defined]
    assert run.outcome is Outcome.TIMED_OUT
    assert 0.6 <= run.duration_s <= 2.6
    assert "started" in log_of(engine)


def test_key_study_seed_env(tmp_path: Path) -> None:
    toml = CONFIG.replace('budget = "10s"', 'budget = "10s"\nseed_env = "MY_SEED"')
    engine = study(tmp_path, toml, PRINTS_ENV)
    assert "ENV MY_SEED 1\n" in log_of(engine)


def test_key_study_data_must_exist(tmp_path: Path) -> None:
    toml = CONFIG.replace('budget = "10s"', 'budget = "10s"\ndata = ["corpus"]')
    root = make_project(tmp_path / "p", toml=toml)
    with pytest.raises(ConfigError, match="corpus"):
        open_study(root)


def test_key_sandbox_env_lets_a_variable_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET_TOKEN", "s3cret")
    monkeypatch.setenv("MY_MODE", "quick")
    engine = study(tmp_path, CONFIG + '[sandbox]\nenv = ["MY_MODE"]\n', PRINTS_ENV)
    assert "ENV MY_MODE quick" in log_of(engine)
    assert "s3cret" not in log_of(engine)


def test_key_sandbox_use(tmp_path: Path) -> None:
    engine = study(tmp_path, CONFIG + '[sandbox]\nuse = "process"\n')
    assert engine.sandbox.name == "process"  # type: ignore[attr-defined]
    root = make_project(tmp_path / "q", more='[sandbox]\nuse = "moat"\n')
    with pytest.raises(ConfigError, match="moat"):
        open_study(root)


def test_key_sandbox_image_and_processes_reach_the_box(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="image"):
        study(tmp_path / "a", CONFIG + '[sandbox]\nuse = "container"\n')
    settings = parse(GOOD + '[sandbox]\nimage = "lab:1"\nprocesses = 9\n')
    folder = tmp_path / "b"
    folder.mkdir()
    box = ContainerSandbox(Options(settings.image, settings.processes))
    argv = box.launch(Cell("true", folder, folder, folder)).argv
    assert "lab:1" in argv
    assert argv[argv.index("--pids-limit") + 1] == "9"


def test_key_sandbox_read_names_what_a_run_may_read(tmp_path: Path) -> None:
    place = tmp_path / "outside"
    place.mkdir()
    (place / "tokens").write_text("5")
    train = f"print('read', open('{place}/tokens').read())\n" + TRAIN
    engine = study(tmp_path / "p", CONFIG + f'[sandbox]\nread = ["{place}"]\n', train)
    assert "read 5" in log_of(engine)
    assert parse(GOOD + '[sandbox]\nread = ["~/x"]\n').read == (str(Path.home() / "x"),)


def test_key_sandbox_disk_bounds_a_file(tmp_path: Path) -> None:
    train = "open('big', 'wb').write(bytes(3 << 20))\n" + TRAIN
    engine = study(tmp_path, CONFIG + '[sandbox]\ndisk = "1M"\n', train)
    assert "File too large" in log_of(engine)


def test_key_sandbox_disk_bounds_all_that_a_run_writes(tmp_path: Path) -> None:
    many = (
        "import time\nfor n in range(40):\n    open(f'part{n}', 'wb').write(bytes(1 << 18))\n"
        "time.sleep(20)\n" + TRAIN
    )
    engine = study(tmp_path, CONFIG + '[sandbox]\ndisk = "4M"\n', many)
    run = engine.history.experiments[1].runs[0]  # type: ignore[attr-defined]
    assert (run.outcome, run.detail) == (Outcome.CRASHED, "wrote more than 4 MiB")


@pytest.mark.parametrize("use", ["auto", "process"])
def test_key_sandbox_cache_is_one_folder_for_all_runs(tmp_path: Path, use: str) -> None:
    train = (
        "import os, pathlib\nplace = os.environ.get('NIGHTLAB_CACHE')\nprint('cache', place)\n"
        "if place:\n    kept = pathlib.Path(place, 'kept')\n    print('found', kept.exists())\n"
        "    kept.write_text('x')\n" + TRAIN
    )
    off = study(tmp_path / "off", CONFIG + f'[sandbox]\nuse = "{use}"\n', train)
    assert "cache None" in log_of(off)
    on = study(tmp_path / "on", CONFIG + f'[sandbox]\nuse = "{use}"\ncache = true\n', train)
    assert "found False" in log_of(on)
    second = on.paths.log(on.study.tag, 2).read_text()  # type: ignore[attr-defined]
    assert "found True" in second
    with pytest.raises(ConfigError, match="cache"):
        parse(GOOD + '[sandbox]\ncache = "yes"\n')


def test_key_sandbox_log_bounds_what_is_kept(tmp_path: Path) -> None:
    train = "print('y\\n' * 50000)\n" + TRAIN
    engine = study(tmp_path, CONFIG + '[sandbox]\nlog = "10K"\n', train)
    assert len(log_of(engine)) < 11_000


def test_key_sandbox_memory_ends_a_hog(tmp_path: Path) -> None:
    hog = (
        "import time\nx = bytearray(600 << 20)\nx[::4096] = b'1' * len(x[::4096])\ntime.sleep(9)\n"
    )
    engine = study(tmp_path, CONFIG + '[sandbox]\nmemory = "300M"\n', hog)
    assert engine.history.experiments[1].runs[0].outcome is Outcome.OOM  # type: ignore[attr-defined]


def test_key_judge_use(tmp_path: Path) -> None:
    engine = study(tmp_path, CONFIG + '[judge]\nuse = "greedy"\n')
    assert len(engine.history.experiments[1].runs) == 1  # type: ignore[attr-defined]


def test_key_judge_line_margin_prices_added_lines(tmp_path: Path) -> None:
    def longer(text: str) -> str:
        return text.replace("LR = 0.1", "LR = 0.03\nA = 1\nB = A\nC = B")

    verdicts = []
    for margin in (0.01, 0.05):
        more = f'[judge]\nuse = "greedy"\nline_margin = {margin}\n'
        root = make_project(tmp_path / f"p{margin}", more=more)
        engine = drive(root, Steps([longer]), 2)[1].engine  # gains 0.07 with three lines
        experiment = engine.history.experiments[2]
        verdicts.append(experiment.verdict)
    assert verdicts == [Verdict.KEEP, Verdict.DISCARD]
    assert experiment.decision is not None
    assert experiment.decision.rule == "margin"
    assert "3 net lines would have to gain 0.15" in experiment.decision.reason
    with pytest.raises(ConfigError, match="line_margin"):
        parse(GOOD + "[judge]\nline_margin = -1\n")


def test_key_devices_slots(tmp_path: Path) -> None:
    engine = study(tmp_path, CONFIG + "[devices]\nslots = 2\n")
    assert len(engine.executor.slots) == 2  # type: ignore[attr-defined]


# [study] protect, [objective] evaluate and [objective] hidden have theirs in test_sealed.py,
# [objective] expression in test_expression.py, [judge] covariate in test_covariate.py,
# [checks] and [pareto] in files of those names.
# [study] protect, [objective] evaluate and [objective] hidden have theirs in test_sealed.py;
# test_key_final_…: [final] command, budget, test, hidden and pairs in test_finalize.py.


def test_key_guards_veto_a_keep(tmp_path: Path) -> None:
    train = TRAIN.replace("512.0", "{512.0 if LR > 0.05 else 900.0}").replace(
        'print("peak', 'print(f"peak'
    )
    toml = CONFIG + '[guards]\npeak_vram_mb = "<= baseline * 1.2"\n'
    engine = study(tmp_path, toml, train, experiments=2)
    experiment = engine.history.experiments[2]  # type: ignore[attr-defined]
    assert experiment.verdict is Verdict.DISCARD
    assert "peak_vram_mb" in experiment.decision.reason


def test_key_researcher_use_seed_values_and_script(tmp_path: Path) -> None:
    assert open_researcher(ResearcherSettings(use="optuna")).name == "optuna"
    values = {"LR": (0.01, 0.02)}
    assert open_researcher(ResearcherSettings(use="sweep", values=values)).name == "sweep"
    with pytest.raises(ConfigError, match="clod"):
        open_researcher(ResearcherSettings(use="clod"))


def asked(tmp_path: Path, keys: str, command: str = "env > seen") -> dict[str, str]:
    """What a program that is asked for a proposal, with these keys, found in its environment."""
    settings = parse(GOOD + f'[researcher]\nuse = "command"\n{keys}\ncommand = """{command}"""\n')
    desk = Desk(tmp_path / "desk", lambda tree: None, ProcessSandbox())
    context = Context("t", 2, settings.objective, {}, edit=("x",), desk=desk)
    with pytest.raises(ResearcherError) as caught:
        open_researcher(researcher_settings(settings)).propose(context)
    seen = tmp_path / "desk/project/seen"
    lines = seen.read_text().splitlines() if seen.exists() else []
    return {"answer": caught.value.answer} | dict(line.split("=", 1) for line in lines)


def test_key_researcher_command_is_the_program_that_is_asked(tmp_path: Path) -> None:
    assert asked(tmp_path, "", "echo MARK=1 > seen")["MARK"] == "1"


def test_key_researcher_model_is_handed_over(tmp_path: Path) -> None:
    assert asked(tmp_path, 'model = "qwen3"')["NIGHTLAB_MODEL"] == "qwen3"


def test_key_researcher_endpoint_is_handed_over_and_must_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        assert asked(tmp_path, f'endpoint = "{url}/"')["NIGHTLAB_ENDPOINT"] == url
    assert asked(tmp_path, f'endpoint = "{url}"')["answer"] == "unreachable"
    with pytest.raises(ConfigError, match="endpoint"):
        parse(GOOD + '[researcher]\nendpoint = "localhost:11434"\n')


def test_key_researcher_key_env_and_env_pass_variables_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MY_KEY", "MY_SETTING", "MY_OTHER_KEY"):
        monkeypatch.setenv(name, "here")
    seen = asked(tmp_path, 'key_env = "MY_KEY"\nenv = ["MY_SETTING"]')
    assert (seen["MY_KEY"], seen["MY_SETTING"]) == ("here", "here")
    assert "MY_OTHER_KEY" not in seen
    with pytest.raises(ConfigError, match="env"):
        parse(GOOD + '[researcher]\nenv = ["A=B"]\n')


def test_key_researcher_timeout_ends_a_call(tmp_path: Path) -> None:
    began = time.monotonic()
    assert asked(tmp_path, 'timeout = "1s"', "sleep 60")["answer"] == "hung"
    assert time.monotonic() - began < 20


def test_key_researcher_max_turns_and_resume_reach_the_agent(tmp_path: Path) -> None:
    text = GOOD + '[researcher]\nuse = "claude"\nmax_turns = 7\nresume = true\n'
    settings = researcher_settings(parse(text))
    assert settings.resume
    here = tmp_path
    order = Order(settings, "claude", here, here, here, here, "", (), (), session="s1")
    argv = open_agent("claude").start(order).argv
    assert argv[argv.index("--max-turns") + 1] == "7"
    assert argv[argv.index("--resume") + 1] == "s1"
    with pytest.raises(ConfigError, match="max_turns"):
        parse(GOOD + "[researcher]\nmax_turns = 0\n")


def test_key_researcher_price_prices_what_an_agent_used() -> None:
    text = GOOD + "[researcher]\nprice = { input = 1.0, output = 2 }\n"
    own = researcher_settings(parse(text)).price
    assert priced(Usage(1_000_000, 500_000), own).usd == pytest.approx(2.0)
    with pytest.raises(ConfigError, match="price"):
        parse(GOOD + "[researcher]\nprice = { inputs = 1.0 }\n")


@pytest.mark.parametrize("tokens", [2_500, 12_000])
def test_key_researcher_context_tokens_bounds_what_a_reading_researcher_is_given(
    tmp_path: Path, tokens: int
) -> None:
    root = make_project(tmp_path / "p", more=f"[researcher]\ncontext_tokens = {tokens}\n")
    (root / "program.md").write_text("Mind the noise.\n" * 2000)
    reader = Reader([lr(0.05), lr(0.06)], contexts=[])
    drive(root, reader, 2)
    first = reader.contexts[0] if reader.contexts else None
    assert first is not None
    assert "Mind the noise." in first.brief
    # program.md may take a fifth of it, and does.
    assert 0.7 * tokens * 0.2 < brief.tokens_of(first.brief) <= tokens


STEPS = """\
import time
for step in range(12):
    time.sleep(0.02)
    print(f"step {step} loss: {step} other: {-step}", flush=True)
print("val_loss: 1.0")
"""


@pytest.mark.parametrize(("more", "name"), [("", "loss"), ('[judge]\ncurve = "other"\n', "other")])
def test_key_judge_curve_says_what_is_followed(tmp_path: Path, more: str, name: str) -> None:
    engine = study(tmp_path, CONFIG + more, STEPS)
    curve = engine.history.experiments[1].runs[0].curve  # type: ignore[attr-defined]
    assert curve.name == name


# tests/test_early.py holds a whole study that stops runs.
def test_key_judge_early_stop_and_early_audit() -> None:
    assert parse(GOOD).early_stop == 0.1
    off = parse(GOOD + "[judge]\nearly_stop = 0\nearly_audit = 0.5\n")
    assert (off.early_stop, off.early_audit) == (0.0, 0.5)
    with pytest.raises(ConfigError, match="early_stop"):
        parse(GOOD + "[judge]\nearly_stop = 1.5\n")


# test_key_git_…: [git] push has its own in test_push.py.
# test_key_export_…: [export] live in test_trackers_live.py.
# test_key_notify_…: [notify] to, on, morning and per_hour in test_notify.py.


def test_every_key_has_its_test_and_its_line_in_the_docs() -> None:
    here = Path(__file__).read_text()
    page = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()
    for section, keys in config.KEYS.items():
        assert f"`[{section}]`" in page
        for key in keys:
            assert f"`{key}`" in page, f"[{section}] {key} is not in docs/configuration.md"
            named = f"test_key_{section}" in here and key in here
            assert named, f"[{section}] {key} has no test"


def test_key_researcher_fallback_says_who_goes_on() -> None:
    def named(keys: str) -> str | None:
        made = fallback(parse(GOOD + f"[researcher]\n{keys}\n"))
        return None if made is None else made().name

    assert named('use = "command"\ncommand = "x"') == "optuna"
    assert named('use = "optuna"') is None
    assert named('use = "command"\ncommand = "x"\nfallback = "none"') is None
    assert named('use = "optuna"\nfallback = "command"\ncommand = "x"') == "command"
    with pytest.raises(ConfigError, match="'clod' is no researcher"):
        named('fallback = "clod"')


@pytest.mark.parametrize("fixes", [0, 1])
def test_key_researcher_fixes_bounds_how_often_a_crash_goes_back(
    tmp_path: Path, fixes: int
) -> None:
    root = make_project(tmp_path / "p", more=f"[researcher]\nfixes = {fixes}\n")
    researcher = Mending([broken], [other_slip])
    drive(root, researcher, 2)
    assert len(researcher.failures) == fixes
    with pytest.raises(ConfigError, match="fixes"):
        parse(GOOD + "[researcher]\nfixes = -1\n")


@pytest.mark.parametrize(("every", "plans"), [(0, 0), (1, 2)])
def test_key_researcher_plan_every_says_how_often_a_plan_is_asked_for(
    tmp_path: Path, every: int, plans: int
) -> None:
    class Planning(Mending):
        planned = 0

        def plan(self, context: Context) -> Plan:
            self.planned += 1
            return Plan(())

    root = make_project(tmp_path / "p", more=f"[researcher]\nplan_every = {every}\n")
    researcher = Planning([lr(0.05), lr(0.06), lr(0.07)], [])
    drive(root, researcher, 4)
    assert researcher.planned == plans


def test_key_researcher_agent_changes_the_structure_for_hybrid() -> None:
    agent = '[researcher]\nuse = "hybrid"\nagent = "command"\ncommand = "x"\n'
    found = open_researcher(researcher_settings(parse(GOOD + agent)))
    assert found.name == "hybrid"
    with pytest.raises(ConfigError, match="agent"):
        open_researcher(researcher_settings(parse(GOOD + '[researcher]\nuse = "hybrid"\n')))
