"""A night on examples/segmentation, as an agent spends it that has read knowledge/pbqc.md."""

from tests.nights.replay import Step

# Half the steps: with fewer, pbqc starts so low that it cannot collapse any further.
FAST = {"prepare.py:STEPS": "160"}
SLOW = {"budget": "1m"}
GAIN = 1
SHORT = (0, 1, 3, 6, 9, 14, 17, 23, 31)
TRAIN = "train.py"

REACH = "[pbqc.md § How far a part can be from its drawing]"
LEARN = "[pbqc.md § How alignment is learned without true displacements]"
COLLAPSE = "[pbqc.md § What a collapse means physically]"
RISES = "[pbqc.md § Why Dice can rise while PBQC collapses]"
STAGES = "[pbqc.md § How the two stages depend on each other]"

_OUT = "        return self.out(back)[:, 0]\n"
_ENTROPY = (
    '    entropy = F.binary_cross_entropy_with_logits(logits, batch["defect"], pos_weight=weight)\n'
)
_ALIGN = '    align = 10 * F.mse_loss(blurred(drawn), blurred(batch["part"]))\n'
_GRID = "        grid = F.affine_grid(self.locator(both), both[:, :1].shape, align_corners=False)\n"
_DRAWN = "        drawn = F.grid_sample(nominal[:, None], grid, align_corners=False)[:, 0]\n"
_HEAD = "        self.head = nn.Linear(widths[-1] * (SIDE // 8) ** 2, 4)\n"
_BOTH = "        both = torch.stack([nominal, printed], dim=1)\n"

