"""Find the nominal part in the photograph, then what is wrong with it. This file is yours.

Stage 1 (``Locator``) is a spatial transformer: from both images it reads how the camera saw the
part, and draws the nominal mask there. Stage 2 (``Segmenter``) compares that drawing with the
photograph and marks defects. A curriculum trains the first alone, then both.
"""

import math
import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from prepare import BATCH, SIDE, STEPS, TIME_BUDGET, evaluate, load
from torch import nn

# The locator.
LOCATOR_WIDTH = 8  # channels of its first layer; doubled twice  # nightlab: 4..16 pow2
MAX_SHIFT = 0.1  # how far it may move the part, as a share of half the image
MAX_TURN = 6.0  # degrees
MAX_SCALE = 0.04  # of the logarithm of the size

# The segmenter.
WIDTH = 8  # channels at full resolution; doubled at half  # nightlab: 4..16 pow2
ACTIVATION = "relu"  # relu, gelu or silu

# The curriculum and the loss.
ALIGN_FRAC = 0.6  # the share of the steps in which the locator learns alone
ALIGN_WEIGHT = 0.1  # of the alignment loss beside the segmenter's, afterwards
ALIGN_BLUR = 1  # pixels by which both masks are blurred before they are compared
DEFECT_WEIGHT = 10.0  # of a defective pixel in the cross-entropy
DICE_WEIGHT = 0.2  # of the soft Dice loss beside the cross-entropy

# The optimizer and the data.
LR = 2e-3  # the peak of the schedule
LOCATOR_LR_RATIO = 0.3  # the locator's share of it
BETA1 = 0.9
WEIGHT_DECAY = 1e-3
GRAD_CLIP = 1.0
WARMUP_FRAC = 0.05
WARMDOWN_FRAC = 0.3
FLIP_PROB = 0.5  # of mirroring a batch
NOISE = 0.0  # sd of what is added to photographs, which are 0..1  # nightlab: 0..0.2


def activate(x):
    return {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}[ACTIVATION](x)


class Block(nn.Module):
    def __init__(self, before, after, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x):
        return activate(self.norm(self.conv(x)))


class Locator(nn.Module):
    """Both images (n, 2, S, S) to four numbers: shift x, shift y, turn, size."""

    def __init__(self):
        super().__init__()
        widths = [2, LOCATOR_WIDTH, 2 * LOCATOR_WIDTH, 4 * LOCATOR_WIDTH]
        self.body = nn.Sequential(*[Block(a, b, stride=2) for a, b in pairwise(widths)])
        self.head = nn.Linear(widths[-1] * (SIDE // 8) ** 2, 4)

    def forward(self, x):
        move = torch.tanh(self.head(self.body(x).flatten(1)))
        turn, size = move[:, 2] * math.radians(MAX_TURN), torch.exp(move[:, 3] * MAX_SCALE)
        cos, sin = size * torch.cos(turn), size * torch.sin(turn)
        x, y = MAX_SHIFT * move[:, 0], MAX_SHIFT * move[:, 1]
        rows = torch.stack([cos, -sin, x, sin, cos, y], dim=1)
        return rows.view(-1, 2, 3)


class Segmenter(nn.Module):
    """Photograph and drawing (n, 2, S, S) to logits (n, S, S)."""

    def __init__(self):
        super().__init__()
        self.fine = Block(2, WIDTH)
        self.coarse = nn.Sequential(Block(WIDTH, 2 * WIDTH, 2), Block(2 * WIDTH, 2 * WIDTH))
        self.up = Block(2 * WIDTH, WIDTH)
        self.out = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, x):
        fine = self.fine(x)
        coarse = self.up(self.coarse(fine))
        back = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out(back)[:, 0]


class Net(nn.Module):
    """Nominal and printed (n, S, S) to grid (n, S, S, 2) and logits (n, S, S)."""

    def __init__(self):
        super().__init__()
        self.locator = Locator()
        self.segmenter = Segmenter()

    def align(self, nominal, printed):
        """The grid, and the nominal mask drawn where it says."""
        both = torch.stack([nominal, printed], dim=1)
        grid = F.affine_grid(self.locator(both), both[:, :1].shape, align_corners=False)
        drawn = F.grid_sample(nominal[:, None], grid, align_corners=False)[:, 0]
        return grid, drawn

    def segment(self, drawn, printed):
        return self.segmenter(torch.stack([drawn, printed], dim=1))

    def forward(self, nominal, printed):
        grid, drawn = self.align(nominal, printed)
        return grid, self.segment(drawn, printed)


def blurred(mask):
    """A mask after two box filters of ALIGN_BLUR pixels each way: overlap from further off."""
    size = 2 * ALIGN_BLUR + 1
    for _ in range(2):
        mask = F.avg_pool2d(mask[:, None], size, 1, ALIGN_BLUR)[:, 0]
    return mask


def soft_dice(p, target):
    """One minus the soft Dice of the batch."""
    return 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)


