"""A small network, by heart: what each choice below does to its loss."""

import os
import random
import time

LR = 0.1

sign = -1

# The schedule.

warmup = 3

# After it.

decay = 1.0

# The network.

activation = "step"

# The gradient.

clip = False

rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
loss = 1.0 + abs(LR - 0.03) + 0.4 * (sign < 0) + 0.05 * abs(warmup - 3) + 0.1 * decay
loss += 0.2 * (activation == "step") + 0.1 * (not clip)
for step in range(4):
    time.sleep(0.02)
    print(f"step {step} loss: {loss * (5 - step):.4f}", flush=True)
print("---")
print(f"val_loss: {loss + rng.gauss(0, 0.001):.6f}")
# ruff: noqa: T201 - a training script prints its results
