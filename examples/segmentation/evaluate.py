"""The test split, once: score what a finished training left. `nightlab finalize` runs this.

train.py saved its predictions for the 320 test layers in $NIGHTLAB_ARTIFACT; their truth lies in
hidden/, which only this program is given. It prints the parts of the objective.
"""

import os
from pathlib import Path

import numpy as np
from prepare import score

if __name__ == "__main__":
    truth = dict(np.load(Path(__file__).resolve().parent / "hidden" / "test.npz"))
    said = np.load(Path(os.environ["NIGHTLAB_ARTIFACT"]) / "predictions.npz")
    for name, value in score(truth, said["grid"], said["defect"]).items():
        print(f"{name + ':':18s}{value:.6f}")
