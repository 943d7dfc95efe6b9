"""A night on examples/retrieval, as an agent that reads before it turns would spend it.

The planted bug is a limit in the wrong unit, which keeps the temperature from being learned. The
first steps are one of each thing that goes right or wrong; then knobs, towers, batches, moonshots.
"""

from __future__ import annotations

from tests.nights.replay import Step

T = "train.py"
# A quarter of the training on a third of the scenes, and faster: the bug halves the rank there too.
FAST = {
    "STEPS": "200",
    "train.py:LR": "3e-3",
    "prepare.py:POOL_GROUPS": "750",
    "prepare.py:TEST_GROUPS": "50",
}
GAIN = 1
# The hog with the gain, the gain, two crashes (one mended), NaN, collapse, the same again, the
# evaluator edited, a refusal, prose, broken syntax, nothing left to measure.
SHORT = tuple(range(12))

_LIMIT = "clamp(max=MAX_LOGIT_SCALE)"
_MENDED = "clamp(max=100 * MAX_LOGIT_SCALE)"
_LOSS = "        return sum(F.cross_entropy(w, own, label_smoothing=LABEL_SMOOTHING) for w in ways) / 2\n"
_ORDER = (
    '            order = np.concatenate([order, torch.randperm(len(part["images"])).numpy()])\n'
)
_POOL = "        x = x.mean(dim=(2, 3))\n"
_INPUT = "        x = torch.cat([images, attention], dim=1)\n"
_STAGE = "            x = activate(norm(stage(x)))\n"
_MIX = "        self.mix = nn.Conv1d(TEXT_DIM, 2 * TEXT_DIM, 3, padding=1)\n"
_MIXED = "        x = activate(self.mix(x.transpose(1, 2)).transpose(1, 2)) * there\n"
_TEXT_POOL = "        x = x.sum(1) / there.sum(1)\n"
_BATCH = "        images, attention, tokens = tensors(part, batch)\n"
_APART = (T, _LOSS, "        return (1 - (a * b).sum(-1)).mean() + 0 * logits.sum()\n")


def knob(name: str, old: str, new: str, why: str, category: str = "tuning") -> Step:
    """One constant's move."""
    return Step(
        f"{name} {old} → {new}", why, category, ((T, f"{name} = {old} ", f"{name} = {new} "),)
    )


def bare(name: str, old: str, new: str, why: str, category: str = "optimizer") -> Step:
    """The same for a constant with nothing behind it on its line."""
    edits = ((T, f"{name} = {old}\n", f"{name} = {new}\n"),)
    return Step(f"{name} {old} → {new}", why, category, edits)


