#!/usr/bin/env python3
"""operations.py >operations.tsv: every operation of lib/nn in a tiny network, as PyTorch computes it in double.

tests/unit/nn_operations.c builds each network from its text and compares. Lines, fields by tabs:
    case NAME N,D,H,W IMAGE TEXT    the network, as lib/nn/text.h has it
    loss VALUE                      in training
    logits V...                     the same, (N,C,D,H,W); of several heads one after another
    eval V...                       with running statistics, where there are any
    grad PARAMETER V...             d loss / d PARAMETER
    running PARAMETER V...          after that one forward pass
Neither parameters, images nor labels are stored: both sides make them from their names, by `uniform` and `words`:
    a parameter of one axis         weight, running_var: 1 + u / 2; else 0.3 u
    a parameter of more             sqrt(6 / count * first axis) u
    the image IMAGE                 sqrt(3) u
    the labels, from words("label") 255 (in no loss) where w % 16 is 0, else w / 256 % the first head's channels
where u = uniform(NAME). IMAGE is the first of x0, x1, ... of which no activation comes near a jump of the gradient.

To add an operation: a function below, named as it is, and cases at the end. A function gets the network (for parameters, by
net.weight and net.statistic), its inputs as (N,C,D,H,W), and its attributes; a 2-D network's D is 1.
"""
import json
import sys
import numpy as np
import torch
import torch.nn.functional as F
from networks import uniform, words

MARGIN = 1e-4
IGNORE = 255


