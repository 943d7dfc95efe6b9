"""No test ever calls a real model: the switch is on for the whole suite and its children."""

import os

os.environ["NIGHTLAB_OFFLINE"] = "1"

from .browser import browser, page  # noqa: F401  fixtures, for whoever asks for them
