#!/usr/bin/env python3
"""whole.py >whole.tsv: a small MeshNet (pipelines/networks/mindgrab.yaml) on whole volumes, as PyTorch computes it in double.

tests/unit/nn_whole.c compares, and makes weights and image from their names, as operations.py has it. A line is
    D H W BASE ROUNDS NORM V...    the norm of the logits (2,D,H,W), and every 61st of them
Deep volumes go through the convolutions that write over what they read."""
import sys
import torch
import torch.nn.functional as F
from networks import uniform

DILATIONS = 16, 8, 4, 2, 1
CASES = (16, 16, 16, 3, 1), (16, 16, 16, 4, 2), (70, 6, 9, 15, 1), (66, 20, 5, 17, 2)


def weight(name, *shape):
    return (uniform(name, shape) * (6 / (shape[1] * 27)) ** 0.5).float().double()


def logits(d, h, w, base, rounds):
    x = uniform("image", (1, 1, d, h, w)).float().double()
    for r in range(rounds):
        for dilation in DILATIONS:
            x = F.conv3d(x, weight(f"r{r + 1}.d{dilation}.conv.weight", base, x.shape[1], 3, 3, 3), padding=dilation, dilation=dilation)
            x = F.gelu(F.group_norm(x, base))
    return F.conv3d(x, weight("head.weight", 2, base, 1, 1, 1), (0.3 * uniform("head.bias", (2,))).float().double())


print("# whole.py with PyTorch", torch.__version__)
for case in CASES:
    y = logits(*case).flatten()
    print(*case, f"{y.norm().item():.9g}", *(f"{v:.9g}" for v in y[::61].tolist()), sep="\t")
