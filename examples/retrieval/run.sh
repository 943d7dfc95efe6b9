#!/bin/sh
# One run. nightlab calls it, and so may you; without nightlab the evaluation follows at once.
set -eu
cd "$(dirname "$0")"
test -e data/pool.npz || python prepare.py
python train.py
test -n "${NIGHTLAB_ARTIFACT:-}" || python evaluate.py
