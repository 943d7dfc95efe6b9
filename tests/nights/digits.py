"""A short night on examples/digits: one of each thing that an agent gets right or wrong."""

from tests.nights.replay import Step

FAST = {"kill_factor": "15"}
GAIN = 0
TRAIN = "train.py"

STEPS = (
    Step(
        "INPUT_NOISE 0.05 → 0.2",
        "500 images are few: more noise on them keeps the network from learning them by heart",
        "regularization",
        ((TRAIN, "INPUT_NOISE = 0.05", "INPUT_NOISE = 0.2"),),
        "val_loss down by a third",
    ),
    Step(
        "average the weights over the end of training",
        "the mean of the last steps lies nearer to the middle of the basin",
        "averaging",
        (
            (TRAIN, "        step += 1\n", "        step += 1\n        averge(net, step)\n"),
            (
                TRAIN,
                "def main():\n",
                "def average(net, step):\n"
                "    net.mean = net.params.copy() if step == 1 else (\n"
                "        np.float32(0.99) * net.mean + np.float32(0.01) * net.params\n"
                "    )\n\n\ndef main():\n",
            ),
        ),
        fails="mended",
        mend=((TRAIN, "averge(net, step)", "average(net, step)"),),
    ),
    Step(
        "look at the validation images first",
        "I would have to train on held-out images, which I will not do.",
        "data",
        fails="refusal",
    ),
    Step(
        "LR 0.02 → 1e9 with relu",
        "large steps leave bad regions",
        "optimizer",
        ((TRAIN, "LR = 0.02", "LR = 1e9"), (TRAIN, 'ACTIVATION = "tanh"', 'ACTIVATION = "relu"')),
        fails="nan",
    ),
    Step(
        "train on 1,200 images instead of 500",
        "more data is the surest gain",
        "data",
        (("prepare.py", '"train": 500, "val": 600', '"train": 1000, "val": 100'),),
        fails="forbidden",
    ),
    Step(
        "ACTIVATION tanh → gelu",
        "gelu is what everyone uses",
        "activation",
        ((TRAIN, 'ACTIVATION = "tanh"', 'ACTIVATION = "gelu"'),),
    ),
    Step(
        "rotate the images by a few degrees with scipy",
        "people slant their digits",
        "augmentation",
        (
            (
                TRAIN,
                "from itertools import pairwise",
                "from itertools import pairwise\n\nimport augmentations",
            ),
        ),
        fails="crash",
    ),
    Step(
        "gelu instead of tanh",
        "a smoother activation",
        "activation",
        ((TRAIN, 'ACTIVATION = "tanh"', 'ACTIVATION = "gelu"'),),
        fails="duplicate",
    ),
    Step(
        "LR 0.02 → 1e-6",
        "smaller steps are safer",
        "optimizer",
        ((TRAIN, "LR = 0.02", "LR = 1e-6"),),
        fails="collapse",
    ),
    Step(
        "the schedule needs thought",
        "A cosine would be smoother than a line, and a warm-up might help the first steps.",
        "schedule",
        fails="prose",
    ),
    Step(
        "print less",
        "shorter output",
        "simplification",
        ((TRAIN, "        print(f\"{name + ':':18s}{text}\")", "        del text"),),
        fails="silent",
    ),
    Step(
        "without dropout, which is off",
        "code that does nothing can go",
        "simplification",
        (
            (TRAIN, "DROPOUT = 0.0  # of hidden units\n", ""),
            (
                TRAIN,
                "            if rng is not None and DROPOUT > 0:\n"
                "                kept = (rng.random(y.shape, dtype=np.float32) >= DROPOUT) / np.float32(1 - DROPOUT)\n"
                "                y, slope = y * kept, slope * kept\n",
                "",
            ),
        ),
        "the same with less code",
    ),
    Step(
        "nesterov momentum",
        "looks ahead",
        "optimizer",
        ((TRAIN, "        velocity += net.grads\n", "        velocity += net.grads)\n"),),
        fails="syntax",
    ),
    Step(
        "WEIGHT_DECAY 3e-4 → 3e-3",
        "smaller weights generalize better",
        "regularization",
        ((TRAIN, "WEIGHT_DECAY = 3e-4", "WEIGHT_DECAY = 3e-3"),),
    ),
)
