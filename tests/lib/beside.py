#!/usr/bin/env python3
"""What a planar network with neighbours sees, put there by hand: beside.py K <STREAM >STREAM

Each image gets the channels of K slices on either side of it, those of a modality side by side from the lowest slice to
the highest; beyond a case's ends the slice at the end is repeated. Modalities are named after their neighbour."""
import sys
import numpy as np
from mkstream import parse, stream

k = int(sys.argv[1])
parts = [(kind, meta, tensors) for kind, _, meta, tensors, _ in parse(sys.stdin.buffer.read())]
records = [(dict(m), dict(t)) for kind, m, t in parts if kind == "R"]
cases = {}
for m, t in records:
    cases.setdefault(m["case"], []).append(t["image"])
out, seen = [], {}
for m, t in records:
    z, case = seen.get(m["case"], 0), cases[m["case"]]
    seen[m["case"]] = z + 1
    images = [case[min(max(z + j, 0), len(case) - 1)] for j in range(-k, k + 1)]
    stack = np.stack([images[j][c] for c in range(len(images[0])) for j in range(2 * k + 1)])
    names = ",".join(f"{n}{j}" for n in m["modalities"].split(",") for j in range(2 * k + 1))
    out.append(({**m, "modalities": names}, {**t, "image": stack}))
sys.stdout.buffer.write(stream(parts[0][1], out))
