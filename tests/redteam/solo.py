"""Play attacks in a nightlab of their own: ``python -m tests.redteam.solo SANDBOX NAME …``.

Prints one JSON line per attack: what it should not have been able to do. That nightlab itself is
the victim of some attacks, and of others runs as an unprivileged user.
"""

from __future__ import annotations

import json
import sys

from tests.redteam.attacks import ATTACKS
from tests.redteam.world import opened


def main(sandbox: str, names: list[str]) -> None:
    by_id = {attack.id: attack for attack in ATTACKS}
    with opened(sandbox) as world:
        for name in names:
            attack = by_id[name]
            why = attack.needs()
            print(json.dumps({"begun": name, "skip": why}), flush=True)  # noqa: T201 - its output
            if why:
                continue
            scene = world.play(attack)
            armed = not attack.arms or b"armed" in scene.output
            last = scene.output[-600:].decode("utf-8", "replace")
            line = {"name": name, "effects": scene.effects, "armed": armed, "log": last}
            print(json.dumps(line), flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
