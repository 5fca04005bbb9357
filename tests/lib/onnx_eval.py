"""A second opinion on ONNX graphs, for tests: reads the bytes by itself and computes with numpy what the operators of
https://onnx.ai/onnx/operators (version 17) are defined to be. Shares no line with what writes the graphs.

As a module: Graph(path), run(image), meta."""
import math, os, struct
import numpy as np

FIELDS = {  # of each message: number -> name, what it is
    "Model": {1: ("ir", int), 7: ("graph", "Graph"), 8: ("opset", "Opset"), 14: ("meta", "Pair")},
    "Opset": {1: ("domain", str), 2: ("version", int)}, "Pair": {1: ("key", str), 2: ("value", str)},
    "Graph": {1: ("node", "Node"), 2: ("name", str), 5: ("initializer", "Tensor"), 11: ("input", "Value"), 12: ("output", "Value")},
    "Node": {1: ("input", str), 2: ("output", str), 3: ("name", str), 4: ("type", str), 5: ("attribute", "Attribute")},
    "Attribute": {1: ("name", str), 2: ("f", float), 3: ("i", int), 4: ("s", str), 8: ("ints", int), 20: ("type", int)},
    "Tensor": {1: ("dims", int), 2: ("type", int), 8: ("name", str), 9: ("raw", bytes), 13: ("external", "Pair"), 14: ("location", int)},
    "Value": {1: ("name", str), 2: ("type", "Type")}, "Type": {1: ("tensor", "TensorType")},
    "TensorType": {1: ("elements", int), 2: ("shape", "Shape")}, "Shape": {1: ("dim", "Dim")}, "Dim": {1: ("value", int), 2: ("name", str)}}


def varint(b, at):
    v = s = 0
    while True:
        v |= (b[at] & 127) << s
        at, s = at + 1, s + 7
        if b[at - 1] < 128:
            return v, at


def message(kind, b):
    out = {name: [] for name, _ in FIELDS[kind].values()}
    at = 0
    while at < len(b):
        tag, at = varint(b, at)
        if tag & 7 == 0:
            v, at = varint(b, at)
            v -= (v >> 63) << 64
        elif tag & 7 == 5:
            v, at = struct.unpack_from("<f", b, at)[0], at + 4
        else:
            assert tag & 7 == 2, tag
            n, at = varint(b, at)
            v, at = b[at:at + n], at + n
            assert len(v) == n
        if tag >> 3 in FIELDS[kind]:
            name, what = FIELDS[kind][tag >> 3]
            out[name].append(message(what, v) if isinstance(what, str) else v.decode() if what is str else v)
    assert at == len(b)
    return out


def number(raw, kind):
    if kind == 16:
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, {1: "<f4", 7: "<i8", 10: "<f2", 11: "<f8"}[kind])


