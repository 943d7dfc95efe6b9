"""A small GPT, trained for TIME_BUDGET seconds on one device. This file is yours."""

import math
import os
import resource
import sys
import time

# Said before torch is imported. One thread on a CPU unless you set OMP_NUM_THREADS: two
# experiments on two cores must not fight. More threads than free cores must sleep while they
# wait, not spin: with a neighbour on two cores, spinning made training several times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import torch.nn.functional as F
from prepare import SEQ_LEN, TIME_BUDGET, VOCAB_SIZE, evaluate, load_tokens
from torch import nn

# The model.
DEPTH = 2  # layers
WIDTH = 128  # of the residual stream
HEAD_DIM = 32
MLP_RATIO = 4  # hidden width of a layer's MLP, in WIDTHs
ACTIVATION = "gelu"  # relu, gelu, silu or relu2 (the square of relu)
LOGIT_CAP = 15.0  # logits are bent to stay within this

# The optimizers: one for matrices inside the layers, AdamW for the rest.
MATRIX_OPTIMIZER = "adamw"  # muon or adamw
MATRIX_LR = 3e-3
EMBEDDING_LR = 1e-2
HEAD_LR = 3e-3
BETA1 = 0.9
BETA2 = 0.95
MOMENTUM = 0.95  # of muon
WEIGHT_DECAY = 0.1  # of matrices inside the layers
GRAD_CLIP = 1.0
BATCH_SIZE = 8  # sequences per step

# The schedule, as shares of the budget.
WARMUP_FRAC = 0.05
WARMDOWN_FRAC = 0.4
FINAL_LR_FRAC = 0.05

COMPILE = False  # torch.compile, on a GPU only: it takes a minute outside the budget

# Dense bf16 operations per second, from the makers' data sheets; elsewhere no MFU is printed.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "RTX 4090": 165e12}


def activate(x):
    if ACTIVATION == "relu2":
        return F.relu(x).square()
    return {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}[ACTIVATION](x)


def norm(x):
    return F.rms_norm(x, (x.size(-1),))


def rotary(length, device):
    """Cosines and sines (length, HEAD_DIM / 2) of rotary position embeddings."""
    speeds = 10_000.0 ** -(torch.arange(0, HEAD_DIM, 2, device=device) / HEAD_DIM)
    angles = torch.arange(length, device=device)[:, None] * speeds
    return angles.cos(), angles.sin()


def rotate(x, turn):
    cos, sin = (t.to(x.dtype) for t in turn)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, MLP_RATIO * WIDTH, bias=False)
        self.down = nn.Linear(MLP_RATIO * WIDTH, WIDTH, bias=False)

    def forward(self, x, turn):
        batch, length, _ = x.shape
        heads = self.qkv(norm(x)).view(batch, length, 3, -1, HEAD_DIM).permute(2, 0, 3, 1, 4)
        q, k, v = heads.unbind(0)
        q, k = rotate(norm(q), turn), rotate(norm(k), turn)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.down(activate(self.up(norm(x))))


class GPT(nn.Module):
    """Tokens (B, T) to logits (B, T, VOCAB_SIZE)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB_SIZE, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, VOCAB_SIZE, bias=False)
        nn.init.normal_(self.embed.weight, std=1.0)
        nn.init.zeros_(self.head.weight)
        for layer in self.layers:  # a layer begins as the identity
            nn.init.zeros_(layer.out.weight)
            nn.init.zeros_(layer.down.weight)

    def forward(self, tokens):
        turn = rotary(tokens.size(1), tokens.device)
        x = norm(self.embed(tokens))
        for layer in self.layers:
            x = layer(x, turn)
        logits = self.head(norm(x)).float()
        return LOGIT_CAP * torch.tanh(logits / LOGIT_CAP)

    def flops_per_token(self):
        """Forward and backward: 6 per matrix weight, and attention's two products."""
        weights = sum(p.numel() for p in self.layers.parameters()) + self.head.weight.numel()
        return 6 * weights + 12 * DEPTH * WIDTH * SEQ_LEN


