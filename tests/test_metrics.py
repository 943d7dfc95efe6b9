import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.metrics import (
    MAX_METRICS,
    MAX_NOTES,
    MAX_TRACEBACK_CHARS,
    Measurement,
    classify,
    read,
)
from nightlab.model import Better, Objective, Outcome

REFERENCE = b"""step 00953 (100.0%) | loss: 2.998 | tok/sec: 1,700,000 | mfu: 39.8%
---
val_bpb:          0.997900
training_seconds: 300.1
peak_vram_mb:     45060.2
mfu_percent:      39.80
num_steps:        953
depth:            8
"""
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_./@-]{0,63}", fullmatch=True)
NUMBERS = st.floats(-9e99, 9e99)


def values(
    output: bytes, result: bytes | None = None, *, complete: bool = True
) -> dict[str, float]:
    return read(output, result, complete=complete).values


# --- reading -------------------------------------------------------------------------------


def test_the_block_that_the_reference_prints_is_read():
    found = values(REFERENCE)
    assert found == {
        "val_bpb": 0.9979,
        "training_seconds": 300.1,
        "peak_vram_mb": 45060.2,
        "mfu_percent": 39.8,
        "num_steps": 953.0,
        "depth": 8.0,
    }


@given(st.binary(max_size=400), st.none() | st.binary(max_size=200), st.booleans())
def test_no_bytes_make_reading_fail_and_nothing_read_is_unreal(output, result, complete):
    found = read(output, result, complete=complete)
    assert all(math.isfinite(value) for value in found.values.values())
    assert not set(found.values) & set(found.diverged)
    assert len(found.values) + len(found.diverged) <= MAX_METRICS
    assert len(found.notes) <= MAX_NOTES


@given(st.text(alphabet='ab:=-+.0159eEnaifMETRIC \t\r\n\x1b[m{}",１', max_size=80).map(str.encode))
def test_near_misses_never_give_unreal_values(output):
    found = read(output, output)
    assert all(math.isfinite(value) for value in found.values.values())


@given(
    st.dictionaries(NAMES, NUMBERS, min_size=1, max_size=20),
    st.sampled_from(["{}: {!r}", "METRIC {}={!r}"]),
)
def test_printed_metrics_come_back_as_they_were(metrics, form):
    lines = "".join(form.format(name, value) + "\n" for name, value in metrics.items())
    assert values(lines.encode()) == metrics


@given(st.dictionaries(NAMES, NUMBERS, max_size=20))
def test_metrics_in_the_result_file_come_back_as_they_were(metrics):
    assert values(b"", json.dumps(metrics).encode()) == metrics


@pytest.mark.parametrize(
    "line",
    [
        b"loss: 1,024.5",
        b"loss: 0x1p3",
        b"loss: 1_000",
        b"loss: 3.1 MB",
        b"loss: 98%",
        "loss: １２".encode(),
        "loss: ٣".encode(),
        b"loss: 1.2.3",
        b"loss: --1",
        b"loss: 1e",
        b"loss:",
        b"loss: ",
        b"loss 0.5",
        b"loss = 0.5",
        b"final loss: 0.5",
        b"loss: 0.5 (epoch 3)",
        b"METRIC loss 0.5",
        b"METRIC loss=",
        b"METRIC loss=0.5s",
        b"metric loss=0.5",
        b"1loss: 0.5",
        b"loss: True",
        b"loss\x00: 0.5",
        b"loss: 0.5\x00",
        b"loss: tensor(0.5)",
        b"a" * 65 + b": 0.5",
        b"loss: " + b"1" * 5000,
    ],
)
def test_what_is_not_exactly_a_name_and_a_plain_number_is_not_a_measurement(line):
    found = read(line + b"\n")
    assert found.values == {}
    assert found.diverged == ()


@pytest.mark.parametrize(
    "text", [b"nan", b"NaN", b"-nan", b"inf", b"-Infinity", b"1e999", b"-nan(ind)"]
)
def test_a_number_that_is_not_finite_is_diverged_and_not_a_value(text):
    for found in (read(b"loss: " + text), read(b"METRIC loss=" + text)):
        assert found.diverged == ("loss",)
        assert found.values == {}


def test_json_may_say_nan_too():
    found = read(b"", b'{"loss": NaN, "acc": -Infinity, "big": 1e400, "n": 3}')
    assert set(found.diverged) == {"loss", "acc", "big"}
    assert found.values == {"n": 3.0}


def test_the_last_word_counts_whether_it_is_a_number_or_not():
    assert read(b"loss: nan\nloss: 2\n").values == {"loss": 2.0}
    assert read(b"loss: 2\nloss: nan\n").diverged == ("loss",)


def test_a_value_that_changes_is_noted_and_a_repeated_one_is_not():
    assert any("more than once" in note for note in read(b"a: 1\na: 2\n").notes)
    assert read(b"a: 1\na: 1\n").notes == ()


