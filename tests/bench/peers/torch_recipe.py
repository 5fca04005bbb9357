"""The peer of recipe20min: PyTorch learns from the stream that train(1) would learn from, for as many seconds.

  torch_recipe.py OUT.safetensors LIKE.safetensors SEED SECONDS THREADS BASE RATE EMA < STREAM

The U-Net with outputs for WT, TC and ET, Dice + binary cross-entropy, Adam with a cosine rate, batch 8, and
the average of the weights that train(1) makes of them (ema). The first steps say how many fit into the time. OUT has the weights and the metadata of LIKE, a model of train(1), so that infer(1) runs it.
"""
import json
import os
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from unet import UNet

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "formats"))
import gliopipe

BATCH, TRIAL = 8, 40


def records(stream):
    """(image, label) of the records that are slices."""
    for record in gliopipe.Reader(stream):
        if not record.is_mark:
            yield record.tensors["image"], record.tensors["label"]


def batches(stream):
    images, labels = [], []
    for image, label in records(stream):
        images.append(image)
        labels.append(label)
        if len(images) == BATCH:
            yield torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))
            images, labels = [], []


def loss_of(logits, label, eps=1e-5):
    o = torch.stack([label > 0, (label == 1) | (label == 3), label == 3], 1).to(logits.dtype)
    p = logits.sigmoid()
    both, total = (p * o).sum((0, 2, 3)), p.sum((0, 2, 3)) + o.sum((0, 2, 3))
    return 1 - ((2 * both + eps) / (total + eps)).mean() + F.binary_cross_entropy_with_logits(logits, o)


class Average:
    """What stands in the model: of all weights and running statistics."""

    def __init__(self, net, keep):
        self.net, self.keep, self.steps, self.mean = net, keep, 0, None

    def now(self):
        return {name: t for name, t in self.net.state_dict().items() if t.is_floating_point()}

    @torch.no_grad()
    def take(self):
        now = self.now()
        if not self.keep:
            return
        if self.mean is None:
            self.mean = {name: t.clone() for name, t in now.items()}
        else:
            kept = min(self.keep, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(list(self.mean.values()), list(now.values()), 1 - kept)
        self.steps += 1

    def state(self):
        return self.mean or self.now()


def save(path, like, state):
    with open(like, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    metadata = {key: value for key, value in header["__metadata__"].items() if key != "xxh3"}
    out, data = {"__metadata__": metadata}, b""
    for name in header:
        if name != "__metadata__":
            blob = state[name].detach().to(torch.float32).numpy().tobytes()
            out[name] = {"dtype": "F32", "shape": list(state[name].shape), "data_offsets": [len(data), len(data) + len(blob)]}
            data += blob
    text = json.dumps(out, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def main(out, like, seed, seconds, threads, base, rate, ema):
    torch.set_num_threads(int(threads))
    torch.manual_seed(int(seed))
    seconds, rate = float(seconds), float(rate)
    net = UNet(int(base), classes=3).train().to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(net.parameters(), rate)
    average = Average(net, float(ema))
    start, steps = time.perf_counter(), None
    for step, (x, t) in enumerate(batches(sys.stdin.buffer)):
        if step == TRIAL:
            steps = max(TRIAL + 1, int(seconds / (time.perf_counter() - start) * TRIAL))
        if step == steps:
            break
        for group in adam.param_groups:
            group["lr"] = rate * (1 + np.cos(np.pi * step / steps)) / 2 if steps else rate
        adam.zero_grad(set_to_none=True)
        loss = loss_of(net(x.contiguous(memory_format=torch.channels_last)), t)
        loss.backward()
        adam.step()
        average.take()
        if step % 100 == 0:
            print(f"    step {step} of {steps}: loss {loss.item():.4f}, {time.perf_counter() - start:.0f} s",
                  file=sys.stderr, flush=True)
    save(out, like, average.state())
    print(json.dumps({"steps": step, "seconds": time.perf_counter() - start, "version": torch.__version__}))


main(*sys.argv[1:])