def build_optimizers(model):
    matrices = list(model.layers.parameters())
    betas = (BETA1, BETA2)
    ends = [
        {"params": [model.embed.weight], "lr": EMBEDDING_LR},
        {"params": [model.head.weight], "lr": HEAD_LR},
    ]
    optimizers = [torch.optim.AdamW(ends, betas=betas, weight_decay=0.0)]
    if MATRIX_OPTIMIZER == "muon":
        muon = torch.optim.Muon(
            matrices,
            lr=MATRIX_LR,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
            adjust_lr_fn="match_rms_adamw",  # so that MATRIX_LR means the same to both
        )
        optimizers.append(muon)
    elif MATRIX_OPTIMIZER == "adamw":
        adamw = torch.optim.AdamW(matrices, lr=MATRIX_LR, betas=betas, weight_decay=WEIGHT_DECAY)
        optimizers.append(adamw)
    else:
        raise ValueError(f"unknown optimizer {MATRIX_OPTIMIZER!r}")
    for group in (g for optimizer in optimizers for g in optimizer.param_groups):
        group["peak_lr"] = group["lr"]
    return optimizers


def schedule(progress):
    """The factor on every learning rate at a share ``progress`` of the budget."""
    rise = progress / WARMUP_FRAC if progress < WARMUP_FRAC else 1.0
    fall = min(1.0, (1.0 - progress) / max(WARMDOWN_FRAC, 1e-9))
    return min(rise, FINAL_LR_FRAC + (1.0 - FINAL_LR_FRAC) * fall)


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory_mb(device):
    """Peak of the GPU's allocated memory; on a CPU or a Mac the peak of the resident process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def pick_device():
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def train(model, device, autocast):
    """Train until the budget is spent; returns the facts to print."""
    tokens = torch.from_numpy(load_tokens("train").astype("int64")).to(device)
    span = torch.arange(SEQ_LEN + 1, device=device)

    def loss_of_a_batch():
        starts = torch.randint(len(tokens) - SEQ_LEN, (BATCH_SIZE, 1), device=device)
        batch = tokens[starts + span]
        with autocast:
            logits = model(batch[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    optimizers = build_optimizers(getattr(model, "_orig_mod", model))
    loss_of_a_batch().backward()  # compiles and loads kernels before the clock starts
    model.zero_grad(set_to_none=True)
    synchronize(device)

    step, smooth, progress, reported = 0, 0.0, 0.0, 0
    start, start_cpu = time.perf_counter(), time.process_time()
    while progress < 1:
        loss = loss_of_a_batch()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * schedule(progress)
            optimizer.step()
        model.zero_grad(set_to_none=True)
        value = loss.item()  # waits for the device
        step += 1
        smooth += (value - smooth) * max(0.05, 1 / step)
        spent = time.perf_counter() - start
        progress = spent / TIME_BUDGET
        if device.type == "cpu":
            # A busy neighbour does not eat processor time. Four times the budget on the
            # wall clock end the run all the same.
            cpu = (time.process_time() - start_cpu) / torch.get_num_threads()
            progress = max(cpu, spent / 4) / TIME_BUDGET
        if not math.isfinite(value):
            print(f"step {step} | loss {value}: diverged", flush=True)
            break
        if progress * 20 >= reported + 1:
            reported = int(progress * 20)
            rate = step * BATCH_SIZE * SEQ_LEN / spent
            done = f"step {step:5d} ({min(progress, 1):4.0%})"
            print(f"{done} | loss {smooth:.4f} | {rate:,.0f} tokens/s", flush=True)
    return {"train_loss": smooth, "training_seconds": spent, "num_steps": step}


def main():
    begin = time.perf_counter()
    torch.manual_seed(int(os.environ.get("NIGHTLAB_SEED", "0")))
    device = pick_device()
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
    gpt = GPT().to(device)
    model = torch.compile(gpt, dynamic=False) if COMPILE and device.type == "cuda" else gpt
    num_params = sum(p.numel() for p in gpt.parameters())
    print(f"{DEPTH} layers of {WIDTH}, {num_params / 1e6:.2f} M parameters, on {device.type}")

    facts = train(model, device, autocast)
    gpt.eval()
    with autocast:
        metrics = evaluate(gpt, device)

    trained = facts["num_steps"] * BATCH_SIZE * SEQ_LEN
    facts["total_seconds"] = time.perf_counter() - begin
    facts["peak_vram_mb"] = peak_memory_mb(device)
    facts["tokens_per_sec"] = trained / facts["training_seconds"]
    name = torch.cuda.get_device_name() if device.type == "cuda" else ""
    for known, peak in PEAK_FLOPS.items():
        if known in name:
            rate = facts["tokens_per_sec"] * gpt.flops_per_token()
            facts["mfu_percent"] = 100 * rate / peak
    facts |= {"total_tokens_M": trained / 1e6, "num_params_M": num_params / 1e6, "depth": DEPTH}
    print("---")
    for key, value in {**metrics, **facts}.items():
        text = f"{value:.6f}" if isinstance(value, float) else str(value)
        print(f"{key + ':':18s}{text}")


if __name__ == "__main__":
    main()