def test_the_more_trusted_source_wins_and_says_so():
    found = read(b"METRIC a=2\na: 1\n", b'{"a": 3}')
    assert found.values == {"a": 3.0}
    assert sum("say" in note for note in found.notes) == 2
    assert values(b"METRIC a=2\na: 1\n") == {"a": 2.0}
    assert read(b"a: 1\n", b'{"a": NaN}').diverged == ("a",)


def test_only_what_follows_the_last_rule_counts_among_plain_lines():
    assert values(b"a: 1\nMETRIC m=9\n---\nb: 2\n---\nc: 3\n") == {"m": 9.0, "c": 3.0}


def test_a_rule_after_the_metrics_is_explained():
    found = read(b"a: 1\nb: 2\n---\ndone\n")
    assert found.values == {}
    assert any("`---`" in note for note in found.notes)


def test_progress_lines_colours_and_windows_line_ends_are_seen_as_a_terminal_shows_them():
    assert values(b"step 1 loss: 9\rstep 2 loss: 8\rloss: 7\r\n") == {"loss": 7.0}
    assert values(b"\x1b[1;32mloss:\x1b[0m 7\x1b[K\n") == {"loss": 7.0}
    assert values(b"\x1b]0;title\x07loss: 7\n") == {"loss": 7.0}
    assert values(b"loss: 7\rdone\n") == {}


def test_other_line_separators_do_not_split_lines():
    for separator in ("\x0b", "\x0c", "\u2028", "\x85", "\x1c"):
        assert values(f"x{separator}loss: 7\n".encode()) == {}


def test_a_last_line_without_its_end_counts_only_where_the_program_ended_by_itself():
    assert values(b"a: 1\nloss: 0.99", complete=True) == {"a": 1.0, "loss": 0.99}
    assert values(b"a: 1\nloss: 0.99", complete=False) == {"a": 1.0}


def test_nested_json_is_read_one_level_deep_and_strangers_are_noted():
    raw = b'{"test": {"acc": 0.9, "deep": {"x": 1}}, "flag": true, "note": "hi", "bad name": 1, "n": 2}'
    found = read(b"", raw)
    assert found.values == {"test.acc": 0.9, "n": 2.0}
    assert len(found.notes) == 3


@pytest.mark.parametrize(
    "raw", [b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}' + b" " * (1 << 20), b"3", b'"x"']
)
def test_a_result_file_that_is_no_object_is_noted_and_the_lines_still_count(raw):
    found = read(b"a: 5\n", raw)
    assert found.values == {"a": 5.0}
    assert found.notes


def test_a_flood_of_names_does_not_push_out_the_last_ones():
    flood = b"".join(b"x%d: 1\n" % i for i in range(5000))
    found = read(flood + b"loss: 2\n")
    assert len(found.values) == MAX_METRICS
    assert found.values["loss"] == 2.0
    assert any("more than" in note for note in found.notes)


def test_a_unit_after_the_number_is_refused_and_noted():
    assert read(b"vram: 3.1 GB\n").notes == ("vram: '3.1 GB' is not a plain number",)


# --- outcomes ------------------------------------------------------------------------------

OBJECTIVE = Objective(metric="val_bpb", better=Better.LOWER)
TRACE = """some output
Traceback (most recent call last):
  File "train.py", line 9, in <module>
    main()
  File "train.py", line 5, in main
    {call}
{error}
"""


def ended(tail="", measurement=None, exit_code=0, **flags):
    known = {"signal": None, "timed_out": False, "stopped": False, "oom": False} | flags
    found = read(tail.encode()) if measurement is None else measurement
    return classify(exit_code=exit_code, measurement=found, objective=OBJECTIVE, tail=tail, **known)


def test_a_program_that_ends_well_and_prints_the_objective_is_ok():
    assert ended("val_bpb: 0.9\n") == (Outcome.OK, "", "")


def test_a_value_before_a_failure_does_not_make_a_run_ok():
    outcome, detail, _ = ended("val_bpb: 0.9\nbye\n", exit_code=3)
    assert outcome is Outcome.CRASHED
    assert detail == "exit code 3: bye"


def test_what_we_did_to_the_process_goes_before_what_it_printed():
    killed = {"exit_code": None, "signal": 9}
    assert ended("val_bpb: 1\n", **killed, stopped=True)[0] is Outcome.STOPPED
    assert ended("val_bpb: 1\n", **killed, oom=True)[0] is Outcome.OOM
    assert ended("val_bpb: 1\n", **killed, timed_out=True)[0] is Outcome.TIMED_OUT


def test_a_crash_comes_with_its_last_traceback_and_its_exception():
    tail = TRACE.format(call="old()", error="KeyError: 'a'")
    tail += "\nDuring handling of the above exception, another exception occurred:\n\n"
    tail += TRACE.format(call="x = 1 / 0", error="ZeroDivisionError: division by zero") + "\nmore\n"
    outcome, detail, trace = ended(tail, exit_code=1)
    assert outcome is Outcome.CRASHED
    assert detail == "ZeroDivisionError: division by zero"
    assert trace.startswith("Traceback (most recent call last):")
    assert trace.endswith(detail)
    assert "KeyError" not in trace


