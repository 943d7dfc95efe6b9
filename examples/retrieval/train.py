"""Two towers, image and text, pulled together by a contrastive loss. This file is yours."""

import os
import resource
import sys
import time

# One thread, said before torch is imported: two experiments on two cores must not fight.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from prepare import (
    CAPTION_LENGTH,
    SIDE,
    STEPS,
    VOCABULARY,
    artifact_folder,
    fold_of,
    load_queries,
    load_train,
)
from torch import nn

# The image tower.
CHANNELS = 16  # of the first stage; every stage doubles them  # nightlab: 8..32 pow2
STAGES = 3  # each halves the image  # nightlab: int 1..4
HEATMAP_SIGMA = 1.0  # of an expert's box, in half sides of the box
# The text tower.
TEXT_DIM = 32
# Both.
EMBED_DIM = 32
ACTIVATION = "relu"  # relu, gelu or silu
DROPOUT = 0.0
INIT_TEMPERATURE = 0.07  # learned from here on
MAX_LOGIT_SCALE = 0.5  # in hundreds: half of what CLIP allows, for so small a batch

# The optimizer and its schedule, as shares of the steps.
LR = 1e-3
BETA2 = 0.98
WEIGHT_DECAY = 0.1
BATCH_SIZE = 32  # pairs; all others in a batch are negatives  # nightlab: 16..64 pow2
GRAD_CLIP = 1.0
WARMUP_FRAC = 0.1
FINAL_LR_FRAC = 0.1
LABEL_SMOOTHING = 0.0


def activate(x):
    return {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}[ACTIVATION](x)


def heatmaps(boxes):
    """Expert attention (n, 1, SIDE, SIDE), 0..1, from boxes (n, 2, 4): a Gaussian for each."""
    x0, y0, x1, y1 = boxes.float().unbind(-1)
    at = torch.arange(SIDE) + 0.5

    def bump(low, high):
        spread = HEATMAP_SIGMA * (high - low).clamp(min=2) / 2
        return torch.exp(-0.5 * ((at - (low + high)[..., None] / 2) / spread[..., None]) ** 2)

    return (bump(y0, y1)[..., :, None] * bump(x0, x1)[..., None, :]).amax(1, keepdim=True)


class ImageTower(nn.Module):
    """Images (n, 3, SIDE, SIDE) and heatmaps (n, 1, SIDE, SIDE) to (n, EMBED_DIM)."""

    def __init__(self):
        super().__init__()
        widths = [CHANNELS * 2**i for i in range(STAGES)]
        inputs = [4, *widths[:-1]]
        self.stages = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(inputs, widths, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths)
        self.project = nn.Linear(widths[-1], EMBED_DIM)

    def forward(self, images, attention):
        x = torch.cat([images, attention], dim=1)
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = activate(norm(stage(x)))
        x = x.mean(dim=(2, 3))
        return self.project(F.dropout(x, DROPOUT, self.training))


class TextTower(nn.Module):
    """Captions (n, CAPTION_LENGTH) of tokens, 0 where there is none, to (n, EMBED_DIM)."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(len(VOCABULARY), TEXT_DIM)
        self.places = nn.Parameter(0.1 * torch.randn(CAPTION_LENGTH, TEXT_DIM))
        self.mix = nn.Conv1d(TEXT_DIM, 2 * TEXT_DIM, 3, padding=1)
        self.project = nn.Linear(2 * TEXT_DIM, EMBED_DIM)

    def forward(self, tokens):
        there = (tokens > 0).float()[..., None]
        x = (self.words(tokens) + self.places) * there
        x = activate(self.mix(x.transpose(1, 2)).transpose(1, 2)) * there
        x = x.sum(1) / there.sum(1)
        return self.project(F.dropout(x, DROPOUT, self.training))


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = ImageTower()
        self.text = TextTower()
        self.log_scale = nn.Parameter(torch.tensor(1 / INIT_TEMPERATURE).log())

    def logit_scale(self):
        return self.log_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    def loss(self, images, attention, tokens):
        """Contrastive loss, in nats: each image picks its caption and the other way round."""
        a = F.normalize(self.image(images, attention), dim=-1)
        b = F.normalize(self.text(tokens), dim=-1)
        logits = self.logit_scale() * a @ b.T
        own = torch.arange(len(logits))
        ways = (logits, logits.T)
        return sum(F.cross_entropy(w, own, label_smoothing=LABEL_SMOOTHING) for w in ways) / 2


def tensors(part, rows=slice(None)):
    """Images -1..1, heatmaps and tokens, from the arrays of prepare.py."""
    images = torch.from_numpy(part["images"][rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
    attention = heatmaps(torch.from_numpy(part["boxes"][rows]))
    return images, attention, torch.from_numpy(part["captions"][rows]).long()


def schedule(step):
    """The learning rate at a step: a linear rise, then half a cosine."""
    warm = min(1.0, (step + 1) / max(1.0, WARMUP_FRAC * STEPS))
    fall = 0.5 * (1 + np.cos(np.pi * step / STEPS))
    return LR * warm * (FINAL_LR_FRAC + (1 - FINAL_LR_FRAC) * fall)


def train(model, part):
    """Train for STEPS steps on pairs; the smoothed loss of the last ones."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, lr=LR, betas=(0.9, BETA2), weight_decay=WEIGHT_DECAY, fused=True
    )
    order, smooth = np.empty(0, dtype=np.int64), 0.0
    model.train()
    for step in range(STEPS):
        while len(order) < BATCH_SIZE:
            order = np.concatenate([order, torch.randperm(len(part["images"])).numpy()])
        batch, order = order[:BATCH_SIZE], order[BATCH_SIZE:]
        images, attention, tokens = tensors(part, batch)
        loss = model.loss(images, attention, tokens)
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        optimizer.step()
        smooth += (loss.item() - smooth) * max(0.02, 1 / (step + 1))
        if (step + 1) % 50 == 0 or step + 1 == STEPS:
            scale = model.logit_scale().item()
            print(f"step {step + 1:5d} | loss {smooth:.4f} | logit scale {scale:.2f}", flush=True)
    return smooth


def embed(model, queries):
    """Embeddings of images and captions, each (n, EMBED_DIM) float32, row by row."""
    model.eval()
    images, attention, tokens = tensors(queries)
    with torch.no_grad():
        return {
            "images": model.image(images, attention).numpy(),
            "captions": model.text(tokens).numpy(),
        }


def main():
    start = time.perf_counter()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    seed = int(os.environ.get("NIGHTLAB_SEED", "0"))
    torch.manual_seed(seed)
    fold = fold_of(seed)
    model = TwoTowers()
    train_loss = train(model, load_train(fold))
    trained = time.perf_counter()
    folder = artifact_folder()
    folder.mkdir(exist_ok=True)
    for split in ("val", "test"):
        np.savez(folder / f"{split}.npz", **embed(model, load_queries(split, fold)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; on a Mac bytes
    print("---")
    print(f"train_loss:       {train_loss:.6f}")
    print(f"logit_scale:      {model.logit_scale().item():.4f}")
    print(f"num_steps:        {STEPS}")
    print(f"num_params:       {sum(p.numel() for p in model.parameters())}")
    print(f"peak_memory_mb:   {peak / (2**20 if sys.platform == 'darwin' else 2**10):.1f}")
    print(f"training_seconds: {trained - start:.1f}")
    print(f"total_seconds:    {time.perf_counter() - start:.1f}")


if __name__ == "__main__":
    main()