def conv(x, w, b=None, kernel_shape=None, strides=None, dilations=None, pads=None):
    n = x.ndim - 2
    assert kernel_shape in (None, list(w.shape[2:]))
    strides, dilations, pads = strides or [1] * n, dilations or [1] * n, pads or [0] * 2 * n
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:n], pads[n:])])
    size = [(x.shape[2 + i] - (w.shape[2 + i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(n)]
    y = np.zeros((w.shape[0], x.shape[0], *size), x.dtype)
    for k in np.ndindex(*w.shape[2:]):
        part = x[(slice(None), slice(None), *(slice(k[i] * dilations[i], k[i] * dilations[i] + (size[i] - 1) * strides[i] + 1, strides[i])
                                              for i in range(n)))]
        y += np.tensordot(w[(slice(None), slice(None), *k)], part, (1, 1))
    y = y.swapaxes(0, 1)
    return y if b is None else y + b.reshape(-1, *[1] * n)


def conv_transpose(x, w, b=None, kernel_shape=None, strides=None):
    n = x.ndim - 2
    assert list(w.shape[2:]) == kernel_shape == strides
    y = np.zeros((x.shape[0], w.shape[1], *(x.shape[2 + i] * strides[i] for i in range(n))), x.dtype)
    for k in np.ndindex(*strides):
        y[(slice(None), slice(None), *(slice(k[i], None, strides[i]) for i in range(n)))] = \
            np.tensordot(w[(slice(None), slice(None), *k)], x, (0, 1)).swapaxes(0, 1)
    return y if b is None else y + b.reshape(-1, *[1] * n)


def pool(x, how, kernel_shape, strides):
    assert kernel_shape == strides
    for axis, k in enumerate(strides, 2):
        x = how(x[(slice(None),) * axis + (slice(x.shape[axis] // k * k),)].reshape(*x.shape[:axis], x.shape[axis] // k, k, *x.shape[axis + 1:]), axis + 1)
    return x


def resize(x, roi, scales=None, sizes=None, mode=None, coordinate_transformation_mode=None, nearest_mode=None):
    for axis in range(x.ndim):
        n = x.shape[axis]
        m = int(sizes[axis]) if sizes is not None else int(math.floor(n * scales[axis]))
        at, scale = np.arange(m), m / n
        if m == n:
            continue
        if mode == "nearest":
            assert coordinate_transformation_mode == "asymmetric" and nearest_mode == "floor"
            x = np.take(x, np.floor(at / scale).astype(int), axis)
        else:
            assert coordinate_transformation_mode == "half_pixel"
            place = (at + 0.5) / scale - 0.5
            low = np.floor(place).astype(int)
            share = (place - low).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
            x = np.take(x, np.clip(low, 0, n - 1), axis) * (1 - share) + np.take(x, np.clip(low + 1, 0, n - 1), axis) * share
    return x


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def wide(v, x):
    return v.reshape(-1, *[1] * (x.ndim - 2))


OPERATORS = {
    "Conv": conv, "ConvTranspose": conv_transpose, "Resize": resize,
    "MaxPool": lambda x, **a: pool(x, np.max, **a), "AveragePool": lambda x, **a: pool(x, np.mean, **a),
    "BatchNormalization": lambda x, w, b, m, v, epsilon: (x - wide(m, x)) / np.sqrt(wide(v, x) + epsilon) * wide(w, x) + wide(b, x),
    "InstanceNormalization": lambda x, w, b, epsilon=1e-5: (x - x.mean(tuple(range(2, x.ndim)), keepdims=True)) / np.sqrt(
        x.var(tuple(range(2, x.ndim)), keepdims=True) + epsilon) * wide(w, x) + wide(b, x), "Identity": lambda x: x,
    "LayerNormalization": lambda x, w, b, axis, epsilon: (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + epsilon) * w + b,
    "ReduceMean": lambda x, axes, keepdims: x.mean(tuple(axes), keepdims=bool(keepdims)), "Sub": np.subtract, "Sqrt": np.sqrt, "Div": np.divide,
    "Relu": lambda x: np.maximum(x, 0), "LeakyRelu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "Erf": np.vectorize(math.erf, otypes=["f8"]), "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Softmax": softmax,
    "Concat": lambda *x, axis: np.concatenate(x, axis), "Add": np.add, "Mul": np.multiply, "MatMul": np.matmul,
    "Transpose": lambda x, perm: x.transpose(perm), "Shape": lambda x, start=0: np.array(x.shape[start:], "i8"),
    "Reshape": lambda x, s: x.reshape([x.shape[i] if v == 0 else int(v) for i, v in enumerate(s)]),
    "Neg": np.negative, "Mod": np.mod, "Pad": lambda x, p: np.pad(x, list(zip(p[:x.ndim], p[x.ndim:]))),
    "Slice": lambda x, f, t, a: x[tuple(slice(int(f[list(a).index(i)]), int(t[list(a).index(i)])) if i in a else slice(None) for i in range(x.ndim))],
    "Gather": lambda x, at, axis: np.take(x, at.astype("i8"), axis), "Unsqueeze": lambda x, at: np.expand_dims(x, tuple(at.astype("i8"))),
    "Cast": lambda x, to: x.astype({1: "f8"}[to])}  # the numbers are exact in either


class Graph:
    """A file's graph, its weights read from where they lie; computed in double."""
    def __init__(self, path):
        with open(path, "rb") as f:
            m = message("Model", f.read())
        assert m["ir"] == [8] and [(o["domain"], o["version"]) for o in m["opset"]] == [([""], [17])]
        self.meta = {p["key"][0]: p["value"][0] for p in m["meta"]}
        self.graph, = m["graph"]
        self.input, self.output = ([(v["name"][0], [(d["value"] or d["name"] or [None])[0] for d in v["type"][0]["tensor"][0]["shape"][0]["dim"]])
                                    for v in self.graph[k]] for k in ("input", "output"))
        self.values = {"": None}
        for t in self.graph["initializer"]:
            raw = t["raw"][0] if t["raw"] else b""
            if t["location"] == [1]:
                at = {p["key"][0]: p["value"][0] for p in t["external"]}
                with open(os.path.join(os.path.dirname(path), at["location"]), "rb") as f:
                    f.seek(int(at["offset"]))
                    raw = f.read(int(at["length"]))
            v = number(raw, t["type"][0]).reshape(t["dims"])
            assert t["name"][0] not in self.values
            self.values[t["name"][0]] = v if v.dtype == "i8" else v.astype("f8")
        self.operators = {n["type"][0] for n in self.graph["node"]}

    def run(self, image):
        v = {**self.values, self.input[0][0]: image.astype("f8")}
        for n in self.graph["node"]:
            a = {x["name"][0]: {1: x["f"], 2: x["i"], 3: x["s"], 7: [x["ints"]]}[x["type"][0]][0] for x in n["attribute"]}
            assert n["output"][0] not in v
            v[n["output"][0]] = OPERATORS[n["type"][0]](*(v[i] for i in n["input"]), **a)
        return v[self.output[0][0]]