class Net:
    """A description, computed."""
    def __init__(self, text, size, training):
        self.text, self.training = text, training
        self.size = size if len(size) == 4 else (size[0], 1, *size[1:])
        self.trained, self.running, self.heads, self.loss, self.closest = {}, {}, [], 0.0, 1.0

    def parameter(self, name, *shape):
        u, last = uniform(name, shape), name.split(".")[-1]
        if len(shape) > 1:
            u = (6 / int(np.prod(shape[1:]))) ** 0.5 * u
        else:
            u = 1 + 0.5 * u if last in ("weight", "running_var") else 0.3 * u
        return u.float().double()

    def weight(self, suffix, *shape):
        name = f"{self.entry}.{suffix}"
        self.trained[name] = self.parameter(name, *shape).requires_grad_()
        return self.trained[name]

    def statistic(self, suffix, *shape):
        name = f"{self.entry}.{suffix}"
        self.running[name] = self.parameter(name, *shape)
        return self.running[name]

    def axes(self, v):
        """z, y, x of an attribute: a number, which is for y and x, or two, or three of them."""
        v = list(v) if isinstance(v, (list, tuple)) else [v, v]
        return tuple([1] * (3 - len(v)) + v)

    def filters(self, a, b, kernel):
        """Named "weight", (a, b) of them; flat ones have no third axis."""
        shape = (a, b, *(kernel if kernel[0] > 1 else kernel[1:]))
        return self.weight("weight", *shape).reshape(a, b, *kernel)

    def near(self, x):
        """Notes how close x, which is to be compared with zero, comes to it."""
        self.closest = min(self.closest, x.detach().abs().min().item())
        return x

    def labels(self, classes):
        w = words("label", int(np.prod(self.size)))
        t = np.where(w % np.uint64(16) == 0, IGNORE, w // np.uint64(256) % np.uint64(classes))
        return torch.from_numpy(t.astype(np.int64).reshape(self.size))

    def run(self, image):
        values, x = {}, None
        for i, line in enumerate(self.text["network"]):
            line = dict(line)
            op, name, ins = line.pop("op"), line.pop("name", None), line.pop("in", None)
            ins = [] if op == "input" else [x] if ins is None else [values[k] for k in ([ins] if isinstance(ins, str) else ins)]
            self.entry = name or f"{op}{i}"
            if op == "input":
                x = (3 ** 0.5 * uniform(image, (self.size[0], line["channels"], *self.size[1:]))).float().double()
            else:
                y = getattr(OPERATIONS, op)(self, *ins, **line)
                if op == "loss":
                    self.loss = self.loss + y
                else:
                    x = y
                    if op == "head":
                        self.heads.append(x)
            if name:
                values[name] = x
        return self


class OPERATIONS:
    def convolution(net, x, channels, kernel, stride=1, dilation=1, bias=True):
        k, d = net.axes(kernel), net.axes(dilation)
        w = net.filters(channels, x.shape[1], k)
        b = net.weight("bias", channels) if bias else None
        padding = [d[i] * (k[i] // 2) * (k[i] % 2) for i in range(3)]  # of even kernels, which are patches, none
        return F.conv3d(x, w, b, net.axes(stride), padding, d)

    def transposed_convolution(net, x, channels, kernel=2, stride=2, bias=True):
        w = net.filters(x.shape[1], channels, net.axes(kernel))
        b = net.weight("bias", channels) if bias else None
        return F.conv_transpose3d(x, w, b, net.axes(stride))

    def linear(net, x, channels, bias=True):
        w = net.weight("weight", channels, x.shape[1])
        return F.linear(x.movedim(1, -1), w, net.weight("bias", channels) if bias else None).movedim(-1, 1)

    def max_pool(net, x, size=2):
        s = net.axes(size)
        y, at = F.max_pool3d(x, s, return_indices=True)
        second = F.max_pool3d(x.flatten(2).scatter(2, at.flatten(2), -1e9).reshape(x.shape), s)
        net.near(y - second)
        return y

    def average_pool(net, x, size=2):
        return F.avg_pool3d(x, net.axes(size))

    def nearest(net, x, factor=2):
        return F.interpolate(x, scale_factor=[float(f) for f in net.axes(factor)], mode="nearest")

    def linear_resize(net, x, factor=2):
        return F.interpolate(x, scale_factor=[float(f) for f in net.axes(factor)], mode="trilinear", align_corners=False)

    def concat(net, *x):
        return torch.cat(x, 1)

    def add(net, a, b):
        return a + b

    def multiply(net, a, b):
        return a * b

    def batch_norm(net, x, eps=1e-5, momentum=0.1):
        c = x.shape[1]
        w, b = net.weight("weight", c), net.weight("bias", c)
        m, v = net.statistic("running_mean", c), net.statistic("running_var", c)
        return F.batch_norm(x, m, v, w, b, net.training, momentum, eps)

    def instance_norm(net, x, eps=1e-5):
        c = x.shape[1]
        return F.instance_norm(x, weight=net.weight("weight", c), bias=net.weight("bias", c), eps=eps)

    def group_norm(net, x, groups, eps=1e-5):
        c = x.shape[1]
        return F.group_norm(x, groups, net.weight("weight", c), net.weight("bias", c), eps)

    def layer_norm(net, x, eps=1e-5):
        """Over the channels of each position."""
        c = x.shape[1]
        return F.layer_norm(x.movedim(1, -1), (c,), net.weight("weight", c), net.weight("bias", c), eps).movedim(-1, 1)

    def relu(net, x):
        return F.relu(net.near(x))

    def leaky_relu(net, x, slope=0.01):
        return F.leaky_relu(net.near(x), slope)

    def gelu(net, x):
        return F.gelu(x)

    def silu(net, x):
        return F.silu(x)

    def sigmoid(net, x):
        return torch.sigmoid(x)

    def softmax(net, x):
        return x.softmax(1)

    def positions(net, x, size):
        g = net.axes(size)
        table = net.weight("weight", x.shape[1], *(g if g[0] > 1 else g[1:])).reshape(1, x.shape[1], *g)
        return x + F.interpolate(table, size=x.shape[2:], mode="trilinear", align_corners=False)

    def attention(net, q, k, v, heads=1, planar=False):
        """Over all positions of a sample, or of each slice; the heads' channels lie side by side."""
        if planar:
            q, k, v = (x.transpose(1, 2).flatten(0, 1)[:, :, None] for x in (q, k, v))
            return OPERATIONS.attention(net, q, k, v, heads).unflatten(0, net.size[:2])[:, :, :, 0].transpose(1, 2)

        def split(x):
            return x.flatten(2).unflatten(1, (heads, -1)).transpose(2, 3)  # N, heads, positions, channels
        a = (split(q) @ split(k).transpose(2, 3) / (q.shape[1] / heads) ** 0.5).softmax(3)
        return (a @ split(v)).transpose(2, 3).flatten(1, 2).unflatten(2, q.shape[2:])

    def head(net, x, channels):
        return F.conv3d(x, net.filters(channels, x.shape[1], (1, 1, 1)), net.weight("bias", channels))

    def loss(net, x, eps=1e-5):
        """Soft Dice over all classes and the batch."""
        t = net.labels(net.heads[0].shape[1])
        known = (t != IGNORE)[:, None]
        o = F.one_hot(t.clamp(max=x.shape[1] - 1), x.shape[1]).movedim(-1, 1) * known
        p = x.softmax(1) * known
        two, total = 2 * (p * o).sum((0, 2, 3, 4)), (p + o).sum((0, 2, 3, 4))
        return 1 - ((two + eps) / (total + eps)).mean()


# --- cases ------------------------------------------------------------------------------------------------
CASES = []


def op(kind, *inputs, name=None, **attributes):
    line = {"op": kind}
    if name:
        line["name"] = name
    if inputs:
        line["in"] = list(inputs) if len(inputs) > 1 else inputs[0]
    return {**line, **attributes}


def case(name, size, *network):
    """size: N, H, W, or N, D, H, W of a volume."""
    CASES.append((name, size, {"network": list(network)}))


def between(name, *body, size=(2, 4, 4), cin=2, channels=5, classes=2):
    """The body between a 1x1 convolution and a head."""
    case(name, size, op("input", channels=cin),
         op("convolution", name="a", channels=channels, kernel=1), *body,
         op("head", name="head", channels=classes), op("loss"))


VOLUME = (2, 2, 4, 3)

between("relu", op("relu"))
between("leaky_relu", op("leaky_relu"))
between("leaky_relu-norm", op("batch_norm", name="n"), op("leaky_relu", slope=0.3))
between("instance_norm", op("instance_norm", name="n"))
between("instance_norm-twice", op("instance_norm", name="n"), op("leaky_relu"),
        op("convolution", name="b", channels=17, kernel=3), op("instance_norm", name="m"), op("leaky_relu", slope=0.2),
        op("convolution", name="c", channels=3, kernel=1), op("instance_norm", name="o", eps=1e-3), op("relu"), channels=3,
        size=(3, 6, 4))
between("instance_norm-parts", op("instance_norm", name="n"), op("leaky_relu", name="x"),
        op("convolution", "a", name="b", channels=4, kernel=3), op("instance_norm", name="m"), op("leaky_relu", name="y"),
        op("concat", "x", "y"), op("convolution", name="c", channels=6, kernel=3, bias=False), op("group_norm", name="g", groups=2))
between("instance_norm-volume", op("instance_norm", name="n"), op("leaky_relu"),
        op("convolution", name="b", channels=4, kernel=[1, 3, 3]), op("instance_norm", name="m"), op("leaky_relu"), size=VOLUME)
between("group_norm", op("group_norm", name="n", groups=3), channels=6)
between("group_norm-twice", op("group_norm", name="n", groups=1), op("leaky_relu"),
        op("convolution", name="b", channels=20, kernel=3), op("group_norm", name="m", groups=5), op("relu"), channels=3, size=(3, 4, 6))
between("group_norm-volume", op("group_norm", name="n", groups=2), op("relu"), size=VOLUME, channels=6)
between("multiply", op("convolution", "a", name="b", channels=5, kernel=1), op("multiply", "a", "b"))
between("multiply-one", op("convolution", "a", name="b", channels=1, kernel=1), op("multiply", "a", "b"))
between("multiply-one-first", op("convolution", "a", name="b", channels=1, kernel=1), op("multiply", "b", "a"))
between("multiply-views", op("batch_norm", name="n"), op("relu", name="r"),
        op("convolution", "a", name="b", channels=5, kernel=1), op("batch_norm", name="m"), op("multiply", "r", "m"))
between("sigmoid", op("sigmoid"))
between("sigmoid-norm", op("batch_norm", name="n"), op("relu"), op("sigmoid"), op("batch_norm", name="m"))
between("gelu", op("gelu"))
between("silu", op("silu"))
between("gelu-norm", op("batch_norm", name="n"), op("gelu"), op("batch_norm", name="m"), op("relu"))
between("softmax", op("softmax"))
between("softmax-wide", op("softmax"), channels=21)
between("softmax-norm", op("batch_norm", name="n"), op("relu"), op("softmax"), op("batch_norm", name="m"))
between("layer_norm", op("layer_norm", name="n"))
between("layer_norm-wide", op("layer_norm", name="n", eps=1e-3), channels=21)
between("layer_norm-views", op("batch_norm", name="m"), op("relu"), op("layer_norm", name="n"), op("gelu"))
# up again what a pooling took down
between("nearest", op("max_pool", size=2), op("nearest", factor=2))
between("nearest-axes", op("max_pool", size=[3, 1]), op("nearest", factor=[3, 1]), size=(1, 6, 3))
between("nearest-volume", op("max_pool", size=[1, 2, 2]), op("nearest", factor=[1, 2, 2]), op("batch_norm", name="n"), op("relu"),
        size=(1, 2, 4, 4))
between("linear_resize", op("max_pool", size=2), op("linear_resize", factor=2), size=(2, 6, 4))
between("linear_resize-axes", op("max_pool", size=[4, 3]), op("linear_resize", factor=[4, 3]), size=(1, 8, 9))
between("linear_resize-one", op("max_pool", size=2), op("linear_resize", factor=2), size=(2, 2, 8))
between("linear_resize-volume", op("max_pool", size=2), op("batch_norm", name="n"), op("relu"), op("linear_resize", factor=2),
        op("batch_norm", name="m"), size=(1, 3, 4, 4))
between("resize-depth", op("convolution", name="b", channels=4, kernel=[2, 2, 2], stride=[2, 2, 2]),
        op("linear_resize", "b", name="c", factor=[2, 2, 2]), op("nearest", "b", name="d", factor=[2, 2, 2]), op("add", "c", "d"),
        size=(1, 4, 4, 6))
DOWN, UP = {"kernel": 3, "stride": 2}, {"kernel": 2, "stride": 2}
BOX, HALF = {"kernel": [3, 3, 3]}, {"kernel": [2, 2, 2], "stride": [2, 2, 2]}
between("convolution", op("convolution", name="b", channels=4, kernel=3), channels=3)
between("convolution-plain", op("convolution", name="b", channels=4, kernel=3, bias=False), op("batch_norm", name="n"),
        op("relu"), op("convolution", name="c", channels=3, kernel=5), op("batch_norm", name="m"), channels=3)
between("convolution-axes", op("convolution", name="b", channels=4, kernel=[7, 3]), channels=3, size=(1, 3, 5))
between("convolution-dilated", op("convolution", name="b", channels=4, kernel=3, dilation=[1, 2]),
        op("convolution", name="c", channels=3, kernel=[3, 5], dilation=3), channels=3, size=(1, 5, 6))
between("convolution-stride", op("convolution", name="b", channels=4, **DOWN), op("transposed_convolution", name="up",
        channels=3, **UP), channels=3, size=(2, 4, 6))
between("convolution-stride-views", op("batch_norm", name="n"), op("relu"), op("convolution", name="b", channels=18, **DOWN),
        op("batch_norm", name="m"), op("relu"), op("nearest", factor=2), channels=3, size=(2, 4, 6))
between("convolution-stride-axes", op("convolution", name="b", channels=4, kernel=[3, 5], stride=[3, 1]),
        op("nearest", factor=[3, 1]), op("convolution", name="c", channels=3, kernel=[1, 3], stride=[1, 4], bias=False),
        op("nearest", factor=[1, 4]), channels=3, size=(1, 6, 8))
between("convolution-dilated-stride", op("convolution", name="b", channels=4, dilation=2, **DOWN), op("nearest", factor=2),
        op("convolution", name="c", channels=3, kernel=3, stride=2, dilation=3), op("nearest", factor=2), channels=3,
        size=(1, 6, 8))
between("convolution-patches", op("convolution", name="b", channels=4, kernel=[2, 4], stride=[2, 4]),
        op("nearest", factor=[2, 4]), channels=3, size=(1, 4, 8))
between("convolution-one-stride", op("convolution", name="b", channels=4, kernel=1, stride=2), op("nearest", factor=2),
        channels=3)
between("convolution-parts", op("batch_norm", name="n"), op("relu", name="r"), op("convolution", "a", name="b", channels=2,
        kernel=3), op("concat", "r", "b"), op("convolution", name="c", channels=3, kernel=[5, 3]), op("batch_norm", name="m"),
        op("concat", "m", "b"), op("convolution", name="d", channels=3, **DOWN), op("nearest", factor=2), channels=3)
between("convolution-volume", op("convolution", name="b", channels=4, **BOX), op("batch_norm", name="n"), op("relu"),
        op("convolution", name="c", channels=3, kernel=[1, 3, 3]), channels=3, size=VOLUME)
between("convolution-volume-stride", op("convolution", name="b", channels=4, stride=[1, 2, 2], **BOX),
        op("convolution", name="c", channels=3, stride=[2, 2, 1], **BOX), op("batch_norm", name="n"), op("relu"),
        op("transposed_convolution", name="up", channels=3, kernel=[2, 4, 2], stride=[2, 4, 2]), channels=3,
        size=(2, 2, 4, 4))
between("convolution-volume-dilated", op("convolution", name="b", channels=4, dilation=[2, 1, 2], **BOX), channels=3,
        size=(1, 4, 3, 5))
between("transposed_convolution", op("max_pool", size=2), op("transposed_convolution", name="b", channels=4, **UP), channels=3)
between("transposed_convolution-plain", op("batch_norm", name="n"), op("relu"), op("average_pool", size=[3, 4]),
        op("transposed_convolution", name="b", channels=4, kernel=[3, 4], stride=[3, 4], bias=False),
        op("batch_norm", name="m"), op("relu"), channels=3, size=(2, 6, 4))
between("transposed_convolution-volume", op("average_pool", size=[2, 2, 2]), op("batch_norm", name="n"), op("relu"),
        op("transposed_convolution", name="b", channels=4, **HALF), channels=3, size=(1, 4, 4, 2))
between("max_pool", op("batch_norm", name="n"), op("relu"), op("max_pool", size=[3, 2]), op("nearest", factor=[3, 2]),
        size=(2, 6, 4))
between("max_pool-volume", op("max_pool", size=[2, 2, 3]), op("nearest", factor=[2, 2, 3]), size=VOLUME)
between("average_pool", op("batch_norm", name="n"), op("relu"), op("average_pool", size=[1, 4]), op("batch_norm", name="m"),
        op("nearest", factor=[1, 4]))
between("average_pool-volume", op("average_pool", size=[2, 4, 1]), op("nearest", factor=[2, 4, 1]), size=VOLUME)
between("linear", op("linear", name="l", channels=4))
between("linear-plain", op("linear", name="l", channels=17, bias=False))
between("linear-views", op("batch_norm", name="n"), op("relu"), op("linear", name="l", channels=6), op("batch_norm", name="m"),
        op("relu"))
between("linear-parts", op("convolution", "a", name="b", channels=4, kernel=1), op("concat", "a", "b"),
        op("linear", name="l", channels=6))


def qkv(c, of):
    return tuple(op("linear", of, name=k, channels=c) for k in "qkv")


between("attention", *qkv(4, "a"), op("attention", "q", "k", "v"))
between("attention-heads", *qkv(6, "a"), op("attention", "q", "k", "v", heads=3), size=(2, 3, 5))
between("attention-volume", *qkv(4, "a"), op("attention", "q", "k", "v", heads=2), size=VOLUME)
between("attention-planar", *qkv(4, "a"), op("attention", "q", "k", "v", heads=2, planar=True), size=VOLUME)
between("attention-itself", op("attention", "a", "a", "a", heads=5))
between("positions", op("positions", name="p", size=(2, 3)))  # size of the grid below the map's, above it, its own
between("positions-many", op("batch_norm", name="m"), op("relu"), op("positions", name="p", size=(9, 7)), op("gelu"))
between("positions-each", op("positions", name="p", size=4))
between("positions-volume", op("positions", name="p", size=(2, 3, 5)), size=VOLUME)
between("positions-slice", op("positions", name="p", size=(3, 2)), size=VOLUME)
between("transformer", op("max_pool", name="x", size=2), op("layer_norm", name="n1"), *qkv(8, "n1"),
        op("attention", "q", "k", "v", heads=2), op("linear", name="o", channels=8), op("add", "x", "o", name="y"),
        op("layer_norm", name="n2"), op("linear", name="up", channels=16), op("gelu"), op("linear", name="down", channels=8),
        op("add", "y", "down", name="z"), op("nearest", factor=2), size=(2, 6, 4), channels=8)


# --- what comes of them -----------------------------------------------------------------------------------
def emit(*fields, values=None):
    print(*fields, *([] if values is None else (f"{v:.6g}" for v in values.detach().flatten())), sep="\t")


def compute(name, size, text):
    for number in range(1000):
        net = Net(text, size, True).run(f"x{number}")
        if net.closest > MARGIN:
            break
    else:
        sys.exit(f"operations.py: {name}: every image comes too near a jump")
    net.loss.backward()
    emit("case", name, ",".join(map(str, net.size)), f"x{number}", json.dumps(text, separators=(",", ": ")))
    emit("loss", f"{net.loss.item():.9g}")
    emit("logits", values=torch.cat([h.flatten() for h in net.heads]))
    if net.running:
        emit("eval", values=torch.cat([h.flatten() for h in Net(text, size, False).run(f"x{number}").heads]))
    for k, p in net.trained.items():
        emit("grad", k, values=p.grad)
    for k, v in net.running.items():
        emit("running", k, values=v)


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    print(f"# operations.py with PyTorch {torch.__version__}")
    for c in CASES:
        compute(*c)