def test_a_traceback_with_a_prefix_on_every_line_and_a_syntax_error_are_found_too():
    ranked = "".join(
        f"[rank0]: {line}\n"
        for line in TRACE.format(call="f()", error="ValueError: x").split("\n")[1:-1]
    )
    assert ended("hi\n" + ranked, exit_code=1)[1] == "ValueError: x"
    syntax = '  File "train.py", line 2\n    x = = 1\n        ^\nSyntaxError: invalid syntax\n'
    outcome, detail, trace = ended(syntax, exit_code=1)
    assert (outcome, detail) == (Outcome.CRASHED, "SyntaxError: invalid syntax")
    assert 'File "train.py", line 2' in trace


def test_a_long_traceback_is_cut_in_the_middle():
    tail = TRACE.format(call="f()\n" + "  File x\n" * 5000, error="RecursionError: too deep")
    _, detail, trace = ended(tail, exit_code=1)
    assert len(trace) <= MAX_TRACEBACK_CHARS
    assert trace.startswith("Traceback")
    assert trace.endswith("RecursionError: too deep")
    assert detail == "RecursionError: too deep"


@pytest.mark.parametrize(
    "error",
    [
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "torch.OutOfMemoryError: x",
        "MemoryError",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3 TiB: not enough memory",
        "RuntimeError: [enforce fail] DefaultCPUAllocator: not enough memory: you tried",
    ],
)
def test_running_out_of_memory_is_its_own_outcome(error):
    outcome, detail, trace = ended(TRACE.format(call="f()", error=error), exit_code=1)
    assert outcome is Outcome.OOM
    assert detail == error
    assert trace


def test_a_bad_alloc_without_a_traceback_is_oom():
    tail = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"
    assert ended(tail, exit_code=134)[0] is Outcome.OOM


def test_memory_trouble_that_the_script_survived_is_not_the_reason_of_a_later_crash():
    tail = "CUDA out of memory, halving the batch\n" + TRACE.format(call="f()", error="KeyError: 1")
    assert ended(tail, exit_code=1)[0] is Outcome.CRASHED


def test_an_objective_that_is_not_finite_is_diverged_whatever_the_exit_code():
    assert ended("val_bpb: nan\n")[0] is Outcome.DIVERGED
    assert ended("val_bpb: inf\n", exit_code=1)[0] is Outcome.DIVERGED


@pytest.mark.parametrize(
    "tail",
    [
        "step 10 loss: 120.3\nFAIL\n",
        "step 10 | loss: nan\nstopping\n",
        TRACE.format(call="check()", error="FloatingPointError: overflow"),
        TRACE.format(call="check()", error="ValueError: loss is NaN at step 3"),
        TRACE.format(call="check()", error="AssertionError: non-finite loss"),
    ],
)
def test_a_script_that_gives_up_on_a_wild_loss_diverged(tail):
    assert ended(tail, exit_code=1)[0] is Outcome.DIVERGED


@pytest.mark.parametrize(
    "tail",
    [
        TRACE.format(call="x = nan", error="NameError: name 'nan' is not defined"),
        TRACE.format(call="f()", error="AttributeError: 'inf'"),
        "loss: nan\n" + TRACE.format(call="f()", error="KeyError: 'x'"),
        "tests: FAILED (3)\n",
        "FAIL\n" + "line\n" * 30,
    ],
)
def test_a_bug_that_mentions_nan_or_fail_is_a_crash(tail):
    assert ended(tail, exit_code=1)[0] is Outcome.CRASHED


def test_fail_printed_by_a_program_that_then_succeeds_means_nothing():
    assert ended("FAIL\nval_bpb: 1\n")[0] is Outcome.OK


def test_a_death_by_signal_is_named_also_through_a_shell():
    assert ended("", exit_code=None, signal=11)[1] == "ended by SIGSEGV, no output"
    assert ended("x\n", exit_code=139)[1] == "ended by SIGSEGV: x"


@pytest.mark.parametrize(
    ("tail", "part"),
    [
        ("", "a line `val_bpb: number` was expected"),
        ("val_bpb = 0.93\n", "seen: 'val_bpb = 0.93'"),
        ("final val_bpb: 0.93\n", "seen: 'final val_bpb: 0.93'"),
        ("val_bpb: 0.93 bits\n", "not a plain number"),
        ("val_loss: 0.93\n", "other metrics were: val_loss"),
        ("val_bpb: 1\n---\n", "before the last `---`"),
    ],
)
def test_a_missing_metric_says_what_was_there_instead(tail, part):
    outcome, detail, _ = ended(tail)
    assert outcome is Outcome.NO_METRIC
    assert part in detail


@given(st.text(max_size=300), st.integers(-300, 300) | st.none(), st.integers(0, 64) | st.none())
def test_no_output_makes_classification_fail(tail, exit_code, signal):
    outcome, detail, trace = ended(tail, Measurement(), exit_code=exit_code, signal=signal)
    assert outcome is not Outcome.OK
    assert detail
    assert "\n" not in detail
    assert len(trace) <= MAX_TRACEBACK_CHARS
