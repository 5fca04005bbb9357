#!/usr/bin/env python3
"""networks.py >networks.tsv: the study's networks and the transformer, the losses and one step of each optimiser as PyTorch computes them in double.

The definitions below are what lib/nn is held to (tests/unit/nn_reference.c). Neither parameters nor inputs are stored: both
sides make them from their names, by `uniform`. Of each result there is a line
    ARCH BASE WHAT NAME NORM P0 P1 P2 P3
with its norm and its sums under four patterns of signs (up to four numbers: these themselves). Two tensors that differ by a
thousandth of their norm differ by about that in each sum, wherever it is. WHAT is
    logits.eval, logits.train   running statistics; the batch's
    dice, dice_ce               the losses, as the norm
    grad                        d dice / d NAME
    running                     running statistics after that one forward pass (momentum 0.1, unbiased variance)
    sgd                         how far one step goes (rate 1, Nesterov momentum 0.99, decay 0.01)
    adam                        the same (rate 0.001), times |grad|: the sign of a gradient next to nothing is chance
Those of volumes, whose names end in 3d, have one sample of SLICES slices, flat 1 and pool_z 1, and no steps.

A gradient jumps where an activation crosses zero or two meet under a pooling, so the narrow networks' x is the first by
number of which no activation comes within 5e-5 of that: float and double then stand on one side. The wide networks, which
have too many activations for that, are compared in what does not jump.
"""
import sys
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

N, H, W = 3, 32, 16
SLICES, FLAT, POOL_Z = 4, 1, 1
MARGIN = 5e-5
closest = 0.0


def near(x):
    """Notes how close x, which is to be compared with zero, comes to it."""
    global closest
    closest = min(closest, x.detach().abs().min().item())
    return x


def relu(x):
    return F.relu(near(x))


def pool(x, z):
    two = torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)])
    if z > 1:
        two = torch.cat([two[:, :, :, k::z] for k in range(z)])
    two = two.topk(2, dim=0).values
    near((two[0] - two[1])[two[0] > 0])
    return F.max_pool2d(x, 2) if x.dim() == 4 else F.max_pool3d(x, (z, 2, 2))