STEPS = (
    # 0: a real gain, bought with what the guard does not allow.
    Step(
        "the limit in its unit, and all pictures as floats from the start, a set for every epoch",
        "the temperature can be learned, and no step has to make tensors",
        "bug",
        (
            (T, _LIMIT, _MENDED),
            (
                T,
                "    model.train()\n",
                "    epochs = [tensors(part)[0] + 0.0 for _ in range(10)]\n    model.train()\n",
            ),
            (T, _BATCH, _BATCH + "        images = epochs[step % 10][batch]\n"),
        ),
        "mean_rank down by half",
        fails="guard",
    ),
    # 1: the planted bug.
    Step(
        "the limit of the logit scale in its unit: MAX_LOGIT_SCALE is in hundreds",
        "exp(log_scale) begins at 14 and is cut to 0.5 in every step: its gradient is 0, the "
        "printed scale never moves, the softmax cannot sharpen",
        "bug",
        ((T, _LIMIT, _MENDED),),
        "mean_rank down by half, and a logit scale that moves",
    ),
    # 2
    Step(
        "two more input channels: where a pixel is",
        "left and right are what the hard negatives differ in, and pooling forgets it",
        "architecture",
        (
            (
                T,
                _INPUT,
                "        at = torch.linspace(-1, 1, SIDE).expand(len(images), 1, SIDE, SIDE)\n"
                "        x = torch.cat([images, attention, at, at.transpose(2, 3)], dim=1)\n",
            ),
        ),
        fails="mended",
        mend=((T, "inputs = [4, *widths[:-1]]", "inputs = [6, *widths[:-1]]"),),
    ),
    # 3
    Step(
        "residual stages",
        "a short way for the gradient through the image tower",
        "architecture",
        ((T, _STAGE, "            x = x + activate(norm(stage(x)))\n"),),
        fails="crash",
    ),
    # 4
    Step(
        "the logarithm of the cosine in place of the cosine",
        "likelihood ratios should be sharper than differences",
        "loss",
        ((T, "self.logit_scale() * a @ b.T", "self.logit_scale() * (a @ b.T).log()"),),
        fails="nan",
    ),
    # 5
    Step(
        "pull pairs together, push nothing apart",
        "negatives in a batch may be almost right: do not punish them",
        "loss",
        (_APART,),
        fails="collapse",
    ),
    # 6
    Step(
        "an attraction-only loss",
        "no negatives: the pairs alone should do",
        "loss",
        (_APART,),
        fails="duplicate",
    ),
    # 7
    Step(
        "count near ties as found",
        "a partner that is within 0.05 of the first is as good as found",
        "evaluation",
        (("evaluate.py", "(similarity > own)", "(similarity > own + 0.05)"),),
        fails="forbidden",
    ),
    # 8
    Step(
        "pair the queries by their captions' words",
        "that would be reading the answers out of load_queries.",
        "data",
        fails="refusal",
    ),
    # 9
    Step(
        "a momentum queue of negatives",
        "More negatives than a batch holds would help, as in MoCo; a queue of 4,096 is usual.",
        "loss",
        fails="prose",
    ),
    # 10
    Step(
        "warm restarts",
        "a second rise of the rate leaves sharp minima",
        "schedule",
        ((T, "    return LR * warm * (", "    return LR * warm * ((step % 400 / 400) ("),),
        fails="syntax",
    ),
    # 11
    Step(
        "one file for all embeddings",
        "two files are one too many",
        "simplification",
        ((T, 'f"{split}.npz"', '"embeddings.npz"'),),
        fails="silent",
    ),
    # 12
    Step(
        "no choice of activation",
        "relu it is: less code for the same network",
        "simplification",
        (
            (T, 'ACTIVATION = "relu"  # relu, gelu or silu\n', ""),
            (
                T,
                'return {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}[ACTIVATION](x)',
                "return F.relu(x)",
            ),
        ),
        "the same figures",
    ),
    # Knobs.
    bare("LR", "1e-3", "3e-3", "800 steps are few: go faster"),
    knob("BATCH_SIZE", "32", "64", "twice the negatives in a batch"),
    knob("INIT_TEMPERATURE", "0.07", "0.03", "start sharper"),
    bare("WEIGHT_DECAY", "0.1", "0.01", "three epochs hardly overfit", "regularization"),
    bare("BETA2", "0.98", "0.95", "a shorter memory for a short run"),
    bare("GRAD_CLIP", "1.0", "0.2", "keep single batches from steering"),
    bare("WARMUP_FRAC", "0.1", "0.02", "16 steps of warm-up will do", "schedule"),
    bare("FINAL_LR_FRAC", "0.1", "0.0", "anneal to the end", "schedule"),
    bare("LABEL_SMOOTHING", "0.0", "0.1", "almost-right captions are no errors", "loss"),
    bare("DROPOUT", "0.0", "0.2", "features that do not lean on each other", "regularization"),
    knob("HEATMAP_SIGMA", "1.0", "0.5", "point at the middle of each box", "attention"),
    knob("HEATMAP_SIGMA", "1.0", "2.0", "blur, for the boxes are drawn by hand", "attention"),
    bare("TEXT_DIM", "32", "64", "room for words and places", "width"),
    bare("EMBED_DIM", "32", "64", "two things with three attributes and a relation", "width"),
    knob("CHANNELS", "16", "24", "shapes this small need more filters", "width"),
    knob("STAGES", "3", "4", "let the last stage see the whole picture", "depth"),
    # Architecture.
    Step(
        "keep the places: flatten the last stage in place of its mean",
        "the mean forgets who is left of whom",
        "pooling",
        (
            (T, _POOL, "        x = x.flatten(1)\n"),
            (
                T,
                "nn.Linear(widths[-1], EMBED_DIM)",
                "nn.Linear(widths[-1] * (SIDE >> STAGES) ** 2, EMBED_DIM)",
            ),
        ),
        "the median falls below 4",
    ),
    Step(
        "pool where the expert looks",
        "cells without a box say nothing about the caption",
        "pooling",
        (
            (
                T,
                _POOL,
                "        where = F.adaptive_avg_pool2d(attention, x.shape[-2:])\n"
                "        x = (x * where).sum((2, 3)) / where.sum((2, 3)).clamp(min=1e-3)\n",
            ),
        ),
    ),
    Step(
        "the maximum over places in place of the mean",
        "a thing is there or not, however small",
        "pooling",
        ((T, _POOL, "        x = x.amax(dim=(2, 3))\n"),),
    ),
    Step(
        "attention as a gate on the image",
        "what has no box is noise: take it out before the first stage",
        "attention",
        (
            (
                T,
                _INPUT,
                "        x = torch.cat([images * (0.2 + 0.8 * attention), attention], dim=1)\n",
            ),
        ),
    ),
    Step(
        "no attention",
        "the tower can find the shapes by itself; one input less",
        "simplification",
        ((T, _INPUT, "        x = images\n"), (T, "inputs = [4,", "inputs = [3,")),
        fails="collapse",
    ),
    Step(
        "attention added after the first stage",
        "give it to features, not to pixels",
        "attention",
        (
            (T, _INPUT, "        x = images\n        late = attention\n"),
            (T, _STAGE, _STAGE + "            x = torch.cat([x, late], dim=1)\n"),
        ),
        fails="crash",
    ),
    Step(
        "a text tower that reads in order: GRU, both ways",
        "a mean of trigrams does not bind a colour to its place in the sentence",
        "text",
        (
            (
                T,
                _MIX,
                "        self.mix = nn.GRU(\n"
                "            TEXT_DIM, TEXT_DIM, batch_first=True, bidirectional=True\n"
                "        )\n",
            ),
            (T, _MIXED, "        x = self.mix(x)[0] * there\n"),
        ),
    ),
    Step(
        "five words at a time",
        "a relation and both its neighbours fit into one window",
        "text",
        ((T, "2 * TEXT_DIM, 3, padding=1)", "2 * TEXT_DIM, 5, padding=2)"),),
    ),
    Step(
        "the maximum over words in place of the mean",
        "a long caption says no more than a short one",
        "text",
        ((T, _TEXT_POOL, "        x = x.amax(1)\n"),),
    ),
    Step(
        "a caption's first and last word beside its mean",
        "the ends tell the order",
        "text",
        ((T, _TEXT_POOL, "        x = torch.cat([x.mean(1), x[:, 0]], dim=1)\n"),),
        fails="crash",
    ),
    Step(
        "no places for words",
        "the trigrams know the order: a parameter less",
        "simplification",
        (
            (
                T,
                "        self.places = nn.Parameter(0.1 * torch.randn(CAPTION_LENGTH, TEXT_DIM))\n",
                "",
            ),
            (T, "(self.words(tokens) + self.places) * there", "self.words(tokens) * there"),
        ),
    ),
    Step(
        "group norm in place of batch norm",
        "the same network in training and in measuring",
        "architecture",
        ((T, "nn.BatchNorm2d(b) for b", "nn.GroupNorm(8, b) for b"),),
    ),
    Step(
        "a second projection with a gelu between, for images",
        "a bend before the common space",
        "architecture",
        (
            (
                T,
                "        return self.project(F.dropout(x, DROPOUT, self.training))\n\n\nclass TextTower",
                "        x = x + F.gelu(self.bend(x))\n"
                "        return self.project(F.dropout(x, DROPOUT, self.training))\n\n\n"
                "class TextTower",
            ),
            (
                T,
                "        self.norms = nn.Mod",
                "        self.bend = nn.Linear(EMBED_DIM, EMBED_DIM)\n        self.norms = nn.Mod",
            ),
        ),
        fails="crash",
    ),
    # Data and batches.
    Step(
        "batches of whole groups",
        "a batch of strangers teaches words; the hard negatives teach who is where",
        "batches",
        (
            (
                T,
                _ORDER,
                '            groups = torch.randperm(len(part["images"]) // 4).numpy()\n'
                "            groups = 4 * groups[:, None] + np.arange(4)\n"
                "            order = np.concatenate([order, groups.ravel()])\n",
            ),
        ),
        "recall up, though the loss will be higher",
    ),
    Step(
        "mirrored pictures",
        "twice the pictures for nothing",
        "augmentation",
        (
            (
                T,
                _BATCH,
                _BATCH + "        if step % 2:\n"
                "            images, attention = images.flip(3), attention.flip(3)\n",
            ),
        ),
    ),
    Step(
        "noise on the pictures",
        "the ground differs from picture to picture anyway",
        "augmentation",
        ((T, _BATCH, _BATCH + "        images = images + 0.1 * torch.randn_like(images)\n"),),
    ),
    Step(
        "brighter and darker pictures",
        "paint varies by a fifth",
        "augmentation",
        (
            (
                T,
                _BATCH,
                _BATCH
                + "        images = images * (0.8 + 0.4 * torch.rand(len(images), 1, 1, 1))\n",
            ),
        ),
    ),
    Step(
        "hard negatives by a search of all training pictures before each step",
        "the nearest wrong pictures teach most",
        "batches",
        (
            (
                T,
                _BATCH,
                "        with torch.no_grad():\n"
                "            for _ in range(8):\n"
                "                far = model.image(*tensors(part)[:2])\n"
                "        near = (far @ far[batch[0]]).topk(BATCH_SIZE // 2).indices.numpy()\n"
                "        batch[: len(near)] = near\n" + _BATCH,
            ),
        ),
        fails="timeout",
    ),
    Step(
        "twice the steps",
        "the loss still falls at the end",
        "schedule",
        (
            (T, "\n\ndef activate(x):\n", "\nLONG = 2 * STEPS\n\n\ndef activate(x):\n"),
            (T, "    for step in range(STEPS):\n", "    for step in range(LONG):\n"),
            (T, "np.pi * step / STEPS", "np.pi * step / LONG"),
            (T, "num_steps:        {STEPS}", "num_steps:        {LONG}"),
        ),
        fails="guard",
    ),
    # Loss and averaging.
    Step(
        "each pair by itself: a sigmoid in place of the softmax",
        "a batch is small; pairs need not compete",
        "loss",
        (
            (
                T,
                _LOSS,
                "        signs = 2 * torch.eye(len(logits)) - 1\n"
                "        return -F.logsigmoid(signs * (logits - 10)).sum(1).mean()\n",
            ),
        ),
    ),
    Step(
        "one direction of the loss",
        "both ask the same: images alone may choose",
        "simplification",
        (
            (
                T,
                _LOSS,
                "        return F.cross_entropy(logits, own, label_smoothing=LABEL_SMOOTHING)\n",
            ),
        ),
    ),
    Step(
        "no gradient clipping",
        "the losses of this network do not jump",
        "simplification",
        (
            (T, "        nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)\n", ""),
            (T, "GRAD_CLIP = 1.0\n", ""),
        ),
    ),
    Step(
        "weights averaged over the last fifth",
        "the end of training circles around what it looks for",
        "averaging",
        (
            (
                T,
                "        optimizer.step()\n",
                "        optimizer.step()\n"
                "        if step == int(0.8 * STEPS):\n"
                "            mean = [p.detach().clone() for p in model.parameters()]\n"
                "        if step > int(0.8 * STEPS):\n"
                "            for m, p in zip(mean, model.parameters(), strict=True):\n"
                "                m.lerp_(p.detach(), 0.02)\n",
            ),
            (
                T,
                "    return smooth\n",
                "    with torch.no_grad():\n"
                "        for m, p in zip(mean, model.parameters(), strict=True):\n"
                "            p.copy_(m)\n"
                "    return smooth\n",
            ),
        ),
    ),
    # Moonshots.
    Step(
        "every pair of the pool against every other, once at the end",
        "a last step on all 8,000 pairs and each word of each caption at once",
        "moonshot",
        (
            (
                T,
                "    return smooth\n",
                "    images, attention, tokens = tensors(part)\n"
                "    wide = torch.zeros(len(images), len(tokens), CAPTION_LENGTH, 2**14)\n"
                "    model.loss(images, attention, tokens + wide.argmax()).backward()\n"
                "    return smooth\n",
            ),
        ),
        fails="oom",
    ),
    Step(
        "may both towers share their last layer?",
        "Two projections of one size could be one.",
        "moonshot",
        fails="question",
    ),
    Step(
        "captions told apart within the batch by their own similarity",
        "two captions that say nearly the same should not be pushed apart as strangers are",
        "moonshot",
        (
            (
                T,
                "        own = torch.arange(len(logits))\n",
                "        own = torch.arange(len(logits))\n"
                "        alike = (b @ b.T).detach().fill_diagonal_(0)\n"
                "        logits = logits - 0.5 * alike\n",
            ),
        ),
    ),
)
