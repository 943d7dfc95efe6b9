"""Which space a constant has: guessed from its name and value, or said by the person.

``infer`` knows what people call things: a learning rate moves by factors, a batch size by
powers of two, a dropout between 0 and 0.6. ``declared`` reads ``# nightlab: 1e-5..1e-2 log``.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable

from nightlab.researchers.spaces import Scalar, Scale, Space, clean, kind, tidy

# ---------------------------------------------------------------- what a name says

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NOT_A_KNOB = _set("""
    seed seeds dir path file folder url host port version eval evaluate log logging print verbose
    debug dtype save checkpoint ckpt name tag project wandb workers threads prefetch timeout vocab
    classes val valid validation test split fold folds flops id token budget gpu gpus world tokens
    tokenizer dataset compile every interval profile resume backend column pad ignore index
""")
_SIZES = _set("""
    batch bs dim dims size hidden width units channels channel embd embed features len length
    block window context seq heads head groups filters ff ffn mlp rank patch buffer
""")
_FRACTIONS = _set("""
    dropout drop prob probability ratio frac fraction pct percent smoothing mixup cutmix share
    keep rate p
""")
_COUNTS = _set("n num count steps step iters iterations epochs layers max")
_SHARES = _set("frac fraction ratio pct percent share")
_NEAR_ONE = _set("beta betas momentum ema rho gamma polyak cooling discount")
_DECAYS = _set("decay wd l1 l2 reg regularization penalty")
_FAMILIES: tuple[tuple[frozenset[str], tuple[str, ...], tuple[str, ...]], ...] = (
    # hints in the name, the whole family, the part that most code knows
    (
        frozenset({"act", "activation", "activations", "nonlinearity", "nonlin"}),
        ("relu", "gelu", "silu", "swish", "tanh", "sigmoid", "elu", "selu", "leaky_relu", "mish",
         "softplus", "relu2", "relu_squared", "hardswish", "geglu", "swiglu", "reglu"),
        ("relu", "gelu", "silu", "tanh"),
    ),
    (
        frozenset({"opt", "optim", "optimizer", "optimiser"}),
        ("sgd", "adam", "adamw", "rmsprop", "adagrad", "nadam", "radam", "lion", "muon", "lamb",
         "adafactor", "adamax", "momentum", "nesterov"),
        ("sgd", "adam", "adamw", "rmsprop"),
    ),
    (
        frozenset({"sched", "schedule", "scheduler", "decay", "anneal", "annealing"}),
        ("constant", "linear", "cosine", "step", "exponential", "polynomial", "none", "onecycle",
         "inverse_sqrt", "sqrt", "wsd"),
        ("constant", "linear", "cosine"),
    ),
    (
        frozenset({"norm", "normalization", "normalisation"}),
        ("layer", "batch", "rms", "layernorm", "batchnorm", "rmsnorm", "group", "groupnorm",
         "instance", "none"),
        (),
    ),
    (
        frozenset({"init", "initializer", "initialization", "initialiser"}),
        ("xavier", "glorot", "he", "kaiming", "normal", "uniform", "orthogonal", "lecun", "zeros",
         "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"),
        (),
    ),
)  # fmt: skip


def words(name: str) -> frozenset[str]:
    """The words of a name, lower case: ``Config.headDim``, ``HEAD_DIM``, ``--head-dim`` alike."""
    return frozenset(w.lower() for w in _WORD.findall(name))


def is_knob(name: str) -> bool:
    """False for names that plainly steer something else than the training."""
    said = words(name.rpartition(".")[2])
    if said & {"device"} and not said & {"batch"}:  # DEVICE_BATCH_SIZE is a batch size
        return False
    if {"random", "state"} <= said or {"num", "input"} <= said or {"n", "input"} <= said:
        return False
    return not said & _NOT_A_KNOB


def infer(name: str, value: Scalar, strings: Iterable[str] = ()) -> Space | None:
    """The space that a name and a current value suggest, or None where nothing is sensible.

    ``strings`` are the other string literals of the files: of a family such as activations
    only the members that the code itself mentions are offered, where it mentions any other.
    """
    said = words(name.rpartition(".")[2].partition("[")[0])
    if isinstance(value, bool):
        return Space(Scale.CHOICE, options=(False, True))
    if isinstance(value, str):
        return _family(said, value, frozenset(strings))
    if not math.isfinite(value):
        return None
    return _rate(said, value) or (_whole(said, value) if isinstance(value, int) else _real(value))


def _family(said: frozenset[str], value: str, strings: frozenset[str]) -> Space | None:
    for at, (hints, family, core) in enumerate(_FAMILIES):
        # "relu" and "adamw" speak for themselves; "linear" or "none" need the name's word.
        if value.lower() not in family or not (said & hints or at < 2):
            continue
        seen = {s for s in strings if s.lower() in family} | {value}
        if len(seen) > 1:
            return Space(Scale.CHOICE, options=tuple(sorted(seen, key=lambda o: str(o).lower())))
        if value in core:
            return Space(Scale.CHOICE, options=core)
    return None


def _rate(said: frozenset[str], value: float) -> Space | None:
    """Rates by name; whole-numbered literals such as ``DROPOUT = 0`` are rates too."""
    if value < 0 or (isinstance(value, int) and (value > 1 or said & _COUNTS)):
        return None
    learning = said & {"lr", "lrs", "eta"} or {"learning", "rate"} <= said
    if said & _FRACTIONS and (not learning or said & _SHARES):  # FINAL_LR_FRAC is a fraction
        return _fraction(said, value)
    if said & {"decay"} and not said & {"weight"} and 0.5 <= value < 1:
        return _near_one(value)
    if learning:
        return _factors(value, 10, Space(Scale.ZERO_LOG, 1e-5, 0.1))
    if said & _NEAR_ONE:
        return _near_one(value) if value < 1 else None
    if said & _DECAYS:
        if value == 0:
            return Space(Scale.ZERO_LOG, 1e-5, 0.3)
        return Space(Scale.ZERO_LOG, tidy(value / 100), tidy(value * 10))
    return _small(said, value)


def _small(said: frozenset[str], value: float) -> Space | None:
    if said & {"eps", "epsilon"}:
        return _factors(value, 100, None)
    if said & {"std", "sigma", "stddev"}:
        return _factors(value, 10, None)
    if said & {"clip", "clipping", "noise", "aux"} and value == 0:
        return Space(Scale.ZERO_LOG, 0.01, 10.0)
    return None


def _factors(value: float, factor: float, at_zero: Space | None) -> Space | None:
    if value == 0:
        return at_zero
    return Space(Scale.LOG, tidy(value / factor), tidy(value * factor))


def _fraction(said: frozenset[str], value: float) -> Space | None:
    if said & {"pct", "percent"} and 1 < value <= 100:
        return Space(Scale.LINEAR, 0.0, 100.0)
    if value > 1:
        return None
    if said & {"dropout", "drop"}:
        return Space(Scale.LINEAR, 0.0, max(0.6, value))
    if said & {"smoothing"} or value == 0:
        return Space(Scale.LINEAR, 0.0, max(0.5, value))
    return Space(Scale.LINEAR, 0.0, 1.0)


def _near_one(value: float) -> Space:
    if value == 0:
        return Space(Scale.COMPLEMENT, 0.0, 0.99)
    rest = 1.0 - value
    return Space(
        Scale.COMPLEMENT, clean(max(0.0, 1.0 - tidy(rest * 5))), clean(1.0 - tidy(rest / 10))
    )


def _whole(said: frozenset[str], number: int) -> Space | None:
    if number < 1:
        return None  # 0 and -1 are switches and sentinels: no scale to guess
    if said & {"kernel"} and number % 2:
        return Space(Scale.CHOICE, options=tuple(range(max(1, number - 4), number + 5, 2)))
    if said & _SIZES and number >= 4 and number & (number - 1) == 0:
        return Space(Scale.POW2, max(1, number // 4), number * 4)
    if number <= 16:
        return Space(Scale.INT, max(1, number // 2), max(number * 2, number + 2))
    return Space(Scale.INT_LOG, max(1, number // 4), number * 4)


def _real(value: float) -> Space | None:
    if value == 0:
        return None
    if value < 0:
        return Space(Scale.LINEAR, tidy(3 * value), tidy(-value))
    return Space(Scale.LOG, tidy(value / 5), tidy(value * 5))


# ---------------------------------------------------------------- what a person says

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(int\s+)?({_NUMBER})\s*\.\.\s*({_NUMBER})((?:\s+(?:log|linear|pow2|int))*)")
GRAMMAR = "fixed, 1e-5..1e-2 log, 0..0.5, int 1..8, 16..256 pow2 or relu|gelu|tanh"


def declared(text: str, value: Scalar, guess: Space | None = None) -> Space | None:
    """The space that the words after ``# nightlab:`` declare; None for ``fixed``.

    Raises ValueError, with the reason, for words that say nothing sensible about ``value``.
    """
    text = text.strip()
    if text == "fixed":
        return None
    if "|" in text:
        return _choices(text, value)
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is none of: {GRAMMAR}")
    if isinstance(value, bool | str):
        raise ValueError(f"a range does not fit {value!r}")  # noqa: TRY004 - wrong words
    flags = set(found[4].split()) | ({"int"} if found[1] else set())
    low, high = float(found[2]), float(found[3])
    wrong = _wrong_ends(low, high, flags)
    if wrong:
        raise ValueError(wrong)
    if "pow2" in flags:
        return Space(Scale.POW2, low, high, fixed_bounds=True)
    rate = guess is not None and not guess.whole
    typed_whole = not re.search(r"[.eE]", found[2] + found[3])
    if "int" in flags or (isinstance(value, int) and typed_whole and not rate):
        if not (low.is_integer() and high.is_integer() and float(value).is_integer()):
            raise ValueError("an int range needs whole ends and a whole value")
        return Space(Scale.INT_LOG if "log" in flags else Scale.INT, low, high, fixed_bounds=True)
    return Space(Scale.LOG if "log" in flags else Scale.LINEAR, low, high, fixed_bounds=True)


def _wrong_ends(low: float, high: float, flags: set[str]) -> str:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return f"the range {low:g}..{high:g} is empty"
    if len(flags & {"log", "linear", "pow2"}) > 1:
        return "log, linear and pow2 exclude each other"
    if "log" in flags and low <= 0:
        return "a log range needs a low end above 0"
    if "pow2" in flags and any(e < 1 or math.frexp(e)[0] != 0.5 for e in (low, high)):
        return "both ends of a pow2 range are powers of two"
    return ""


def _choices(text: str, value: Scalar) -> Space:
    options: list[Scalar] = []
    for part in (p.strip() for p in text.split("|")):
        if not part:
            raise ValueError("a choice is empty")
        option = _read_word(part)
        if kind(option) != kind(value):
            raise ValueError(f"{part!r} is not of the kind of {value!r}")
        if option not in options:
            options.append(option)
    if value not in options:
        options.insert(0, value)
    if len(options) < 2:
        raise ValueError("there is nothing to choose from")
    return Space(Scale.CHOICE, options=tuple(options), fixed_bounds=True)


def _read_word(part: str) -> Scalar:
    try:
        read: object = ast.literal_eval(part)
    except (ValueError, SyntaxError):
        return part
    return read if isinstance(read, bool | int | float | str) else part
