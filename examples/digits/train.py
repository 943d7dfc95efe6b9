"""A small network on handwritten digits, trained for TIME_BUDGET seconds. This file is yours."""

import os

# One thread, said before numpy is imported: two experiments on two cores must not fight.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import time
from itertools import pairwise

import numpy as np
from prepare import NUM_CLASSES, SIDE, TIME_BUDGET, evaluate, load

# What to turn: the model, then the optimizer, then the regularization.
HIDDEN = 64  # width of each hidden layer
DEPTH = 1  # number of hidden layers
ACTIVATION = "tanh"  # tanh, relu or gelu
INIT_SCALE = 1.0  # times 1/sqrt(fan in)
LR = 0.02  # the peak of the schedule
MOMENTUM = 0.8
BATCH_SIZE = 32
WARMDOWN_FRAC = 0.3  # the last part of the budget, over which LR falls to 0
WEIGHT_DECAY = 3e-4  # decoupled, on weights only
DROPOUT = 0.0  # of hidden units
INPUT_NOISE = 0.05  # standard deviation added to pixels, which are 0..1
SHIFT = 0.1  # images move by up to this many pixels in each direction


def activate(x):
    """Value and derivative at ``x``."""
    if ACTIVATION == "tanh":
        y = np.tanh(x)
        return y, 1 - y * y
    if ACTIVATION == "relu":
        on = (x > 0).astype(x.dtype)
        return x * on, on
    if ACTIVATION == "gelu":  # the sigmoid form
        s = 1 / (1 + np.exp(np.clip(-1.702 * x, -30, 30)))
        return x * s, s * (1 + 1.702 * x * (1 - s))
    raise ValueError(f"unknown activation {ACTIVATION!r}")


class Network:
    """Fully connected layers. All parameters lie in one vector, so the optimizer is one line."""

    def __init__(self, rng):
        sizes = [SIDE * SIDE, *[HIDDEN] * DEPTH, NUM_CLASSES]
        shapes = list(pairwise(sizes))
        total = sum(m * n + n for m, n in shapes)
        self.params, self.grads, self.decayed = np.zeros((3, total), dtype=np.float32)
        self.layers = []  # (weights, bias, their gradients): views into the vectors
        at = 0
        for m, n in shapes:
            w, b = slice(at, at + m * n), slice(at + m * n, at + m * n + n)
            self.params[w] = rng.normal(0, INIT_SCALE / np.sqrt(m), m * n)
            self.decayed[w] = 1
            views = [(v[w].reshape(m, n), v[b]) for v in (self.params, self.grads)]
            self.layers.append((*views[0], *views[1]))
            at = b.stop

    def forward(self, x, rng=None):
        """Logits, and what backward needs. With ``rng`` hidden units drop out."""
        tape = []
        for w, b, _, _ in self.layers[:-1]:
            y, slope = activate(x @ w + b)
            if rng is not None and DROPOUT > 0:
                kept = (rng.random(y.shape, dtype=np.float32) >= DROPOUT) / np.float32(1 - DROPOUT)
                y, slope = y * kept, slope * kept
            tape.append((x, slope))
            x = y
        w, b, _, _ = self.layers[-1]
        tape.append((x, None))
        return x @ w + b, tape

    def backward(self, error, tape):
        """Fill the gradients, from the gradient of the loss in the logits."""
        for i in reversed(range(len(self.layers))):
            w, _, dw, db = self.layers[i]
            x, _ = tape[i]
            np.matmul(x.T, error, out=dw)
            error.sum(axis=0, out=db)
            if i:
                error = (error @ w.T) * tape[i - 1][1]


def augment(images, rng):
    """A batch of images, moved by one random fraction of a pixel and made noisy."""
    if SHIFT > 0:
        for axis in (1, 2):
            move = rng.uniform(-SHIFT, SHIFT)
            whole = int(np.floor(move))
            part = np.float32(move - whole)
            padded = np.pad(images, [(0, 0)] + [(4, 4) if a == axis else (0, 0) for a in (1, 2)])
            near, far = (
                np.take(padded, np.arange(4, 4 + SIDE) - whole - k, axis=axis, mode="clip")
                for k in (0, 1)
            )
            images = (1 - part) * near + part * far
    if INPUT_NOISE > 0:
        images = images + INPUT_NOISE * rng.standard_normal(images.shape, dtype=np.float32)
    return images.reshape(len(images), -1)


def schedule(progress):
    """The learning rate at a share ``progress`` of the time budget."""
    return LR * min(1.0, (1.0 - progress) / max(WARMDOWN_FRAC, 1e-9))


def cross_entropy(logits, labels):
    """Mean loss in nats, and its gradient in the logits."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -np.log(np.maximum(p[rows, labels], 1e-12)).mean()
    p[rows, labels] -= 1
    return float(loss), p / np.float32(len(labels))


def train(rng):
    """The trained network and what is to be said about its training."""
    images, labels = load("train")
    net = Network(rng)
    velocity = np.zeros_like(net.params)
    step, smooth, progress, reported = 0, 0.0, 0.0, 0
    order = np.empty(0, dtype=np.int64)
    start, start_cpu = time.perf_counter(), time.process_time()
    while progress < 1:
        while len(order) < BATCH_SIZE:
            order = np.concatenate([order, rng.permutation(len(labels))])
        batch, order = order[:BATCH_SIZE], order[BATCH_SIZE:]
        logits, tape = net.forward(augment(images[batch], rng), rng)
        loss, error = cross_entropy(logits, labels[batch])
        if not np.isfinite(loss):
            print(f"step {step:6d} | loss {loss}: diverged")
            break
        net.backward(error, tape)
        lr = np.float32(schedule(progress))
        velocity *= np.float32(MOMENTUM)
        velocity += net.grads
        net.params -= lr * (velocity + np.float32(WEIGHT_DECAY) * net.decayed * net.params)
        step += 1
        smooth += (loss - smooth) * max(0.01, 1 / step)
        # The budget is processor time, which a busy neighbour does not eat; on a very busy
        # machine the wall clock ends it.
        spent, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        progress = max(cpu, spent / 1.5) / TIME_BUDGET
        if progress * 10 >= reported + 1:
            reported = int(progress * 10)
            done = f"step {step:6d} ({min(progress, 1):4.0%})"
            print(f"{done} | loss {smooth:.4f} | lr {lr:.4f}", flush=True)
    facts = {"train_loss": smooth, "training_seconds": time.perf_counter() - start}
    return net, {**facts, "num_steps": step, "num_params": net.params.size}


def main():
    start = time.perf_counter()
    rng = np.random.default_rng(int(os.environ.get("NIGHTLAB_SEED", "0")))
    net, facts = train(rng)
    metrics = evaluate(lambda images: net.forward(images.reshape(len(images), -1))[0])
    facts["total_seconds"] = time.perf_counter() - start
    print("---")
    for name, value in {**metrics, **facts}.items():
        text = f"{value:.6f}" if isinstance(value, float) else str(value)
        print(f"{name + ':':18s}{text}")


if __name__ == "__main__":
    main()
