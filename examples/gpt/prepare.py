"""The fixed half of the study: text, tokenizer, splits and the evaluation. Nobody edits this file.

The text is what every Python brings along: the standard library's own source files and the
language reference behind ``help()``. ``python prepare.py`` collects it, trains a small
byte-pair tokenizer on its training part and stores tokens under ``data/`` (some 10 s, once);
those of the test split under ``held/``, which training never sees.

The metric is bits per byte: all nats that the model needs for a text, divided by ln 2 times
the bytes of that text. It does not depend on the tokenizer. It does depend on the version of
Python whose library was read, so compare figures of one machine only.
"""

import hashlib
import json
import math
import os
import re
import sys
import sysconfig
import time
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np

TIME_BUDGET = float(os.environ.get("TIME_BUDGET", "10"))  # seconds of training
SEQ_LEN = 256  # tokens of context
VOCAB_SIZE = 1024  # 256 bytes, the separator, and merges
SEPARATOR = 256  # stands before every document; weighs no bytes
EVAL_TOKENS = 2**15  # of a held-out split, at most

DATA = Path(__file__).resolve().parent / "data"
HELD = DATA.with_name("held")  # nightlab.toml hides it from all but the last test
_READY = "ready.json"  # written last
_TOKENIZER_BYTES = 3_000_000  # of the training text, for counting pairs
# Tests of the library, generated tables, and a module that is only the reference again.
_LEFT_OUT = {"test", "tests", "idle_test", "encodings", "site-packages", "pydoc_data"}
# A word, a number or a run of signs, each with the blank before it; a newline with its indent.
_CHUNK = re.compile(rb" ?[A-Za-z_]+| ?[0-9]+| ?[^\sA-Za-z0-9_]+|\n *|\s")


# ------------------------------------------------------------------- text and splits


def documents():
    """(name, bytes) of every document, sorted by name."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = {}
    for path in root.rglob("*.py"):
        name = path.relative_to(root).as_posix()
        if not _LEFT_OUT & set(name.split("/")) and not name.startswith("_sysconfigdata"):
            found[f"lib/{name}"] = path.read_bytes()
    try:
        from pydoc_data.topics import topics  # noqa: PLC0415 - not everywhere
    except ImportError:  # some distributions package it apart
        topics = {}
    found |= {f"help/{name}": text.encode() for name, text in topics.items()}
    return sorted((name, text) for name, text in found.items() if text.strip())


def split_of(name):
    """``train`` (90 %), ``val`` or ``test`` (5 % each), from the document's name alone."""
    part = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 20
    return {0: "val", 1: "test"}.get(part, "train")


# ------------------------------------------------------------------- tokenizer


class Tokenizer:
    """Byte-pair encoding within chunks. Token ``SEPARATOR + 1 + i`` is the i-th merge."""

    def __init__(self, merges):
        self.merges = [tuple(pair) for pair in merges]
        self._ids = {pair: SEPARATOR + 1 + i for i, pair in enumerate(self.merges)}
        self._bytes = [bytes([i]) for i in range(256)] + [b""]
        for a, b in self.merges:
            self._bytes.append(self._bytes[a] + self._bytes[b])
        self._known = {}

    @classmethod
    def train(cls, texts, vocab_size):
        """Merge the commonest pair until there are ``vocab_size`` tokens, or no pair left twice."""
        counts = Counter(chunk for text in texts for chunk in _CHUNK.findall(text))
        chunks = [list(chunk) for chunk in counts]
        weights = list(counts.values())
        pairs, where = Counter(), defaultdict(set)
        for i, ids in enumerate(chunks):
            for pair in pairwise(ids):
                pairs[pair] += weights[i]
                where[pair].add(i)
        merges = []
        while SEPARATOR + 1 + len(merges) < vocab_size and pairs:
            best = max(pairs, key=lambda pair: (pairs[pair], pair))
            if pairs[best] < 2:
                break
            new = SEPARATOR + 1 + len(merges)
            merges.append(best)
            for i in where.pop(best):
                old = chunks[i]
                for pair in pairwise(old):
                    pairs[pair] -= weights[i]
                chunks[i] = ids = _merge(old, best, new)
                for pair in pairwise(ids):
                    pairs[pair] += weights[i]
                    where[pair].add(i)
            del pairs[best]
        return cls(merges)

    def encode(self, text):
        """The tokens of some bytes."""
        tokens = []
        for chunk in _CHUNK.findall(text):
            ids = self._known.get(chunk)
            if ids is None:
                ids = self._known[chunk] = self._encode_chunk(chunk)
            tokens += ids
        return tokens

    def decode(self, tokens):
        """The bytes behind some tokens."""
        return b"".join(self._bytes[token] for token in tokens)

    def lengths(self):
        """Bytes of each token, (VOCAB_SIZE,) int64; 0 for the separator and for unused tokens."""
        lengths = [len(b) for b in self._bytes]
        return np.array(lengths + [0] * (VOCAB_SIZE - len(lengths)), dtype=np.int64)

    def _encode_chunk(self, chunk):
        ids = list(chunk)
        while len(ids) > 1:
            first = min(self._ids.get(pair, VOCAB_SIZE) for pair in pairwise(ids))
            if first == VOCAB_SIZE:
                break
            ids = _merge(ids, self.merges[first - SEPARATOR - 1], first)
        return ids


