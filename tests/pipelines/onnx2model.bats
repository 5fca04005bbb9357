# onnx2model: an ONNX graph becomes a model, whose probabilities are what the graph computes (onnx_eval.py); one of
# model2onnx's comes back as it was.
load ../lib/common

setup_file() {
    [ "${CONFIG:-release}" = release ] || return 0
    cd "$BATS_FILE_TMPDIR"
    cat >foreign.py <<'PY'
"""Graphs as other programs write them, by ONNX' own package."""
from checkpoints import *
from onnx import TensorProto, checker, helper, numpy_helper, save_model
class Foreign:
    def __init__(self, axes):
        self.rng, self.nodes, self.constants, self.axes, self.n = np.random.default_rng(1), [], [], axes, 0
    def put(self, op, *inputs, **attributes):
        self.n += 1
        self.nodes.append(helper.make_node(op, list(inputs), [f"t/{self.n}"], name=f"{op}/{self.n}", **attributes))
        return f"t/{self.n}"
    def array(self, a, kind="f4"):
        self.constants.append(numpy_helper.from_array(np.asarray(a, kind), f"w/{len(self.constants)}"))
        return self.constants[-1].name
    def weight(self, *shape, low=-1, high=1):
        a = self.rng.uniform(low, high, shape)
        return self.array(a * (3 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else a)
    def save(self, path, out, shape=None, **external):
        shape = shape or ["n", 3, *"xyz"[:self.axes]]
        ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s)] for n, s in (("in", shape), (out, ["n", None, *shape[2:]]))]
        model = helper.make_model(helper.make_graph(self.nodes, "of others", *ends, self.constants), opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        checker.check_model(model)
        save_model(model, path, **external)
def graph(axes, path="graph.onnx", edit=lambda f, x: x, last="Softmax", outputs=3, shape=None, **external):
    f = Foreign(axes)
    both = lambda v: [v] * axes
    x = f.put("Conv", "in", f.weight(6, 3, *both(3)), f.weight(6), pads=both(1) * 2, kernel_shape=both(3))
    x = f.put("BatchNormalization", x, f.weight(6, low=0.5, high=1.5), f.weight(6), f.weight(6, low=-0.3, high=0.3), f.weight(6, low=0.5, high=1.5), epsilon=1e-3)
    s = f.put("Relu", x)
    x = f.put("MaxPool", s, kernel_shape=both(2), strides=both(2))
    x = f.put("Conv", x, f.weight(8, 6, *both(3)), pads=both(2) * 2, dilations=both(2))
    x = f.put("InstanceNormalization", x, f.weight(8), f.weight(8))
    x = f.put("LeakyRelu", x, alpha=0.2)
    u = f.put("ConvTranspose", x, f.weight(8, 5, *both(2)), f.weight(5), strides=both(2), kernel_shape=both(2))
    z = f.put("Resize", x, "", f.array([1, 1] + both(2)), mode="linear", coordinate_transformation_mode="half_pixel")
    y = f.put("Resize", f.put("AveragePool", s, kernel_shape=both(2), strides=both(2)), "", f.array([1, 1] + both(2)), mode="nearest",
              coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    q = f.put("Conv", f.put("Concat", s, u, z, y, axis=1), f.weight(6, 25, *both(1)))
    q = f.put("Add", f.put("Mul", f.put("Sigmoid", q), s), f.put("Softmax", s, axis=1))
    q = edit(f, f.put("Identity", f.put("Conv", q, f.weight(6, 6, *([1] + both(3))[-axes:]), pads=([0] + both(1))[-axes:] * 2)))
    q = f.put("Conv", q, f.weight(outputs, 6, *both(1)))
    f.save(path, f.put(last, q, **({"axis": 1} if last == "Softmax" else {})) if last else q, shape, **external)
def transformer(path="graph.onnx", c=8, heads=2, side=6, scale=None, size=lambda f, x: x):
    """As PyTorch writes such: group norm, norms with the channels last, positions, attention whose queries, keys and values are one product,
    a GELU of its parts, and sizes that are computed."""
    f = Foreign(2)
    vector = lambda n: f.weight(n, low=0.5, high=1.5)
    sides = lambda x: [f.put("Gather", f.put("Shape", x), f.array(i, "i8"), axis=0) for i in range(4)]
    whole = lambda *v: f.put("Concat", *[f.put("Unsqueeze", i, f.array([0], "i8")) if isinstance(i, str) else f.array([i], "i8") for i in v], axis=0)
    linear = lambda x, i, o: f.put("Add", f.weight(o), f.put("MatMul", x, f.array(f.rng.uniform(-1, 1, (i, o)) * (3 / i) ** 0.5)))
    norm = lambda x, n: f.put("LayerNormalization", x, vector(n), f.weight(n), axis=-1, epsilon=1e-5)
    x = f.put("Conv", "in", f.weight(4, 3, 3, 3), f.weight(4), pads=[1] * 4, kernel_shape=[3, 3])
    y = f.put("InstanceNormalization", f.put("Reshape", x, f.array([0, 2, -1], "i8")), f.array([1, 1]), f.array([0, 0]), epsilon=1e-5)
    y = f.put("Add", f.put("Mul", f.put("Reshape", y, f.put("Shape", x)), f.array(f.rng.uniform(0.5, 1.5, (4, 1, 1)))), f.array(f.rng.uniform(-1, 1, (4, 1, 1))))
    s = f.put("Transpose", norm(f.put("Transpose", f.put("Mul", y, f.put("Sigmoid", y)), perm=[0, 2, 3, 1]), 4), perm=[0, 3, 1, 2])
    x = f.put("Conv", s, f.weight(c, 4, 2, 2), f.weight(c), strides=[2, 2], kernel_shape=[2, 2])
    n, _, h, w = sides(x)
    t = f.put("Transpose", f.put("Reshape", x, whole(n, c, -1)), perm=[0, 2, 1])
    t = f.put("Add", t, f.array(f.rng.uniform(-1, 1, (1, side * side, c))))
    q = f.put("Reshape", linear(norm(t, c), c, 3 * c), f.array([0, -1, 3, heads, c // heads], "i8"))
    q = f.put("Transpose", q, perm=[2, 0, 3, 1, 4])
    q, k, v = (f.put("Gather", q, f.array(i, "i8"), axis=0) for i in range(3))
    d = f.put("Sqrt", f.put("Cast", f.put("Slice", f.put("Shape", q), f.array([-1], "i8"), f.array([2 ** 63 - 1], "i8"), f.array([0], "i8")), to=1))
    a = f.put("MatMul", f.put("Div", q, d) if scale is None else f.put("Mul", q, f.array([scale])), f.put("Transpose", k, perm=[0, 1, 3, 2]))
    a = f.put("Transpose", f.put("MatMul", f.put("Softmax", a, axis=-1), v), perm=[0, 2, 1, 3])
    t = f.put("Add", t, linear(f.put("Reshape", a, f.array([0, 0, c], "i8")), c, c))
    y = linear(norm(t, c), c, 2 * c)
    y = f.put("Mul", f.put("Mul", y, f.put("Add", f.put("Erf", f.put("Div", y, f.array(2 ** 0.5))), f.array(1.0))), f.array(0.5))
    t = f.put("Add", t, linear(y, 2 * c, c))
    x = f.put("Reshape", size(f, f.put("Transpose", t, perm=[0, 2, 1])), whole(n, c, h, w))
    x = f.put("Concat", s, f.put("ConvTranspose", x, f.weight(c, 4, 2, 2), f.weight(4), strides=[2, 2], kernel_shape=[2, 2]), axis=1)
    f.save(path, f.put("Softmax", f.put("Conv", x, f.weight(3, 8, 1, 1), f.weight(3)), axis=1), shape=["n", 3, 2 * side, 2 * side])
PY
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_release "it is Python"
    need_python numpy
    need_python onnx
    cp "$BATS_FILE_TMPDIR"/*.py .
}

foreign() { # Python from standard input, with foreign.py's names
    PYTHONPATH=$ROOT/tests/lib:$PWD "$PYTHON" -c 'import sys
from foreign import *
exec(sys.stdin.read())' "$@"
}

import() { # ARGUMENTS...
    "$PYTHON" "$ROOT/pipelines/onnx2model" "$@"
}

@test "onnx2model: what infer finds by the model is what the graph computes, of slices and volumes, classes and regions, weights within and beside" {
    foreign <<'PY'
graph(2, "planes.onnx")
graph(3, "volume.onnx", last="Sigmoid", save_as_external_data=True, location="weights", size_threshold=0)
graph(2, "scores.onnx", last=None)
PY
    import -m t1,t2,flair -s canonical -o planes planes.onnx 2>err
    grep -q 'no patient will be known' err
    import -m t1,t2,flair -s canonical -p case -r 'wt=1,2,3;tc=1,3;et=3' -o volume volume.onnx 2>err
    import -m t1,t2,flair -s brats2017 -o scores scores.onnx 2>err
    infer -n -m volume | tr '\t' ' ' >told
    [ "$(grep -cE '^(modalities t1,t2,flair|scheme canonical|regions wt=1,2,3;tc=1,3;et=3|step znorm -p case)$' told)" = 4 ]
    foreign <<'PY'
import mkstream, subprocess
from onnx_eval import Graph, softmax
for n, side in ("planes", (3, 12, 20)), ("volume", (4, 12, 20)), ("scores", (3, 12, 20)):
    norm = {"norm": "case"} if n == "volume" else {}
    x = np.random.default_rng(2).standard_normal((side[0], 3, *side[1:])).astype("f4")
    meta = {"case": "a", "patient": "a", "slices": len(x), "modalities": "t1,t2,flair", "spacing": "1 1 1", **norm}
    steps = [("history", "nii2slices")] + [("history", "znorm -p case")] * len(norm)
    stream = mkstream.stream(steps, [({**meta, "slice": z}, {"image": i}) for z, i in enumerate(x)])
    p = subprocess.run(["infer", "-P", "-t", "none", "-m", n], input=stream, stdout=subprocess.PIPE, check=True)
    got = np.stack([t["prob"] for _, _, _, t, _ in mkstream.parse(p.stdout) if t])
    g = Graph(n + ".onnx")
    want = g.run(x.swapaxes(0, 1)[None])[0].swapaxes(0, 1) if n == "volume" else g.run(x)
    want = softmax(want, 1) if n == "scores" else want
    assert np.ptp(want, (0, 2, 3)).min() > 0.05 and np.abs(got - want).max() < 1e-5, (n, np.abs(got - want).max())
PY
}

@test "onnx2model: a transformer of PyTorch's operations becomes attention, linear layers, norms and positions" {
    foreign <<'PY'
import mkstream, onnx_eval
transformer()
rng = np.random.default_rng(2)
images = rng.normal(size=(3, 3, 12, 12)).astype("f4")
open("in.tns", "wb").write(mkstream.stream({"history": "made"}, [
    ({"case": "a", "patient": "a", "slice": z, "slices": 3, "modalities": "t1,t2,flair", "spacing": "1 1 1"}, {"image": i}) for z, i in enumerate(images)]))
np.save("want.npy", onnx_eval.Graph("graph.onnx").run(images))
PY
    import -m t1,t2,flair -s canonical -o model graph.onnx 2>err
    infer -F -P -t none -m model <in.tns >out.tns 2>err || { cat err; false; }
    foreign <<'PY'
import mkstream
got = np.stack([t["prob"] for kind, at, m, t, ends in mkstream.parse(open("out.tns", "rb").read()) if kind == "R"])
assert abs(got - np.load("want.npy")).max() < 1e-5, abs(got - np.load("want.npy")).max()
PY
}

@test "onnx2model: a graph of model2onnx's, weights within or beside, comes back as it was" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 4 -d 48x40 -l nii2slices >blobs.tns
    for n in unet unet.f16 transunet3d.bf16 transunet3d; do
        slabs= kind=${n#*.}
        [[ $n = unet* ]] || slabs='-d 4'
        printf 'network: %s\nbase: 2\nbatch: 4\nsize: 48x48\nweights: %s\n' ${n%.*} ${kind/$n/f32} >c.yaml
        # shellcheck disable=SC2086
        epochs -b 0 -n 1 -s 1 $slabs blobs.tns | train -s 1 -c c.yaml -o $n 2>err || { cat err; false; }
        model2onnx -e $n >within.onnx
        model2onnx $n >beside.onnx
        infer -H -P -t none -m $n <blobs.tns >want.tns 2>/dev/null
        for g in within beside; do
            import -o $n.$g $g.onnx 2>err
            infer -H -P -t none -m $n.$g <blobs.tns >got.tns 2>/dev/null
            foreign <<'PY'
import mkstream
got, want = ([(t["prob"].tobytes(), t["pred"].tobytes()) for _, _, _, t, _ in mkstream.parse(open(f, "rb").read()) if t] for f in ("got.tns", "want.tns"))
assert got == want and len(got) == 4
PY
        done
    done
}

@test "onnx2model: operations that the engine has not are refused by name, and broken graphs with a line" {
    foreign <<'PY'
tool = script("onnx2model")
say = ["-m", "t1,t2,flair", "-s", "canonical", "graph.onnx"]
one = lambda op, **a: lambda f, x: f.put(op, x, **a)
doubled = lambda f, x, times: doubled(f, f.put("Mul", x, x), times - 1) if times else x
for want, edit in [
        ("(Elu): the engine has none", one("Elu")),
        ("(GlobalAveragePool): the engine has none", one("GlobalAveragePool")),
        ("(wanted batch, channels and sides in order)", one("Transpose", perm=[0, 1, 3, 2])),
        ("(Pow): the engine has none, of the image (a layer norm is one", lambda f, x: f.put("Pow", x, f.array([2.0]))),
        ("(Erf): (wanted it of x / sqrt(2)", one("Erf")),
        ("axes that are parted or put together", lambda f, x: f.put("Reshape", x, f.array([0, 4, -1, 1], "i8"))),
        ("(Softmax): (wanted softmax over channels", one("Softmax", axis=2)),
        ("(MaxPool): (wanted a stride as large", one("MaxPool", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)),
        ("pads [0, 0, 0, 0] do not keep the size", lambda f, x: f.put("Conv", x, f.weight(6, 6, 3, 3))),
        ("(Conv): (wanted a constant kernel, one group", lambda f, x: f.put("Conv", x, f.weight(6, 1, 3, 3), group=6, pads=[1] * 4)),
        ("is not made of the image", lambda f, x: f.put("Relu", f.weight(6, 6))),
        ("(Resize): (wanted whole constant factors", lambda f, x: f.put("Resize", x, "", f.array([1, 1, 2, 2]), mode="cubic")),
        ("(Concat): (wanted two values", lambda f, x: f.put("Concat", x, x, axis=2)),
        ("is multiplied by 2, which the engine does not", lambda f, x: f.put("Mul", x, f.array([2.0]))),
        ("is multiplied by nan", lambda f, x: f.put("Mul", x, f.array([np.nan]))),
        ("(wanted numbers that this can be computed of)", lambda f, x: f.put("Reshape", x, doubled(f, f.array([2**62], "i8"), 40))),
        ("(wanted attention: queries by keys", lambda f, x: f.put("MatMul", x, x)),
        ("not all numbers are finite", lambda f, x: f.put("Conv", x, f.array(np.full((6, 6, 1, 1), np.inf))))]:
    graph(2, edit=edit)
    why = attempt(tool, *say)
    assert why and want in why, (want, why)
graph(2)
assert "by -m" in attempt(tool, "-s", "canonical", "graph.onnx") and "-s SCHEME" in attempt(tool, "-m", "t1,t2,flair", "graph.onnx")
assert attempt(tool, *say) is None
graph(2, last="Relu")
assert "it ends in Relu" in attempt(tool, *say)
graph(2, last="Sigmoid")
assert "by -r" in attempt(tool, *say)
# Weights that would lie elsewhere.
graph(2, save_as_external_data=True, location="abcdefghijk", size_threshold=0)
b = open("graph.onnx", "rb").read()
for other, want in ("../../../k0", "may point"), ("/etc/passwd", "may point"), ("absent_file", "No such file"):
    open("graph.onnx", "wb").write(b.replace(b"abcdefghijk", other.encode()))
    assert want in attempt(tool, *say), (other, attempt(tool, *say))
open("graph.onnx", "wb").write(b)
os.truncate("abcdefghijk", 100)
assert "is cut" in attempt(tool, *say)
transformer(scale=0.25)
assert "logits times 0.5, got 0.25" in attempt(tool, *say)
# What the engine has otherwise, and would compute without a word: a group norm's weights where it is read without, or with others; a norm of
# each column; positions that stand in another order; attention in windows.
vector = lambda f, k: f.array(np.arange(6).reshape(6, 1, 1) + k)
def normed(f, x, order=(0, 1, 2, 3), shape=(0, 2, -1), back=(0, 6, 24, 24)):
    y = f.put("InstanceNormalization", f.put("Reshape", f.put("Transpose", x, perm=order), f.array(shape, "i8")), f.array([1, 1]), f.array([0, 0]))
    return f.put("Transpose", f.put("Reshape", y, f.array(back, "i8")), perm=order)
def rest(f, x, how):
    y = normed(f, x)
    weighed = f.put("Mul", y, vector(f, 1))
    return f.put("Add", *how(f, y, weighed, f.put("Add", weighed, vector(f, 2))))
def placed(f, x):
    return f.put("Transpose", f.put("Add", f.put("Transpose", x, perm=[0, 3, 2, 1]), f.weight(1, 24, 24, 6)), perm=[0, 3, 2, 1])
def windows(f, x):
    x = f.put("Transpose", f.put("Reshape", x, f.array([0, 6, 6, 4, 6, 4], "i8")), perm=[0, 2, 4, 3, 5, 1])
    x = f.put("Reshape", x, f.array([0, 36, 16, 6], "i8"))
    q, k, v = (f.put("MatMul", x, f.weight(6, 6)) for _ in range(3))
    a = f.put("Softmax", f.put("MatMul", f.put("Mul", q, f.array([6 ** -0.5])), f.put("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    x = f.put("Transpose", f.put("Reshape", f.put("MatMul", a, v), f.array([0, 6, 6, 4, 4, 6], "i8")), perm=[0, 5, 1, 3, 2, 4])
    return f.put("Reshape", x, f.array([0, 6, 24, 24], "i8"))
for want, edit in [
        ("read with its weights alone", lambda f, x: rest(f, x, lambda f, y, w, b: (b, y))),
        ("read with its weights alone", lambda f, x: rest(f, x, lambda f, y, w, b: (b, w))),
        ("read with its weights alone", lambda f, x: rest(f, x, lambda f, y, w, b: (b, f.put("Mul", y, vector(f, 3))))),
        ("(wanted groups of channels", lambda f, x: normed(f, x, (2, 1, 0, 3), (24, 2, -1), (24, 6, -1, 24))),
        ("its sides in order", placed), ("not of windows", windows)]:
    graph(2, edit=edit, shape=["n", 3, 24, 24])
    why = attempt(tool, *say)
    assert why and want in why, (want, why)
transformer(size=lambda f, x: f.put("Transpose", x, perm=[2, 0, 1]))
assert "parted or put together" in attempt(tool, *say)
# Damaged bytes: a line, or a model; not a word of Python's.
wholes = []
for make in transformer, lambda: graph(2):
    make()
    wholes.append(open("graph.onnx", "rb").read())
rng, refused = np.random.default_rng(int(os.environ.get("SEED", 1))), 0
rounds = 5000 if os.environ.get("LONG") else 150
for i in range(rounds):
    b = bytearray(wholes[i // 10 % 2])
    for _ in range(1 + i % 3):
        at = rng.integers(len(b) if i % 2 else min(len(b), 1000))
        if i % 5:
            b[at] = rng.integers(256)
        else:
            del b[max(at, 1):max(at, 1) + rng.integers(1, 1000)]
    open("graph.onnx", "wb").write(b)
    refused += attempt(tool, *say) is not None
assert refused > rounds // 4, refused
PY
    echo nonsense >nonsense
    run -1 import -o model nonsense
    [ "${#lines[@]}" = 1 ]
    run -1 import -o model absent
    [ "$output" = "onnx2model: absent: No such file or directory" ]
    run -2 import nonsense
}