def conv(cin, cout, k, size=3, bias=False):
    """k: slices of its kernel; 0: of the plane alone."""
    return nn.Conv3d(cin, cout, (k, size, size), padding=(k // 2, size // 2, size // 2), bias=bias) if k else \
        nn.Conv2d(cin, cout, size, padding=size // 2, bias=bias)


def norm(c, k):
    return nn.BatchNorm3d(c) if k else nn.BatchNorm2d(c)


class Block(nn.Module):
    def __init__(self, cin, cout, residual=False, k=0):
        super().__init__()
        self.conv1 = conv(cin, cout, k)
        self.norm1 = norm(cout, k)
        self.conv2 = conv(cout, cout, k)
        self.norm2 = norm(cout, k)
        self.residual = residual
        if residual and cin != cout:
            self.shortcut = conv(cin, cout, min(k, 1), 1)
            self.shortcut_norm = norm(cout, k)

    def forward(self, x):
        y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        if self.residual:
            y = y + (self.shortcut_norm(self.shortcut(x)) if hasattr(self, "shortcut") else x)
        return relu(y)


class Gate(nn.Module):
    """Additive attention (Oktay et al. 2018), the gating signal already upsampled to x's size."""
    def __init__(self, c, k):
        super().__init__()
        ci, one = max(c // 2, 1), min(k, 1)
        self.g, self.g_norm = conv(c, ci, one, 1), norm(ci, k)
        self.x, self.x_norm = conv(c, ci, one, 1), norm(ci, k)
        self.psi, self.psi_norm = conv(ci, 1, one, 1), norm(1, k)

    def forward(self, g, x):
        a = relu(self.g_norm(self.g(g)) + self.x_norm(self.x(x)))
        return x * torch.sigmoid(self.psi_norm(self.psi(a)))


class Up(Block):
    def __init__(self, cin, cout, gate, residual, k, z):
        super().__init__(2 * cout, cout, residual, k)
        self.up = nn.ConvTranspose3d(cin, cout, (z, 2, 2), stride=(z, 2, 2)) if k else nn.ConvTranspose2d(cin, cout, 2, stride=2)
        if gate:
            self.gate = Gate(cout, k)

    def forward(self, x, skip):
        u = self.up(x)
        return super().forward(torch.cat([self.gate(u, skip) if hasattr(self, "gate") else skip, u], 1))


def by_slice(f, x):
    """Of each slice of a volume, (N,C,D,H,W)."""
    return torch.stack([f(x[:, :, d]) for d in range(x.shape[2])], 2)


class Positions(nn.Module):
    def __init__(self, c, grid):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(c, grid, grid))

    def forward(self, x):
        if x.dim() == 5:
            return by_slice(self, x)
        return x + F.interpolate(self.weight[None], size=x.shape[2:], mode="bilinear", align_corners=False)


class Layer(nn.Module):
    """A transformer's (Dosovitskiy et al. 2020): normalised first. (N,C,H,W) are H*W positions of C channels."""
    def __init__(self, c, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.query, self.key, self.value, self.out = (nn.Linear(c, c, bias=i != 1) for i in range(4))
        self.hidden, self.back = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

    def forward(self, x):
        if x.dim() == 5:
            return by_slice(self, x)
        y = x.flatten(2).transpose(1, 2)
        z = self.norm1(y)
        q, k, v = (f(z).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        a = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)
        y = y + self.out((a @ v).transpose(1, 2).flatten(2))
        y = y + self.back(F.gelu(self.hidden(self.norm2(y))))
        return y.transpose(1, 2).unflatten(2, x.shape[2:])


class Network(nn.Module):
    def __init__(self, arch, base, cin=4, classes=4):
        super().__init__()
        c = [cin] + [base << i for i in range(5)]
        volume, arch = arch.endswith("3d"), arch.removesuffix("3d")
        k = [(1 if i < FLAT else 3) if volume else 0 for i in range(5)]
        self.z = [2 if volume and i >= 4 - POOL_Z else 1 for i in range(4)]
        r = arch == "residual"
        for i in range(4):
            setattr(self, f"enc{i + 1}", Block(c[i], c[i + 1], r, k[i]))
        self.bottleneck = Block(c[4], c[5], r, k[4])
        if arch == "transunet":
            self.positions, self.encoder_norm = Positions(c[5], 12), nn.LayerNorm(c[5])
            for i in range(4):
                setattr(self, f"layer{i + 1}", Layer(c[5], 8))
        for i in (4, 3, 2, 1):
            setattr(self, f"dec{i}", Up(c[i + 1], c[i], arch == "attention", r, k[i - 1], self.z[i - 1]))
        self.head = conv(base, classes, min(k[0], 1), 1, True)

    def forward(self, x):
        skips = []
        for i in (1, 2, 3, 4):
            skips.append(getattr(self, f"enc{i}")(x))
            x = pool(skips[-1], self.z[i - 1])
        x = self.bottleneck(x)
        if hasattr(self, "positions"):
            x = self.layer4(self.layer3(self.layer2(self.layer1(self.positions(x)))))
            x = self.encoder_norm(x.movedim(1, -1)).movedim(-1, 1)
        for i in (4, 3, 2, 1):
            x = getattr(self, f"dec{i}")(x, skips[i - 1])
        return self.head(x)


def dice_loss(logits, t, eps=1e-5):
    p = logits.softmax(1).transpose(0, 1).flatten(1)
    o = F.one_hot(t, p.shape[0]).flatten(0, -2).T.double()
    inter, total = (p * o).sum(1), p.sum(1) + o.sum(1)
    return 1 - ((2 * inter + eps) / (total + eps)).mean()


# --- what both sides make ---------------------------------------------------------------------------------
def finalise(z):
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xbf58476d1ce4e5b9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94d049bb133111eb)
    return z ^ z >> np.uint64(31)


def words(name, count):
    """As lib/base/rng.h: rng_seed(0), rng_mix_text(name), then rng_u64 count times."""
    step, h = np.uint64(0x9e3779b97f4a7c15), 0xcbf29ce484222325
    for c in name.encode():
        h = (h ^ c) * 0x100000001b3 % 2**64
    with np.errstate(over="ignore"):
        state = finalise((finalise(step) + step) ^ finalise(np.uint64(h) + np.uint64(0x632be59bd9b4e019)))
        return finalise(state + step * (np.arange(count, dtype=np.uint64) + np.uint64(1)))


def uniform(name, shape):
    """-1 to 1"""
    u = (words(name, int(np.prod(shape))) >> np.uint64(11)).astype(float) * 2.0**-53
    return torch.from_numpy((2 * u - 1).reshape(shape))


def parameter(name, v):
    u = uniform(name, tuple(v.shape))
    if "norm" in name:
        u = 1 + 0.5 * u if name.endswith(("weight", "running_var")) else 0.3 * u
    elif v.dim() >= 4:
        u = (6 / (v.shape[0] if ".up." in name else v[0].numel())) ** 0.5 * u
    else:
        u = 0.3 * u
    return u.float().double()


def labels(arch):
    """Rings around a point that moves from slice to slice."""
    volume = arch.endswith("3d")
    n, y, x = np.ogrid[:SLICES if volume else N, :H, :W]
    r = (2 * y - H + 3 * n) ** 2 + (2 * x - W - n) ** 2
    t = torch.from_numpy(np.select([r < 25, r < 81, r < 225], [3, 1, 2], 0))
    return t[None] if volume else t


def image(arch, number):
    shape = (1, 4, SLICES, H, W) if arch.endswith("3d") else (N, 4, H, W)
    return (3 ** 0.5 * uniform(f"x{number}", shape)).float().double()


# --- what comes of it -----------------------------------------------------------------------------------------
def emit(arch, base, what, name, v):
    v = v.detach().double().numpy().ravel()
    if v.size <= 4:
        sums = np.append(v, np.zeros(4 - v.size))
    else:
        bits = words(f"signs {name}", v.size)
        sums = [(v * np.where(bits >> np.uint64(k) & np.uint64(1), 1, -1)).sum() for k in range(4)]
    print(arch, base, what, name, *(f"{s:.9g}" for s in [np.linalg.norm(v), *sums]), sep="\t")


def network(arch, base):
    m = Network(arch, base)
    with torch.no_grad():
        for k, v in m.state_dict().items():
            if not k.endswith("num_batches_tracked"):
                v.copy_(parameter(k, v))
    return m


def compute(arch, base, number, jumps):
    global closest
    m, x, t = network(arch, base), image(arch, number), labels(arch)
    m.eval()
    emit(arch, base, "logits.eval", "logits", m(x))
    m.train()
    y = m(x)
    dice = dice_loss(y, t)
    emit(arch, base, "logits.train", "logits", y)
    emit(arch, base, "dice", "loss", dice)
    emit(arch, base, "dice_ce", "loss", dice + F.cross_entropy(y, t))
    for k, v in m.state_dict().items():
        if "running" in k:
            emit(arch, base, "running", k, v)
    if not jumps:
        return
    dice.backward()
    start = {k: p.detach().clone() for k, p in m.named_parameters()}
    for k, p in m.named_parameters():
        emit(arch, base, "grad", k, p.grad)
    if arch.endswith("3d"):
        return
    for what, make in (("sgd", lambda ps: torch.optim.SGD(ps, 1, momentum=.99, nesterov=True, weight_decay=.01)),
                       ("adam", lambda ps: torch.optim.Adam(ps, 1e-3))):
        with torch.no_grad():
            for k, p in m.named_parameters():
                p.copy_(start[k])
        make(list(m.parameters())).step()
        for k, p in m.named_parameters():
            emit(arch, base, what, k, (p - start[k]) * (p.grad.abs() if what == "adam" else 1))


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    print(f"# networks.py with PyTorch {torch.__version__}: arch, base, what, name, norm, four sums")
    for arch in ("unet", "attention", "residual", "transunet", "unet3d", "attention3d", "residual3d", "transunet3d"):
        for number in range(1000):
            closest = 1.0
            network(arch, 4).train()(image(arch, number))
            if closest > MARGIN:
                break
        print(f"# {arch}: {closest:.2g} from a jump")
        print(arch, 4, "image", f"x{number}", sep="\t")
        compute(arch, 4, number, True)
        if arch not in ("unet", "attention", "residual"):
            continue
        print(arch, 16, "image", "x0", sep="\t")
        compute(arch, 16, 0, False)