def _merge(ids, pair, new):
    out, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and ids[i] == pair[0] and ids[i + 1] == pair[1]:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


# ------------------------------------------------------------------- preparation


def prepare():
    """Collect, tokenize and store, unless that has been done. Safe to call from two processes."""
    if (DATA / _READY).exists():
        return
    start = time.perf_counter()
    for folder in (DATA, HELD):
        folder.mkdir(parents=True, exist_ok=True)
    texts = {"train": [], "val": [], "test": []}
    for name, text in documents():
        texts[split_of(name)].append((hashlib.sha256(name.encode()).digest(), text))
    for split in texts.values():
        split.sort()  # by hash: any prefix is a fair sample
    sample, size = [], 0
    for _, text in texts["train"]:
        if size < _TOKENIZER_BYTES:
            sample.append(text)
            size += len(text)
    tokenizer = Tokenizer.train(sample, VOCAB_SIZE)
    facts = {"python": sys.version.split()[0]}
    for split, pairs in texts.items():
        tokens = [t for _, text in pairs for t in (SEPARATOR, *tokenizer.encode(text))]
        _store(_place(split), lambda file, t=tokens: np.save(file, np.array(t, dtype=np.uint16)))
        facts[split] = {"documents": len(pairs), "tokens": len(tokens)}
        facts[split]["bytes"] = sum(len(text) for _, text in pairs)
    merges = json.dumps(tokenizer.merges).encode()
    _store(DATA / "tokenizer.json", lambda file: file.write(merges))
    _store(DATA / _READY, lambda file: file.write(json.dumps(facts, indent=2).encode()))
    print(f"prepared {DATA.name}/ in {time.perf_counter() - start:.1f} s: {json.dumps(facts)}")


def _place(split):
    return (HELD if split == "test" else DATA) / f"{split}.npy"


def _store(path, write):
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        write(file)
    draft.replace(path)


def load_tokens(split):
    """The tokens of a split as a numpy array (n,) of uint16."""
    prepare()
    return np.load(_place(split))


def load_tokenizer():
    prepare()
    return Tokenizer(json.loads((DATA / "tokenizer.json").read_text()))


# ------------------------------------------------------------------- evaluation


def evaluate(model, device, batch_size=16):
    """``val_bpb``, and ``test_bpb`` too where ``NIGHTLAB_SPLIT=test`` is in the environment."""
    metrics = {"val_bpb": evaluate_bpb(model, device, "val", batch_size)}
    if os.environ.get("NIGHTLAB_SPLIT") == "test":
        metrics["test_bpb"] = evaluate_bpb(model, device, "test", batch_size)
    return metrics


def evaluate_bpb(model, device, split="val", batch_size=16):
    """Bits per byte of a held-out split, in windows of ``SEQ_LEN`` tokens that do not overlap.

    ``model`` maps tokens (B, SEQ_LEN) to logits (B, SEQ_LEN, VOCAB_SIZE). The separator
    counts neither in nats nor in bytes. Raises ValueError on logits of another shape, and on
    a model that looks ahead: then it would be told what it is to predict.
    """
    import torch  # noqa: PLC0415 - preparing the text needs no torch
    import torch.nn.functional as F  # noqa: PLC0415

    tokens = torch.from_numpy(load_tokens(split)[: EVAL_TOKENS + 1].astype(np.int64))
    windows = (len(tokens) - 1) // SEQ_LEN
    inputs = tokens[: windows * SEQ_LEN].view(windows, SEQ_LEN)
    targets = tokens[1 : windows * SEQ_LEN + 1].view(windows, SEQ_LEN)
    lengths = torch.from_numpy(load_tokenizer().lengths())
    nats, total_bytes = 0.0, 0
    with torch.no_grad():
        _check_causal(model, inputs[:batch_size].to(device))
        for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
            logits = model(x.to(device))
            if logits.shape != (*x.shape, VOCAB_SIZE):
                raise ValueError(f"the model gave {tuple(logits.shape)} for {tuple(x.shape)}")
            loss = F.cross_entropy(
                logits.float().flatten(0, 1), y.to(device).flatten(), reduction="none"
            ).cpu()
            weight = lengths[y.flatten()]
            nats += loss.double()[weight > 0].sum().item()
            total_bytes += int(weight.sum())
    return nats / (math.log(2) * total_bytes)


def _check_causal(model, x):
    """Raise ValueError where other tokens in the second half change logits of the first."""
    half = SEQ_LEN // 2
    other = x.clone()
    other[:, half:] = (other[:, half:] + 1) % VOCAB_SIZE
    change = (model(x)[:, :half].float() - model(other)[:, :half].float()).abs().max().item()
    if change > 0.01:  # NaN is for the metric to show
        raise ValueError(f"the model looks ahead: later tokens change its logits by {change:.2g}")


if __name__ == "__main__":
    prepare()
    print((DATA / _READY).read_text())
