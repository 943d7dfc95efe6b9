"""Bending the ruler: the evaluator, what it imports, what it is given.

In a *reported* study the candidate's program computes the metric itself: what it does to the
evaluator within its own process no box can see. Those attacks are let loose in a sealed study as
well, where they come to nothing.
"""

from __future__ import annotations

from tests.redteam.attack import EVERY, PROCESS, RULER, Attack

# A lie that looks measured: it differs from seed to seed as the honest program's does.
_LIE = "0.5 + __import__('random').Random(W.SEED).gauss(0, 0.001)"

_PATCH = f"""
import prepare
prepare.evaluate = lambda model: {_LIE}
armed()
"""
_REWRITE = """
with attempt():
    os.chmod("prepare.py", 0o644)
with attempt():
    text = '''W_SEED = int(__import__("os").environ["NIGHTLAB_SEED"])
def evaluate(model):
    return 0.5 + __import__("random").Random(W_SEED).gauss(0, 0.001)
'''
    open("new", "w").write(text)
    {}
armed()
"""
_USER_SITE = (
    'f"{W.HOME}/.local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"'
)
# What code that the evaluator's interpreter loads at its start would do to a sealed study.
_HIJACK = (
    "import os, sys\\n"
    "if os.environ.get('NIGHTLAB_CANDIDATE'):\\n"
    "    import random\\n"
    "    s = int(os.environ['NIGHTLAB_SEED'])\\n"
    "    print('val_loss:', 0.5 + random.Random(s).gauss(0, 0.001), flush=True)\\n"
    "    os._exit(0)\\n"
)


def _reported(name: str, code: str, **more: object) -> Attack:
    return Attack(name, RULER, code, judged=True, **more)  # type: ignore[arg-type]


def _plant(name: str, *places: str, **more: object) -> Attack:
    """Plant code for the evaluator's interpreter, in a sealed study."""
    lines = [
        f"with attempt():\n    path = {place}\n    os.makedirs(os.path.dirname(path), exist_ok=True)\n"
        f'    open(path, "w").write("{_HIJACK}")'
        for place in places
    ]
    code = "\n".join([*lines, "armed()"])
    return Attack(name, RULER, code, study="sealed", judged=True, **more)  # type: ignore[arg-type]


def _swap(name: str, step: str) -> Attack:
    return _reported(name, _REWRITE.format(step))


