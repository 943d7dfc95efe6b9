"""All attacks, by category."""

from __future__ import annotations

from tests.redteam.attack import Attack
from tests.redteam.attacks import (
    clock,
    exhausting,
    forging,
    injection,
    network,
    parent,
    reading,
    ruler,
    state,
    timeout,
    writing,
)

ATTACKS: tuple[Attack, ...] = (
    *writing.ATTACKS,
    *reading.ATTACKS,
    *network.ATTACKS,
    *timeout.ATTACKS,
    *exhausting.ATTACKS,
    *ruler.ATTACKS,
    *forging.ATTACKS,
    *clock.ATTACKS,
    *state.ATTACKS,
    *parent.ATTACKS,
    *injection.ATTACKS,
)