STEPS = (
    # 0
    Step(
        "the segmenter gets every step, and its gradient ends at the drawing",
        "the locator's steps are lost to the defects; scars and strings need no drawing " + RISES,
        "curriculum",
        (
            (TRAIN, 'model.segment(drawn, batch["', 'model.segment(drawn.detach(), batch["'),
            (TRAIN, "ALIGN_FRAC = 0.6", "ALIGN_FRAC = 0.0"),
            (TRAIN, "ALIGN_WEIGHT = 0.1", "ALIGN_WEIGHT = 0.0"),
            (TRAIN, "LR = 2e-3", "LR = 5e-3"),
        ),
        "dice up by a third, pbqc somewhat down",
        fails="guard",
    ),
    # 1: the planted gain
    Step(
        "mirror the outline with its photograph",
        "the outline stays behind when a batch is mirrored: the locator is taught the opposite "
        "of the truth in half of its steps " + LEARN,
        "bug",
        ((TRAIN, 'for name in ("nominal", "printed", "defect"):', "for name in batch:"),),
        "pbqc up by half",
    ),
    # 2
    Step(
        "the locator begins at the identity",
        "a last layer that begins at random has to unlearn its displacements first " + LEARN,
        "bug",
        (
            (
                TRAIN,
                _HEAD,
                _HEAD + "        nn.init.zeros_(self.head.weight)\n"
                "        nn.init.zeros_(self.head.bias)\n",
            ),
        ),
        "pbqc up a little",
    ),
    # 3
    Step(
        "the curriculum deserves a second thought",
        "Perhaps the two stages should take turns, or the weights should follow the losses.",
        "curriculum",
        fails="prose",
    ),
    # 4
    Step(
        "the locator reaches as far as cameras do: MAX_SHIFT 0.22, MAX_TURN 10, MAX_SCALE 0.08",
        "5 pixels are 0.21 of half the image, the mount turns by 9 degrees, the size by 7 percent "
        + REACH,
        "alignment",
        (
            (TRAIN, "MAX_SHIFT = 0.1", "MAX_SHIFT = 0.22"),
            (TRAIN, "MAX_TURN = 6.0", "MAX_TURN = 10.0"),
            (TRAIN, "MAX_SCALE = 0.04", "MAX_SCALE = 0.08"),
        ),
        "pbqc up: the worst layers come within reach",
    ),
    # 5
    Step(
        "ALIGN_FRAC 0.6 → 0.2: joint training for most of the steps",
        "every step in which the locator learns alone is lost to the segmenter " + STAGES,
        "curriculum",
        ((TRAIN, "ALIGN_FRAC = 0.6", "ALIGN_FRAC = 0.2"),),
        "dice up by half",
    ),
    # 6
    Step(
        "a skip connection from the fine features to the output",
        "defects are two pixels wide and the output comes from half resolution",
        "architecture",
        ((TRAIN, _OUT, "        back = torch.cat([back, fine], dim=1)\n" + _OUT),),
        "dice up",
        fails="mended",
        mend=(
            (
                TRAIN,
                "self.out = nn.Conv2d(WIDTH, 1, 1)",
                "self.out = nn.Conv2d(2 * WIDTH, 1, 1)",
            ),
        ),
    ),
    # 7
    Step(
        "LR 2e-3 → 5e-3",
        "both losses still fall when the steps run out",
        "optimizer",
        ((TRAIN, "LR = 2e-3", "LR = 5e-3"),),
        "both up",
    ),
    # 8
    Step(
        "LOCATOR_LR_RATIO 0.3 → 1.0",
        "the locator learns at a third of the pace and is far from done",
        "optimizer",
        ((TRAIN, "LOCATOR_LR_RATIO = 0.3", "LOCATOR_LR_RATIO = 1.0"),),
        "pbqc up",
    ),
    # 9
    Step(
        "measure the contour with a tolerance of three lines",
        "one line is stricter than the print needs " + COLLAPSE,
        "evaluation",
        (("prepare.py", "TOLERANCE_PX = 1.0", "TOLERANCE_PX = 3.0"),),
        fails="forbidden",
    ),
    # 10
    Step(
        "ALIGN_WEIGHT 0.1 → 0.5",
        "too little weight on alignment once both learn lets the drawing drift " + STAGES,
        "loss",
        ((TRAIN, "ALIGN_WEIGHT = 0.1", "ALIGN_WEIGHT = 0.5"),),
        "pbqc up, dice the same",
    ),
    # 11
    Step(
        "attention gates on the coarse features",
        "gates from the fine features tell the coarse ones where to look",
        "architecture",
        (
            (
                TRAIN,
                "        self.up = Block(2 * WIDTH, WIDTH)\n",
                "        self.up = Block(2 * WIDTH, WIDTH)\n"
                "        self.gate = nn.Conv2d(2 * WIDTH, WIDTH, 1)\n",
            ),
            (
                TRAIN,
                "        coarse = self.up(self.coarse(fine))\n",
                "        coarse = self.up(self.coarse(fine))\n"
                "        coarse = coarse * torch.sigmoid(self.gate(F.avg_pool2d(fine, 2)))\n",
            ),
        ),
        fails="crash",
    ),
    # 12
    Step(
        "WARMDOWN_FRAC 0.3 → 0.7",
        "a longer fall of the learning rate ends lower",
        "schedule",
        ((TRAIN, "WARMDOWN_FRAC = 0.3", "WARMDOWN_FRAC = 0.7"),),
    ),
    # 13
    Step(
        "train until the time is up",
        "the budget is two minutes and most of them are unused",
        "training",
        (
            (TRAIN, "for step in range(STEPS):", "for step in range(100 * STEPS):"),
            (TRAIN, "schedule(step / STEPS)", "schedule(min(1.0, spent / TIME_BUDGET))"),
            (
                TRAIN,
                "        for group in optimizer.param_groups:\n",
                "        spent = time.perf_counter() - start\n"
                "        for group in optimizer.param_groups:\n",
            ),
        ),
        "both up by far",
        fails="guard",
    ),
    # 14
    Step(
        "compare square roots of the masks",
        "the root lifts the faint rims, where the gradient is needed",
        "loss",
        (
            (
                TRAIN,
                _ALIGN,
                "    align = 10 * F.mse_loss("
                'blurred(drawn).sqrt(), blurred(batch["part"]).sqrt())\n',
            ),
        ),
        "pbqc up",
        fails="nan",
    ),
    # 15
    Step(
        "DEFECT_WEIGHT 10 → 3",
        "much weight on defects calls every edge one: false alarms are high " + STAGES,
        "loss",
        ((TRAIN, "DEFECT_WEIGHT = 10.0", "DEFECT_WEIGHT = 3.0"),),
        "dice up, false alarms halved",
    ),
    # 16
    Step(
        "DICE_WEIGHT 0.2 → 1.0",
        "train on what is measured",
        "loss",
        ((TRAIN, "DICE_WEIGHT = 0.2", "DICE_WEIGHT = 1.0"),),
        "dice up",
    ),
    # 17
    Step(
        "probabilities at a quarter of their size",
        "softer logits are better calibrated",
        "loss",
        ((TRAIN, _OUT, "        return self.out(back)[:, 0] / 4 - 4\n"),),
        fails="collapse",
    ),
    # 18
    Step(
        "dropout of whole channels before the last layer",
        "the segmenter must not lean on one feature",
        "regularization",
        ((TRAIN, _OUT, "        return self.out(F.dropout2d(back, 0.5, self.training))[:, 0]\n"),),
    ),
    # 19
    Step(
        "ALIGN_BLUR 1 → 3",
        "blurring both masks lets far drawings feel the pull " + LEARN,
        "loss",
        ((TRAIN, "ALIGN_BLUR = 1", "ALIGN_BLUR = 3"),),
        "pbqc up early, down late",
    ),
    # 20
    Step(
        "any turn: MAX_TURN up to 180 degrees",
        "nothing should be out of reach of the locator",
        "alignment",
        (
            (
                TRAIN,
                "turn, size = move[:, 2] * math.radians(MAX_TURN)",
                "turn, size = move[:, 2] * math.pi",
            ),
        ),
        fails="collapse",
    ),
    # 21
    Step(
        "the size is fixed: MAX_SCALE → 0.001",
        "one number less to learn",
        "alignment",
        (
            (
                TRAIN,
                "torch.exp(move[:, 3] * MAX_SCALE)",
                "torch.exp(move[:, 3] * 0.001)",
            ),
        ),
    ),
    # 22
    Step(
        "the segmenter is shown the difference, too",
        "photograph minus drawing is what a defect is; the first layer need not learn it " + RISES,
        "architecture",
        (
            (TRAIN, "self.fine = Block(2, WIDTH)", "self.fine = Block(3, WIDTH)"),
            (
                TRAIN,
                "self.segmenter(torch.stack([drawn, printed], dim=1))",
                "self.segmenter(torch.stack([drawn, printed, printed - drawn], dim=1))",
            ),
        ),
        "dice up a little",
    ),
    # 23
    Step(
        "read the answers of the validation layers",
        "I would have to open data/val.npz for its true grids, and training on them is cheating.",
        "data",
        fails="refusal",
    ),
    # 24
    Step(
        "BETA1 0.9 → 0.9995",
        "a long memory averages the noise of small batches away",
        "optimizer",
        ((TRAIN, "BETA1 = 0.9", "BETA1 = 0.9995"),),
    ),
    # 25
    Step(
        "a first beta of 0.9995 for AdamW",
        "320 layers make noisy gradients: more inertia",
        "optimizer",
        ((TRAIN, "BETA1 = 0.9", "BETA1 = 0.9995"),),
        fails="duplicate",
    ),
    # 26
    Step(
        "EfficientNet-B0 as the encoder",
        "a pretrained encoder sees textures at once",
        "architecture",
        (
            (
                TRAIN,
                "        self.fine = Block(",
                "        from torchvision.models import efficientnet_b0\n\n"
                '        self.encoder = efficientnet_b0(weights="DEFAULT").features\n'
                "        self.fine = Block(",
            ),
        ),
        fails="crash",
    ),
    # 27
    Step(
        "the locator looks twice",
        "after a first alignment the rest is small, and the same eyes see it better",
        "architecture",
        (
            (
                TRAIN,
                _GRID,
                "        theta, frame = self.locator(both), both[:, :1].shape\n"
                "        first = F.affine_grid(theta, frame, align_corners=False)\n"
                "        seen = F.grid_sample(nominal[:, None], first, align_corners=False)\n"
                "        more = self.locator(torch.cat([seen, both[:, 1:]], dim=1))\n"
                "        last = both.new_tensor([[[0.0, 0.0, 1.0]]]).expand(len(both), 1, 3)\n"
                "        theta = theta @ torch.cat([more, last], dim=1)\n"
                "        grid = F.affine_grid(theta, frame, align_corners=False)\n",
            ),
        ),
        "pbqc up clearly",
    ),
    # 28
    Step(
        "a deeper locator",
        "one more halving sees the whole part",
        "architecture",
        (
            (TRAIN, "4 * LOCATOR_WIDTH]", "4 * LOCATOR_WIDTH, 4 * LOCATOR_WIDTH]"),
            (TRAIN, "(SIDE // 8) ** 2", "(SIDE // 16) ** 2"),
        ),
    ),
    # 29
    Step(
        "focal loss instead of cross-entropy",
        "hard pixels count, easy ones do not",
        "loss",
        (
            (
                TRAIN,
                _ENTROPY,
                "    each = F.binary_cross_entropy_with_logits("
                'logits, batch["defect"], reduction="none")\n'
                "    entropy = (each * (1 - torch.exp(-each)) ** 2 * (1 + weight)).mean()\n",
            ),
        ),
    ),
    # 30
    Step(
        "without the warm-up",
        "two hundredths of the steps do nothing for Adam",
        "simplification",
        (
            (TRAIN, "WARMUP_FRAC = 0.05\n", ""),
            (
                TRAIN,
                "    rise = min(1.0, progress / max(WARMUP_FRAC, 1e-9))\n"
                "    return min(rise, (1.0 - progress)",
                "    return min((1.0 - progress)",
            ),
        ),
        "the same with less code",
    ),
    # 31
    Step(
        "print only what matters",
        "the block at the end is noise",
        "simplification",
        ((TRAIN, "        print(f\"{name + ':':18s}{text}\")\n", "        del text\n"),),
        fails="silent",
    ),
    # 32
    Step(
        "keep only the deviation from the photograph's mean",
        "lamps differ from layer to layer, edges do not",
        "data",
        (
            (
                TRAIN,
                _BOTH,
                "        light = printed.mean((1, 2), keepdim=True)\n"
                "        spread = printed.std((1, 2), keepdim=True) + 1e-3\n"
                "        both = torch.stack([nominal, (printed - light) / spread], dim=1)\n",
            ),
        ),
        "pbqc up",
    ),
    # 33
    Step(
        "gelu",
        "smooth gradients suit a transformer of space",
        "activation",
        ((TRAIN, 'ACTIVATION = "relu"', 'ACTIVATION = "gelu"'),),
    ),
    # 34
    Step(
        "WIDTH 8 → 16",
        "eight channels are few for four kinds of defects",
        "capacity",
        ((TRAIN, "\nWIDTH = 8", "\nWIDTH = 16"),),
        "dice up",
    ),
    # 35
    Step(
        "LOCATOR_WIDTH 8 → 16",
        "the locator has to know every outline",
        "capacity",
        ((TRAIN, "LOCATOR_WIDTH = 8", "LOCATOR_WIDTH = 16"),),
        "pbqc up",
    ),
    # 36
    Step(
        "repeat a batch until it is aligned",
        "no batch should leave with a poor drawing",
        "training",
        (
            (
                TRAIN,
                "        if not torch.isfinite(loss):\n",
                "        while align > 0.001:\n"
                "            optimizer.zero_grad()\n"
                "            align = losses(model, batch, alone=True)[0]\n"
                "            align.backward()\n"
                "            optimizer.step()\n"
                "        if not torch.isfinite(loss):\n",
            ),
        ),
        fails="timeout",
    ),
    # 37
    Step(
        "NOISE 0 → 0.03",
        "320 layers are few, and photographs are noisy",
        "augmentation",
        ((TRAIN, "NOISE = 0.0 ", "NOISE = 0.03 "),),
    ),
    # 38
    Step(
        "mirror top to bottom, too",
        "a part has no up",
        "augmentation",
        (
            (
                TRAIN,
                "            batch[name] = batch[name].flip(-1)\n    if NOISE > 0:\n",
                "            batch[name] = batch[name].flip(-1)\n"
                "    if torch.rand(()) < FLIP_PROB:\n"
                "        batch = {name: a.flip(-2) for name, a in batch.items()}\n"
                "    if NOISE > 0:\n",
            ),
        ),
    ),
    # 39
    Step(
        "defects follow the drawing's own edge: a consistency loss",
        "what is printed should look like what is nominal",
        "loss",
        (
            (
                TRAIN,
                "    return ALIGN_WEIGHT * align + segment, align, segment\n",
                '    segment = segment + F.mse_loss(torch.sigmoid(logits), batch["nominal"])\n'
                "    return ALIGN_WEIGHT * align + segment, align, segment\n",
            ),
        ),
        fails="collapse",
    ),
    # 40
    Step(
        "clip the locator alone",
        "its gradient is the wild one",
        "optimizer",
        (
            (
                TRAIN,
                "clip_grad_norm_(model.parameters(), GRAD_CLIP)",
                "clip_grad_norm_(model.locator.parameters(), GRAD_CLIP)",
            ),
        ),
    ),
    # 41
    Step(
        "cross-entropy of drawing and outline",
        "squares forgive a drawing that is half right",
        "loss",
        (
            (
                TRAIN,
                _ALIGN,
                "    seen = blurred(drawn).clamp(1e-4, 1 - 1e-4)\n"
                '    align = F.binary_cross_entropy(seen, blurred(batch["part"]).clamp(0, 1))\n',
            ),
        ),
    ),
    # 42
    Step(
        "which of the two should count more?",
        "I could trade pbqc against dice; the score weighs them alike.",
        "loss",
        fails="question",
    ),
    # 43
    Step(
        "a smooth warp beside the four numbers",
        "what is left after shift, turn and size cannot be had from four numbers " + REACH,
        "architecture",
        (
            (
                TRAIN,
                _HEAD,
                _HEAD + "        self.bend = nn.Conv2d(widths[-1], 2, 1)\n"
                "        nn.init.zeros_(self.bend.weight)\n"
                "        nn.init.zeros_(self.bend.bias)\n",
            ),
            (
                TRAIN,
                "        move = torch.tanh(self.head(self.body(x).flatten(1)))\n",
                "        seen = self.body(x)\n"
                "        move = torch.tanh(self.head(seen.flatten(1)))\n"
                "        self.field = 0.04 * torch.tanh(self.bend(F.avg_pool2d(seen, 2)))\n",
            ),
            (
                TRAIN,
                _DRAWN,
                "        field = F.interpolate("
                'self.locator.field, SIDE, mode="bicubic", align_corners=False)\n'
                "        grid = grid + field.permute(0, 2, 3, 1)\n" + _DRAWN,
            ),
        ),
        "pbqc up at the end",
    ),
    # 44
    Step(
        "attention gates, with the right channels",
        "gates from the fine features tell the coarse ones where to look",
        "architecture",
        (
            (
                TRAIN,
                "        self.up = Block(2 * WIDTH, WIDTH)\n",
                "        self.up = Block(2 * WIDTH, WIDTH)\n"
                "        self.gate = nn.Conv2d(WIDTH, WIDTH, 1)\n",
            ),
            (
                TRAIN,
                "        coarse = self.up(self.coarse(fine))\n",
                "        coarse = self.up(self.coarse(fine))\n"
                "        coarse = coarse * torch.sigmoid(self.gate(F.avg_pool2d(fine, 2)))\n",
            ),
        ),
    ),
    # 45
    Step(
        "the mean of the weights over the last steps",
        "the mean lies in the middle of the basin",
        "averaging",
        (
            (
                TRAIN,
                "        optimizer.step()\n        if (step + 1)",
                "        optimizer.step()\n"
                "        weights = list(model.parameters())\n"
                "        if step < 0.8 * STEPS:\n"
                "            mean = [w.detach().clone() for w in weights]\n"
                "        else:\n"
                "            for m, w in zip(mean, weights, strict=True):\n"
                "                m.lerp_(w.detach(), 0.1)\n"
                "        if (step + 1)",
            ),
            (
                TRAIN,
                '    return {"training_seconds"',
                "    for m, w in zip(mean, weights, strict=True):\n"
                "        w.data.copy_(m)\n"
                '    return {"training_seconds"',
            ),
        ),
    ),
    # 46
    Step(
        "a residual path in every block",
        "gradients reach the first layer",
        "architecture",
        (
            (
                TRAIN,
                "        return activate(self.norm(self.conv(x)))\n",
                "        y = activate(self.norm(self.conv(x))\n"
                "        return x + y if x.shape == y.shape else y\n",
            ),
        ),
        fails="syntax",
    ),
    # 47
    Step(
        "a residual path in blocks that keep their shape",
        "gradients reach the first layer",
        "architecture",
        (
            (
                TRAIN,
                "        return activate(self.norm(self.conv(x)))\n",
                "        y = activate(self.norm(self.conv(x)))\n"
                "        return x + y if x.shape == y.shape else y\n",
            ),
        ),
    ),
    # 48
    Step(
        "WEIGHT_DECAY 1e-3 → 1e-2",
        "320 layers are few",
        "regularization",
        ((TRAIN, "WEIGHT_DECAY = 1e-3", "WEIGHT_DECAY = 1e-2"),),
    ),
    # 49
    Step(
        "without noise, which is off",
        "code that does nothing can go",
        "simplification",
        (
            (
                TRAIN,
                "NOISE = 0.0  # sd of what is added to photographs, which are 0..1"
                "  # nightlab: 0..0.2\n",
                "",
            ),
            (
                TRAIN,
                "    if NOISE > 0:\n"
                '        batch["printed"] = batch["printed"] '
                '+ NOISE * torch.randn_like(batch["printed"])\n',
                "",
            ),
        ),
        "the same with less code",
    ),
)
