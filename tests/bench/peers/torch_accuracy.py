"""The peer of accuracy16: PyTorch trains the same network on the same slices, its data ready in memory.

  torch_accuracy.py OUT.json RECIPE SEED EPOCHS THREADS CACHE.npz VALIDATION TRAINING

Batch 8, Adam 1e-3 with a cosine rate, slices with tumour cropped to 160x192 around the brain's box, and a recipe,
with the operations, ranges and probabilities of augment(1): `light` has Dice + cross-entropy and noise, brightness,
contrast and gamma; `combined` (pipelines/attempts) has Dice alone, and noise where a slice holds label 1 or 3.
VALIDATION and TRAINING are case folders, separated by colons. Writes the mean Dice of the validation cases' volumes
for WT, TC and ET, and the seconds of training: the fastest epoch's for each, so that what else the machine did in
that hour does not count against PyTorch.
"""
import glob
import json
import os
import sys
import time

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from unet import UNet, dice_loss

SIZE, BATCH, RECODE = (160, 192), 8, np.array([0, 1, 2, 0, 3], np.uint8)
REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}


def window(occupied, size):
    at = np.flatnonzero(occupied)
    middle = (at[0] + at[-1] + 1) // 2
    lo = max(0, min(middle - size // 2, len(occupied) - size))
    return slice(lo, lo + size)


def read(folder):
    """image (Z,4,160,192) f32, label (Z,160,192) u8; the z-scores are over the case's non-zero voxels."""
    def volume(kind):
        return np.asarray(nib.load(glob.glob(f"{folder}/*_{kind}.nii.gz")[0]).dataobj)
    image = np.stack([volume(m).astype(np.float32) for m in ("flair", "t1", "t1ce", "t2")])
    label = RECODE[volume("seg").astype(np.uint8)]
    brain = (image != 0).any(0)
    for channel in image:
        inside = channel != 0
        values = channel[inside].astype(np.float64)
        channel[inside] = (values - values.mean()) / values.std()
    box = window(brain.any((1, 2)), SIZE[0]), window(brain.any((0, 2)), SIZE[1])
    assert label[box].any() and label[box].astype(bool).sum() == label.astype(bool).sum(), folder
    return image[:, box[0], box[1]].transpose(3, 0, 1, 2).copy(), label[box].transpose(2, 0, 1).copy()


def augment(image, rng, operations):
    """In place, one slice (4,H,W); each modality draws for itself; background stays zero."""
    for x in image:
        inside = x != 0
        if not inside.any():
            continue
        v = x[inside]
        if "noise" in operations and rng.random() < 0.1:
            v = v + rng.normal(0, rng.uniform(0, 0.1), v.shape)
        if "brightness" in operations and rng.random() < 0.15:
            v = v * factor(rng, 0.75, 1.25)
        if "contrast" in operations and rng.random() < 0.15:
            mean, lo, hi = v.mean(), v.min(), v.max()
            v = np.clip((v - mean) * factor(rng, 0.75, 1.25) + mean, lo, hi)
        if "gamma" in operations and rng.random() < 0.3:
            mean, std, lo, span = v.mean(), v.std(), v.min(), np.ptp(v) + 1e-7
            v = ((v - lo) / span) ** factor(rng, 0.7, 1.5) * span + lo
            v = (v - v.mean()) / (v.std() + 1e-7) * std + mean
        x[inside] = v


def factor(rng, lo, hi):
    return rng.uniform(lo, 1) if rng.random() < 0.5 else rng.uniform(1, hi)


def main(out, recipe, seed, epochs, threads, cache, validation, training):
    torch.set_num_threads(int(threads))
    torch.manual_seed(int(seed))
    rng, epochs = np.random.default_rng(int(seed)), int(epochs)
    if not os.path.exists(cache):
        images, labels = zip(*((i[t], l[t]) for i, l in map(read, training.split(":")) for t in [l.any((1, 2))]))
        np.savez(cache, image=np.concatenate(images), label=np.concatenate(labels))
    data = np.load(cache)
    image, label = data["image"], data["label"]
    net = UNet(16).train()
    adam = torch.optim.Adam(net.parameters(), 1e-3)
    steps = len(image) // BATCH * epochs
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    operations = {"light": ("noise", "brightness", "contrast", "gamma"), "combined": ("noise",)}[recipe]
    seconds = []
    for epoch in range(epochs):
        start = time.perf_counter()
        order, total = rng.permutation(len(image)), 0.0
        for k in range(len(image) // BATCH):
            pick = order[k * BATCH:(k + 1) * BATCH]
            x = image[pick]
            for one, mask in zip(x, label[pick]):
                if recipe == "light" or np.isin(mask, (1, 3)).any():
                    augment(one, rng, operations)
            t = torch.from_numpy(label[pick]).long()
            adam.zero_grad(set_to_none=True)
            y = net(torch.from_numpy(x))
            loss = dice_loss(y, t) + (F.cross_entropy(y, t) if recipe == "light" else 0)
            loss.backward()
            adam.step()
            cosine.step()
            total += loss.item()
        seconds.append(time.perf_counter() - start)
        print(f"    {recipe}, seed {seed}, epoch {epoch + 1} of {epochs}: loss {total / (len(image) // BATCH):.4f}, "
              f"{seconds[-1]:.0f} s", file=sys.stderr, flush=True)
    scores, net = {r: [] for r in REGIONS}, net.eval()
    for folder in validation.split(":"):
        x, t = read(folder)
        with torch.inference_mode():
            p = torch.cat([net(torch.from_numpy(x[i:i + BATCH])).argmax(1) for i in range(0, len(x), BATCH)]).numpy()
        for region, classes in REGIONS.items():
            a, b = np.isin(p, classes), np.isin(t, classes)
            if b.any():
                scores[region].append(2 * (a & b).sum() / (a.sum() + b.sum()))
    result = {r: float(np.mean(s)) for r, s in scores.items()}
    result["seconds"] = min(seconds) * epochs
    result["version"] = torch.__version__
    with open(out + ".tmp", "w") as f:
        json.dump(result, f)
    os.rename(out + ".tmp", out)


main(*sys.argv[1:])
