"""Numbers that nobody measured, and every way to print one."""

from __future__ import annotations

from tests.redteam.attack import EVERY, FORGING, PROCESS, Attack
from tests.redteam.world import Scene

_LIE = "0.5 + __import__('random').Random(W.SEED).gauss(0, 0.001)"
_ITSELF = "the program that lies is the one that measures"


def _forge(name: str, code: str, **more: object) -> Attack:
    return Attack(name, FORGING, code + "\narmed()", judged=True, **more)  # type: ignore[arg-type]


def _sealed(name: str, code: str, **more: object) -> Attack:
    return _forge(name, code, study="sealed", **more)


def _unprinted(scene: Scene) -> list[str]:
    return ["the log does not hold what it printed"] if b"armed" not in scene.output else []


ATTACKS = (
    _forge("a constant", 'print("val_loss: 0.5")', honest=False),
    _forge("zero", 'print("val_loss: 0.0")', honest=False),
    _forge(
        "a plausible number",
        f'print("val_loss:", {_LIE})',
        honest=False,
        through=EVERY,
        why=_ITSELF,
    ),
    _forge(
        "a number before training, and the end",
        'print("val_loss: 0.5", flush=True); armed(); os._exit(0)',
    ),
    _forge(
        "a second block after the true one",
        f"""
import atexit
atexit.register(lambda: print("---\\nval_loss:", {_LIE}))
""",
    ),
    _forge(
        "a line after the true one",
        f"""
import atexit
atexit.register(lambda: print("val_loss:", {_LIE}))
""",
    ),
    _forge(
        "a line that a terminal does not show",
        f"""
import atexit
atexit.register(lambda: print("\\x1b[8mval_loss:", {_LIE}, "\\x1b[0m\\x1b[1A\\x1b[2K"))
""",
    ),
    _forge("a line hidden by a carriage return", 'print("val_loss: 0.5\\rstep 3", end="\\n")'),
    _forge(
        "a METRIC line that disagrees",
        f'print("METRIC val_loss=%f" % ({_LIE}))',
    ),
    _forge(
        "a result file that disagrees",
        f"""
import json
open(os.environ["NIGHTLAB_RESULT"], "w").write(json.dumps({{"val_loss": {_LIE}}}))
""",
    ),
    _forge("full-width digits", 'print("val_loss: ０.５")', honest=False, outcomes=("no_metric",)),
    _forge("not a number", 'print("val_loss: nan")', honest=False, outcomes=("diverged",)),
    _forge("minus infinity", 'print("val_loss: -inf")', honest=False, outcomes=("diverged",)),
    _forge(
        "underscores and hex",
        'print("val_loss: 0_0.5"); print("val_loss: 0x0.8p0")',
        honest=False,
        outcomes=("no_metric",),
    ),
    _forge(
        "no newline and killed by itself",
        'print("val_loss: 0.5", end="", flush=True); armed(); os.kill(os.getpid(), 9)',
        honest=False,
        outcomes=("crashed",),
    ),
    _forge(
        "the metric and a failing exit code",
        'print("val_loss: 0.5"); armed(); sys.exit(3)',
        honest=False,
        outcomes=("crashed",),
    ),
    _forge(
        "a grandchild that prints when the main process has ended",
        """
sys.stdout.flush()
parent = os.getpid()
if os.fork() == 0:
    os.setsid()
    while os.getppid() == parent:
        time.sleep(0.001)
    os.write(1, b"val_loss: 0.5\\n")
    os._exit(0)
""",
    ),
    _forge(
        "another run's result",
        """
with attempt():
    os.makedirs(W.NEXT_RUN, exist_ok=True)
    open(W.NEXT_RUN + "/result.json", "w").write('{"val_loss": 0.5}')
""",
        through=(),
    ),
    _forge(
        "a result file that is a link",
        """
open("mine.json", "w").write('{"val_loss": 0.5}')
os.symlink(os.path.abspath("mine.json"), os.environ["NIGHTLAB_RESULT"])
""",
    ),
    _forge(
        "a result file that is a pipe", 'os.mkfifo(os.environ["NIGHTLAB_RESULT"])', outcomes=("ok",)
    ),
    _forge(
        "a result file that is a folder",
        'os.mkdir(os.environ["NIGHTLAB_RESULT"])',
        outcomes=("ok",),
    ),
    _forge(
        "a result file of a terabyte",
        'os.truncate(os.open(os.environ["NIGHTLAB_RESULT"], os.O_CREAT | os.O_RDWR), 1 << 40)',
    ),
    _forge(
        "a result file so nested that it breaks the parser",
        'open(os.environ["NIGHTLAB_RESULT"], "w").write("[" * 200_000)',
        outcomes=("ok",),
    ),
    Attack(
        "a log rewritten by the run",
        FORGING,
        """
armed()
time.sleep(0.3)
with attempt():
    log = W.RUN + "/log.txt"
    with attempt():
        open(log, "r+").truncate(0)
    os.rename(log, log + ".old")
    open(log, "w").write("nothing happened here\\nval_loss: 0.5\\n")
""",
        sees=_unprinted,
        arms=False,
        through=(PROCESS,),
        why="the log is a file of the same user",
    ),
    Attack(
        "a thousand metrics with hostile names",
        FORGING,
        'for n in range(1000): print(f"m{n}\\x1b[2J: {n}"); print("a" * 5000 + ": 1")\nprint("val_loss: 1e999999")\narmed()',
        outcomes=("ok",),
    ),
    _sealed("a constant, in a sealed study", 'print("val_loss: 0.5")'),
    _sealed("a plausible number, in a sealed study", f'print("val_loss:", {_LIE})'),
    _sealed(
        "a result file, in a sealed study",
        """open(os.environ["NIGHTLAB_RESULT"], "w").write('{"val_loss": 0.5}')""",
    ),
    _sealed(
        "the true block and another, in a sealed study",
        'print("---\\nval_loss: 1.0\\n---\\nval_loss: 0.5")',
    ),
    _sealed(
        "METRIC lines, in a sealed study",
        'print("METRIC val_loss=0.5")',
    ),
    _sealed(
        "a patched evaluator, in a sealed study",
        "import prepare\nprepare.evaluate = lambda model: 0.5\n"
        "import json\njson.dumps = lambda model: '{\"error\": -Infinity}'",
        outcomes=(),
    ),
    _sealed(
        "a planted pyc, in a sealed study",
        """
import py_compile, importlib.util
open("forged.py", "w").write("print('val_loss: 0.5')")
with attempt():
    py_compile.compile("forged.py", cfile=importlib.util.cache_from_source("evaluate.py"),
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
""",
    ),
    _sealed(
        "evaluate.py rewritten, in a sealed study",
        'with attempt():\n    open("evaluate.py", "w").write("print(\'val_loss: 0.5\')")',
    ),
)