def losses(model, batch, alone):
    """The loss of a batch, then its parts: alignment, and segmentation (0 while ``alone``)."""
    _, drawn = model.align(batch["nominal"], batch["printed"])
    align = 10 * F.mse_loss(blurred(drawn), blurred(batch["part"]))
    if alone:
        return align, align, torch.zeros(())
    logits = model.segment(drawn, batch["printed"])
    weight = torch.tensor(DEFECT_WEIGHT)
    entropy = F.binary_cross_entropy_with_logits(logits, batch["defect"], pos_weight=weight)
    segment = entropy + DICE_WEIGHT * soft_dice(torch.sigmoid(logits), batch["defect"])
    return ALIGN_WEIGHT * align + segment, align, segment


def augmented(batch):
    """A batch, perhaps mirrored, with noise on its photographs."""
    if torch.rand(()) < FLIP_PROB:
        for name in ("nominal", "printed", "defect"):
            batch[name] = batch[name].flip(-1)
    if NOISE > 0:
        batch["printed"] = batch["printed"] + NOISE * torch.randn_like(batch["printed"])
    return batch


def schedule(progress):
    """The factor on every learning rate at a share ``progress`` of the steps."""
    rise = min(1.0, progress / max(WARMUP_FRAC, 1e-9))
    return min(rise, (1.0 - progress) / max(WARMDOWN_FRAC, 1e-9), 1.0)


def build_optimizer(model):
    groups = [
        {"params": model.locator.parameters(), "peak": LR * LOCATOR_LR_RATIO},
        {"params": model.segmenter.parameters(), "peak": LR},
    ]
    return torch.optim.AdamW(groups, lr=LR, betas=(BETA1, 0.99), weight_decay=WEIGHT_DECAY)


def train(model):
    """Train for STEPS steps, or until the time is up; returns the facts to print."""
    data = {name: torch.from_numpy(a) for name, a in load("train").items()}
    optimizer = build_optimizer(model)
    start, order = time.perf_counter(), torch.empty(0, dtype=torch.long)
    for step in range(STEPS):
        while len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(data["nominal"]))])
        rows, order = order[:BATCH], order[BATCH:]
        batch = augmented({name: a[rows] for name, a in data.items()})
        loss, align, segment = losses(model, batch, alone=step < ALIGN_FRAC * STEPS)
        if not torch.isfinite(loss):
            print(f"step {step} | loss {loss.item()}: diverged", flush=True)
            model.segmenter.out.bias.data.fill_(math.nan)  # nothing it says is to be believed
            break
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(step / STEPS)
        optimizer.step()
        if (step + 1) % (STEPS // 10 or 1) == 0:
            parts = f"align {align.item():.4f} | segment {segment.item():.4f}"
            print(f"step {step + 1:5d} | {parts}", flush=True)
        if time.perf_counter() - start > TIME_BUDGET:
            break
    return {"training_seconds": time.perf_counter() - start, "num_steps": step + 1}


def main():
    begin = time.perf_counter()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(int(os.environ.get("NIGHTLAB_SEED", "0")))
    model = Net().to(memory_format=torch.channels_last)
    facts = train(model)
    model.eval()

    def predict(nominal, printed):
        with torch.no_grad():
            grid, logits = model(torch.from_numpy(nominal), torch.from_numpy(printed))
        return grid.numpy(), torch.sigmoid(logits).numpy()

    metrics = evaluate(predict)
    artifact = os.environ.get("NIGHTLAB_ARTIFACT")
    if artifact:  # finalization asks for predictions on the test split; evaluate.py scores them
        grid, defect = predict(**load("test"))
        np.savez_compressed(Path(artifact) / "predictions.npz", grid=grid, defect=defect)
    facts["num_params"] = sum(p.numel() for p in model.parameters())
    facts["total_seconds"] = time.perf_counter() - begin
    print("---")
    for name, value in {**metrics, **facts}.items():
        text = f"{value:.6f}" if isinstance(value, float) else str(value)
        print(f"{name + ':':18s}{text}")


if __name__ == "__main__":
    main()