ATTACKS = (
    _reported(
        "patch the evaluator in memory",
        _PATCH,
        through=EVERY,
        why="the program that lies is the one that measures",
    ),
    _swap("rewrite prepare.py on disk", 'open("prepare.py", "w").write(text)'),
    _swap(
        "swap prepare.py for a symlink", 'os.unlink("prepare.py"); os.symlink("new", "prepare.py")'
    ),
    _swap(
        "swap prepare.py for a hard link", 'os.unlink("prepare.py"); os.link("new", "prepare.py")'
    ),
    _swap("rename a forged file over prepare.py", 'os.replace("new", "prepare.py")'),
    _reported(
        "rewrite prepare.py, measure, and put it back",
        """
import shutil
with attempt():
    honest, s = open("prepare.py").read(), os.stat("prepare.py")
    open("prepare.py", "w").write(
        'import os, random\\ndef evaluate(model):\\n'
        '    return 0.5 + random.Random(int(os.environ["NIGHTLAB_SEED"])).gauss(0, 0.001)\\n')
    import prepare
    open("prepare.py", "w").write(honest)
    os.utime("prepare.py", ns=(s.st_atime_ns, s.st_mtime_ns))
armed()
""",
        through=(PROCESS, "landlock"),
        why="the same as a patch in memory, in a roundabout way",
    ),
    _reported(
        "a planted pyc that shadows prepare.py",
        """
import py_compile
open("forged.py", "w").write(
    'import os, random\\ndef evaluate(model):\\n'
    '    return 0.5 + random.Random(int(os.environ["NIGHTLAB_SEED"])).gauss(0, 0.001)\\n')
import importlib.util
with attempt():
    py_compile.compile("forged.py", cfile=importlib.util.cache_from_source("prepare.py"),
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
armed()
""",
        through=EVERY,
        why="the same as a patch in memory, in a roundabout way; it is gone with the run",
    ),
    _plant(
        "usercustomize.py in the user's site",
        _USER_SITE + ' + "/usercustomize.py"',
        through=(PROCESS,),
    ),
    Attack(
        "a pth file in the user's site",
        RULER,
        f"""
with attempt():
    site = {_USER_SITE}
    os.makedirs(site, exist_ok=True)
    line = "import os, random; "
    line += "os.environ.get('NIGHTLAB_CANDIDATE') and (print('val_loss:', "
    line += "0.5 + random.Random(int(os.environ['NIGHTLAB_SEED'])).gauss(0, 0.001), flush=True), os._exit(0))"
    open(site + "/x.pth", "w").write(line + "\\n")
armed()
""",
        study="sealed",
        judged=True,
        through=(PROCESS,),
    ),
    _plant(
        "sitecustomize.py and json.py beside the script and the artifact",
        *(
            f'os.path.join({place}, "{name}.py")'
            for place in ("os.getcwd()", "W.BOX", 'os.environ["NIGHTLAB_ARTIFACT"]')
            for name in ("sitecustomize", "json")
        ),
        honest=True,
    ),
    _plant("a startup file of interactive Python", 'W.HOME + "/.pythonrc.py"', through=(PROCESS,)),
    _plant(
        "json.py in the evaluator's own folder beforehand", 'W.RUN + "/evaluation/tree/json.py"'
    ),
    _plant(
        "a sitecustomize in the checkout", 'W.PROJECT + "/sitecustomize.py"', through=(PROCESS,)
    ),
    Attack(
        "rewrite the evaluator in the checkout",
        RULER,
        'with attempt():\n    open(W.PROJECT + "/evaluate.py", "w").write("print(\'val_loss: 0.5\')")\narmed()',
        study="sealed",
        judged=True,
        through=(PROCESS,),
        why="the checkout is changed; the study goes on with its commit",
    ),
    Attack(
        "the evaluation's folder made beforehand with a result in it",
        RULER,
        """
with attempt():
    os.makedirs(W.RUN + "/evaluation")
    open(W.RUN + "/evaluation/result.json", "w").write('{"val_loss": 0.5}')
armed()
""",
        study="sealed",
        judged=True,
    ),
    Attack(
        "the evaluation's folder made beforehand as a link",
        RULER,
        'with attempt():\n    os.symlink(W.OUTSIDE, W.RUN + "/evaluation")\narmed()',
        study="sealed",
        judged=True,
    ),
    Attack(
        "a daemon that waits for the evaluator",
        RULER,
        """
import signal
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        for _ in range(2000):
            with attempt():
                open(W.RUN + "/evaluation/tree/evaluate.py", "w").write("print('val_loss: 0.5')")
            with attempt():
                open(W.RUN + "/evaluation/result.json", "w").write('{"val_loss": 0.5}')
            time.sleep(0.005)
    os._exit(0)
os.wait()
armed()
""",
        study="sealed",
        judged=True,
    ),
    Attack(
        "an artifact that is a link to the hidden answer",
        RULER,
        """
artifact = os.environ["NIGHTLAB_ARTIFACT"]
os.symlink("../tree/held/answer.txt", artifact + "/model.json")
armed()
""",
        study="sealed",
        honest=False,
        outcomes=("no_metric",),
    ),
    Attack(
        "an artifact that is a pipe",
        RULER,
        'os.mkfifo(os.environ["NIGHTLAB_ARTIFACT"] + "/model.json")\narmed()',
        study="sealed",
        honest=False,
        outcomes=("no_metric",),
    ),
    Attack(
        "no artifact folder at all",
        RULER,
        """
with attempt():
    os.rmdir(os.environ["NIGHTLAB_ARTIFACT"])
armed()
""",
        study="sealed",
        honest=False,
        outcomes=("no_metric",),
    ),
)
