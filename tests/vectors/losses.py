#!/usr/bin/env python3
"""losses.py >losses.tsv: every loss that train knows, as PyTorch's own functions and nnU-Net's definition of the soft Dice
compute it in double.

tests/unit/nn_losses.c builds the network of each case and compares: a head on an image of three channels, and where the case has two
losses another head, weighted by 0.5, on the image max-pooled by 2. Lines, fields by tabs:
    case NAME N,D,H,W CLASSES LOSS OPTIONS GAMMA WEIGHTS REGIONS LOSSES    what is not used is -
    loss VALUE                      all of them
    dice VALUE, ce VALUE            of the first, where they are in it
    grad PARAMETER V...             d loss / d PARAMETER
Parameters, image and labels are those of operations.py, but that labels are below CLASSES.
"""
import numpy as np
import torch
import torch.nn.functional as F
from networks import uniform, words

IGNORE = 255
BRATS = "wt=1,2,3;tc=1,3;et=3;rc=4"


def soft_dice(p, o, known, options):
    """nnU-Net's SoftDiceLoss (smooth 1e-5), plus 1; `squared` as its SoftDiceLossSquared's denominator has it."""
    axes = ([] if "sample" in options else [0]) + list(range(2, p.dim()))
    p, o = p * known, o * known
    tp = (p * o).sum(axes)
    bottom = (p * p + o * o).sum(axes) if "squared" in options else (p + o).sum(axes)
    dc = (2 * tp + 1e-5) / (bottom + 1e-5)
    if "foreground" in options:
        dc = dc[:, 1:] if "sample" in options else dc[1:]
    return 1 - dc.mean()


def entropy(z, t, o, known, loss, gamma, weights, regions):
    w = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    if regions:
        e = F.binary_cross_entropy_with_logits(z, o, None if w is None else w.view(1, -1, 1, 1, 1), reduction="none")
        p = z.sigmoid()
        if "focal" in loss:
            e = e * (1 - torch.where(o == 1, p, 1 - p)) ** gamma
        return e[known.expand_as(e)].mean()
    if "focal" not in loss:
        return F.cross_entropy(z, t, w, ignore_index=IGNORE)
    e = F.cross_entropy(z, t, ignore_index=IGNORE, reduction="none")
    own = torch.ones(z.shape[1], dtype=torch.float64) if w is None else w
    a = own[t.clamp(max=z.shape[1] - 1)] * known[:, 0]
    return (a * (1 - (-e).exp()) ** gamma * e).sum() / a.sum()


def one(z, t, loss, options, gamma, weights, regions):
    known = (t != IGNORE)[:, None]
    if regions:
        sets = [[int(x) for x in r.split("=")[1].split(":")[0].split(",")] for r in regions.split(";")]
        o, p = torch.stack([sum((t == x) for x in s) for s in sets], 1).double(), z.sigmoid()
    else:
        o, p = F.one_hot(t.clamp(max=z.shape[1] - 1), z.shape[1]).movedim(-1, 1).double(), z.softmax(1)
    dice = soft_dice(p, o, known, options) if "dice" in loss else None
    ce = entropy(z, t, o, known, loss, gamma, weights, regions) if loss != "dice" else None
    return dice, ce


def case(name, size, classes, loss, options="-", gamma=None, weights=None, regions=None, losses=1):
    n, d, h, w = size
    image = (3**0.5 * uniform("x0", (n, 3, d, h, w))).float().double()
    word = words("label", n * d * h * w)
    label = np.where(word % np.uint64(16) == 0, IGNORE, word // np.uint64(256) % np.uint64(classes))
    label = torch.from_numpy(label.astype(np.int64).reshape(n, d, h, w))
    outputs = len(regions.split(";")) if regions else classes
    text = lambda v: "-" if v is None else ",".join(map(str, v)) if isinstance(v, list) else str(v)
    print("case", name, ",".join(map(str, size)), classes, loss, options, *map(text, (gamma, weights, regions, losses)), sep="\t")
    total, parameters = 0, {}
    for i in range(losses):
        head = "head" if i == 0 else "low"
        W = (2**0.5 * uniform(f"{head}.weight", (outputs, 3, 1, 1))).float().double().requires_grad_()
        b = (0.3 * uniform(f"{head}.bias", (outputs,))).float().double().requires_grad_()
        parameters |= {f"{head}.weight": W, f"{head}.bias": b}
        x = F.max_pool3d(image, (1, 2, 2)) if i else image
        z = F.conv3d(x, W[..., None], b)
        t = F.interpolate(label[:, None].double(), z.shape[2:], mode="nearest-exact")[:, 0].long()
        dice, ce = one(z, t, loss, options, gamma, weights, regions)
        total = total + (0.5 if i else 1) * ((dice or 0) + (ce or 0))
        for what, v in (("dice", dice), ("ce", ce)):
            if i == 0 and v is not None:
                print(what, f"{v.item():.9g}", sep="\t")
    total.backward()
    print("loss", f"{total.item():.9g}", sep="\t")
    for k, v in parameters.items():
        print("grad", k, *(f"{x:.7g}" for x in v.grad.flatten().tolist()), sep="\t")


print("# losses.py with PyTorch", torch.__version__)
FLAT, DEEP = (3, 1, 12, 10), (2, 3, 6, 8)
case("dice", FLAT, 4, "dice")
case("dice of each sample", FLAT, 4, "dice", "sample")
case("dice of each volume", DEEP, 4, "dice", "sample")
case("dice without background", FLAT, 4, "dice", "foreground")
case("dice, squared", FLAT, 4, "dice", "squared")
case("dice of each sample, without background, squared", DEEP, 5, "dice", "sample,foreground,squared")
case("dice and cross-entropy", FLAT, 4, "dice+ce")
case("cross-entropy", FLAT, 16, "ce")
case("cross-entropy, weights", FLAT, 4, "ce", weights=[0.25, 1, 2, 0])
case("dice and cross-entropy, weights", DEEP, 5, "dice+ce", weights=[0.1, 1, 2, 3, 1])
case("focal", FLAT, 4, "focal", gamma=2)
case("dice and focal, weights", FLAT, 5, "dice+focal", "sample", gamma=1.5, weights=[0.5, 1, 1, 2, 1])
case("two losses", FLAT, 4, "dice+ce", losses=2)
case("two losses of volumes, each sample, without background", DEEP, 4, "dice+ce", "sample,foreground", losses=2)
case("regions, dice", FLAT, 5, "dice", regions=BRATS)
case("regions, dice of each sample, squared", DEEP, 5, "dice", "sample,squared", regions=BRATS)
case("regions, dice and cross-entropy", FLAT, 4, "dice+ce", regions="wt=1,2,3;tc=1,3;et=3")
case("regions, cross-entropy, weights", FLAT, 5, "ce", weights=[1, 2, 0.5, 3], regions=BRATS)
case("regions, focal", FLAT, 5, "focal", gamma=2, regions=BRATS)
case("one region", FLAT, 4, "dice+ce", regions="wt=1,2,3:2")
case("regions, two losses, all of it", DEEP, 5, "dice+focal", "sample,squared", 3, [1, 2, 0.5, 3], BRATS, 2)
