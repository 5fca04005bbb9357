# model2onnx: what a graph computes, by an evaluator of its own (onnx_eval.py), is what infer finds.
load ../lib/common

MODELS=$ROOT/tests/lib/models.py
NAMED='unet attention residual nnunet2d transunet unet3d attention3d residual3d transunet3d'

# Networks of all operations: of planes, of volumes, and one that sees neighbours.
setup_file() {
    cd "$BATS_FILE_TMPDIR"
    "$PYTHON" -c 'import numpy' || return 0
    cat >planar.json <<'E'
{"network": [
    {"op": "input", "channels": 4},
    {"op": "convolution", "name": "a", "channels": 6, "kernel": [7, 3]},
    {"op": "instance_norm", "affine": false},
    {"op": "leaky_relu", "name": "l", "slope": 0.3},
    {"op": "convolution", "name": "b", "channels": 6, "kernel": 3, "dilation": [1, 2], "bias": false},
    {"op": "group_norm", "name": "g", "groups": 3, "eps": 1e-3},
    {"op": "silu"},
    {"op": "dropout", "name": "s", "p": 0.3},
    {"op": "add", "in": ["l", "s"], "name": "sum"},
    {"op": "convolution", "name": "one", "channels": 1, "kernel": 1},
    {"op": "multiply", "in": ["one", "sum"]},
    {"op": "sigmoid"},
    {"op": "average_pool", "size": [2, 1]},
    {"op": "convolution", "name": "c", "channels": 8, "kernel": [2, 4], "stride": [2, 4]},
    {"op": "layer_norm", "name": "ln", "eps": 1e-3},
    {"op": "linear", "name": "q", "in": "ln", "channels": 8, "bias": false},
    {"op": "linear", "name": "k", "in": "ln", "channels": 8},
    {"op": "linear", "name": "v", "in": "ln", "channels": 4},
    {"op": "attention", "in": ["q", "k", "v"], "heads": 2},
    {"op": "positions", "name": "p", "size": [3, 2]},
    {"op": "positions", "name": "pz", "size": [2, 5, 7]},
    {"op": "gelu"},
    {"op": "transposed_convolution", "name": "up", "channels": 6, "kernel": [2, 4], "stride": [2, 4]},
    {"op": "linear_resize", "factor": [2, 1]},
    {"op": "softmax"},
    {"op": "copy", "name": "x"},
    {"op": "attention_score", "name": "psi", "in": ["x", "sum"]},
    {"op": "batch_norm", "name": "bn", "eps": 1e-3},
    {"op": "gate", "in": ["bn", "sum"], "name": "y"},
    {"op": "max_pool", "size": [1, 3]},
    {"op": "nearest", "factor": [1, 3]},
    {"op": "relu", "name": "z"},
    {"op": "concat", "in": ["y", "z"]},
    {"op": "head", "name": "head", "channels": 4},
    {"op": "loss"},
    {"op": "head", "name": "head2", "in": "x", "channels": 4},
    {"op": "loss"}]}
E
    cat >volume.json <<'E'
{"network": [
    {"op": "input", "channels": 2},
    {"op": "convolution", "name": "a", "channels": 4, "kernel": [3, 3, 3], "dilation": [2, 1, 1]},
    {"op": "instance_norm", "name": "n"},
    {"op": "gelu", "name": "x"},
    {"op": "convolution", "name": "b", "channels": 6, "kernel": [3, 3, 3], "stride": [2, 2, 1]},
    {"op": "group_norm", "name": "g", "groups": 2},
    {"op": "max_pool", "size": [1, 1, 2]},
    {"op": "convolution", "name": "c", "channels": 4, "kernel": [1, 3, 3], "stride": 2},
    {"op": "layer_norm", "name": "ln"},
    {"op": "linear", "name": "q", "in": "ln", "channels": 6},
    {"op": "linear", "name": "k", "in": "ln", "channels": 6},
    {"op": "linear", "name": "v", "in": "ln", "channels": 4},
    {"op": "attention", "in": ["q", "k", "v"], "heads": 2, "planar": true},
    {"op": "positions", "name": "p", "size": [2, 3, 4]},
    {"op": "attention", "in": ["p", "p", "p"], "heads": 4},
    {"op": "positions", "name": "flat", "size": 3},
    {"op": "transposed_convolution", "name": "up", "channels": 4, "kernel": [2, 2, 2], "stride": [2, 2, 2]},
    {"op": "nearest", "factor": [1, 2, 1]},
    {"op": "average_pool", "size": [2, 1, 1]},
    {"op": "linear_resize", "name": "linear_up", "factor": [2, 1, 2]},
    {"op": "concat", "in": ["linear_up", "x"]},
    {"op": "head", "name": "head", "channels": 3},
    {"op": "loss"}]}
E
    cat >beside.json <<'E'
{"network": [
    {"op": "input", "channels": 6},
    {"op": "convolution", "name": "a", "channels": 5, "kernel": 3},
    {"op": "batch_norm", "name": "n"},
    {"op": "relu"},
    {"op": "head", "name": "head", "channels": 3},
    {"op": "loss"}]}
E
    PYTHONPATH=$ROOT/tests/lib "$PYTHON" - <<'P'
import models
planar, volume, beside = (open(n + ".json").read() for n in ("planar", "volume", "beside"))
models.main("flat", "planar", planar)
models.main("flat", "half", planar, "f16")
models.main("flat", "brain", planar, "bf16")
models.main("flat", "volume", volume, "classes=4", "regions=wt=1,2,3;tc=1,3;et=3")
models.main("flat", "beside", beside, "neighbours=1", "modalities=t1,t2")
models.main("flat", "wide", beside.replace("5", "500"), "neighbours=1", "modalities=t1,t2")
models.main("flat", "other", planar, "modalities=t1")
models.main("flat", "few", planar, "classes=3")
models.main("flat", "named", beside, "neighbours=1", "modalities=t1,t2", "norm=case", "cropped=none", "steps=znorm -p case\n", "patients=Mrs. Doe\n",
            "scans=\tMrs. Doe", "history=of Mrs. Doe", "validated=Mr. Doe", "spacing=1 1 1 1 1 2")
P
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    export OMP_WAIT_POLICY=passive
    need_python numpy
    cp "$BATS_FILE_TMPDIR"/* .
}

# learned NAME [EDIT]: a model of that network, whose settings sed changes, which has learned next to nothing; then other numbers.
learned() {
    local slabs=
    [[ $1 != *3d && $1 != mindgrab ]] || slabs='-d 4'
    [ -e blobs.tns ] || "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 2 -n 4 -d 64x64 -l nii2slices >blobs.tns
    printf '%s\n' "network: $1.yaml" 'base: 2' 'batch: 4' 'regions: none' 'parameters: {}' | sed "${2-}" >c.yaml
    [ -e "$1.yaml" ] || cp "$ROOT/pipelines/networks/$1.yaml" .
    rm -f learned*
    # shellcheck disable=SC2086
    epochs -b 0 -n 1 -s 1 $slabs blobs.tns | train -s 1 -c c.yaml -o learned 2>err || { cat err; return 1; }
    "$PYTHON" "$MODELS" rough learned "$1"
}

# Python on the models of the folder: agree(MODEL, SLICES, H, W) is the largest difference between its graph, MODEL.onnx,
# and what infer makes of waves in some noise.
compared() {
    PYTHONPATH=$ROOT/tests/lib "$PYTHON" - "$@" <<PY
import subprocess, sys
import mkstream, numpy as np
from onnx_eval import Graph
def agree(model, slices, h, w):
    g = Graph(model + ".onnx")
    names, volume = g.meta["modalities"].split(","), len(g.input[0][1]) == 5
    side = ["depth", "height", "width"][not volume:]
    assert g.input == [("image", ["batch", len(g.meta["channels"].split(",")), *side])], g.input
    assert g.output == [("prob", ["batch", len(g.meta["outputs"].split(",")), *side])], g.output
    rng = np.random.default_rng(h)
    at = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in (slices, h, w)), indexing="ij"))
    x = np.sin(np.tensordot(rng.uniform(-15, 15, (9, len(names), 3)), at, 1) + rng.uniform(0, 6, (9, len(names), 1, 1, 1))).mean(0)
    x = (x + 0.1 * rng.standard_normal(x.shape)).swapaxes(0, 1).astype("f4")
    meta = {"case": "a", "patient": "a", "slices": slices, "modalities": g.meta["modalities"], "spacing": "1 1 1"}
    stream = mkstream.stream([], [({**meta, "slice": z}, {"image": i}) for z, i in enumerate(x)])
    p = subprocess.run(["infer", "-F", "-H", "-P", "-t", "none", "-m", model], input=stream, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert not p.returncode, p.stderr
    want = np.stack([t["prob"] for _, _, _, t, _ in mkstream.parse(p.stdout) if t])
    near = int(g.meta.get("neighbours", 0))
    if near:
        x = x[np.clip(np.arange(slices)[:, None] + np.arange(-near, near + 1), 0, slices - 1)].swapaxes(1, 2).reshape(slices, -1, h, w)
    got = g.run(x.swapaxes(0, 1)[None])[0].swapaxes(0, 1) if volume else g.run(x)
    assert got.shape == want.shape, (got.shape, want.shape)
    assert np.ptp(want, (0, 2, 3)).min() > 0.005, (model, "says the same everywhere")
    return np.abs(got - want).max()
$(cat)
PY
}

need_peers() { # MODULE: where make bench-peers put it, or where PEERS says
    python=${PEERS:-$ROOT/build/peers}/bin/python
    "$python" -c "import $1" 2>/dev/null || skip "it wants what make bench-peers installs"
}

@test "model2onnx: every network with a name is in ONNX what infer makes of it, at odd sizes, and passes ONNX' own checks" {
    need_python onnx
    # Two rounds of its five, and four channels as the others have.
    sed 's/inputs: 1, classes: 2, base: 15, rounds: 5/inputs: 4, classes: 4, base: 15, rounds: 1/' "$ROOT/pipelines/networks/mindgrab.yaml" >mindgrab.yaml
    for n in $NAMED mindgrab; do
        learned $n
        model2onnx $n >$n.onnx
        [ "$(wc -c <$n.onnx)" -lt 204800 ]
    done
    model2onnx learned >learned.onnx
    compared $NAMED mindgrab <<'PY'
import models
assert Graph("learned.onnx").meta["xxh3"] == models.read("learned")[0]["xxh3"]
for n in sys.argv[1:]:
    h, w = (97, 65) if n == "nnunet2d" else (33, 23)
    most = agree(n, 3, h, w)
    assert most < 1e-5, (n, most)

PY
    "$PYTHON" - $NAMED mindgrab <<'PY'
import onnx, sys
for n in sys.argv[1:]:
    onnx.checker.check_model(n + ".onnx", full_check=True)
PY
}

@test "model2onnx: every operation, of planes and of volumes, neighbours, regions and narrow weights are what infer makes of them" {
    need_python onnx
    sed -n 's/^    X(\([a-z_]*\)).*/\1/p' "$ROOT/lib/nn/ops.h" >ops
    [ "$(wc -l <ops)" -gt 20 ]
    while read -r op; do
        grep -q "\"op\": \"$op\"" planar.json volume.json || { echo "no network has $op"; false; }
    done <ops
    for n in planar half brain volume beside; do
        model2onnx $n >$n.onnx
    done
    compared <<'PY'
for n in ("planar", "half", "brain", "volume", "beside"):
    most = agree(n, 5, 23, 17)
    assert most < 1e-5, (n, most)
PY
    "$PYTHON" - <<'PY'
import onnx
for n in ("planar", "half", "brain", "volume", "beside"):
    onnx.checker.check_model(n + ".onnx", full_check=True)
PY
}

@test "model2onnx: a graph is as small whatever its weights, points into their file as it is, and -e holds the same within" {
    for n in beside wide; do
        model2onnx $n >$n.onnx
    done
    [ "$(wc -c <wide)" -gt 100000 ]
    [ "$(wc -c <wide.onnx)" -lt "$(($(wc -c <beside.onnx) + 50))" ]
    cp planar before
    mkdir -p a/b
    model2onnx planar >planar.onnx
    cmp planar before
    (cd a && model2onnx ../planar >../elsewhere.onnx)
    cmp planar.onnx elsewhere.onnx
    model2onnx -e planar >alone.onnx
    model2onnx -w b/of.any_name planar >a/graph.onnx
    cp planar a/b/of.any_name
    compared <<'PY'
import os
x = np.random.default_rng(1).standard_normal((1, 4, 9, 14))
one, alone, far = (Graph(f).run(x) for f in ("planar.onnx", "alone.onnx", "a/graph.onnx"))
assert (one == alone).all() and (one == far).all()
assert all(p["key"] != ["location"] for t in Graph("alone.onnx").graph["initializer"] for p in t["external"])
PY
}

@test "model2onnx: what an image has to be, and what the labels mean, is in the graph; whom it learned from is not" {
    model2onnx named >named.onnx
    run ! grep -q Doe named.onnx
    model2onnx volume >volume.onnx
    compared <<'PY'
m = Graph("named.onnx").meta
assert m["channels"] == "t1-1,t1,t1+1,t2-1,t2,t2+1" and m["outputs"] == "0,1,2" and m["modalities"] == "t1,t2" and m["scheme"] == "canonical"
assert (m["norm"], m["cropped"], m["steps"], m["spacing"], m["neighbours"]) == ("case", "none", "znorm -p case\n", "1 1 1 1 1 2", "1")
m = Graph("volume.onnx").meta
assert m["outputs"] == "wt,tc,et" and m["regions"] == "wt=1,2,3;tc=1,3;et=3"
PY
}

@test "model2onnx: as JSON the operations stand in their order, with numbers for expressions" {
    model2onnx -l planar >planar.list
    model2onnx planar >planar.onnx
    learned residual3d 's/{}/{flat: 1, dropout: 0.25}/'
    model2onnx -l residual3d >residual3d.list
    compared <<'PY'
import json, models
a = json.load(open("planar.list"))
want = [o for o in json.load(open("planar.json"))["network"] if o["op"] not in ("loss", "copy") and o.get("name") != "head2"]
assert [o["op"] for o in a["operations"]] == [o["op"] for o in want] and not a["volume"] and a["multiple"] == [1, 4, 12]
names = {o["name"]: i for i, o in enumerate(a["operations"])}
assert a["operations"][names["c"]] == {"op": "convolution", "name": "c", "in": [names["c"] - 1], "channels": 8, "kernel": [1, 2, 4],
                                       "stride": [1, 2, 4], "dilation": [1, 1, 1], "bias": 1, "weights": a["operations"][names["c"]]["weights"]}
file = open("planar", "rb").read()
kind, shape, at = a["operations"][names["c"]]["weights"]["weight"]
assert kind == "float32" and shape == [8, 6, 1, 2, 4]
assert (np.frombuffer(file, "<f4", 8 * 6 * 8, at) == Graph("planar.onnx").values["c.weight"].ravel()).all()
assert [a["operations"][i]["name"] for i in a["operations"][names["bn"] - 1]["in"]] == [a["operations"][names["up"] + 2]["name"], "sum"]
b = json.load(open("residual3d.list"))
assert b["volume"] and {o["p"] for o in b["operations"] if o["op"] == "dropout"} == {0.25}
assert [o["kernel"] for o in b["operations"] if o["name"].startswith(("enc1.conv", "enc2.conv"))] == [[1, 3, 3]] * 2 + [[3, 3, 3]] * 2
assert b["metadata"]["network"] == models.read("residual3d")[0]["network"]
PY
}

@test "model2onnx: what is no model, and what no graph could name, is one line" {
    echo nonsense >nonsense
    head -c 5000 planar >cut
    "$PYTHON" - <<'PY'
import json, struct
b = open("planar", "rb").read()
n = 8 + struct.unpack("<Q", b[:8])[0]
for name, old, new in ("gone", b'"a.weight"', b'"A.weight"'), ("shape", b"[6, 4, 7, 3]", b"[6, 4, 3, 7]"):
    assert old in b[:n]
    open(name, "wb").write(b[:n].replace(old, new) + b[n:])
PY
    for f in nonsense cut other few gone shape absent .; do
        run -1 --separate-stderr model2onnx $f
        [ -z "$output" ]
        [ "${#stderr_lines[@]}" = 1 ]
        [[ "$stderr" = "model2onnx: $f"* ]]
    done
    for a in '-w /planar' '-w ../planar' '-w a/../../planar' '-w a/' '-e -w b' '-e -l' 'planar'; do
        # shellcheck disable=SC2086
        run -2 --separate-stderr model2onnx $a planar
        [ -z "$output" ]
    done
    run -2 model2onnx
    run -1 --separate-stderr bash -c 'model2onnx planar >/dev/full'
    [ "${#stderr_lines[@]}" = 1 ]
}

@test "model2onnx: -t says where ONNX Runtime is missing" {
    mkdir empty path
    printf '#!/bin/sh\nexec %s -S "$@"\n' "$(command -v "$PLAIN_PYTHON")" >path/python3 # without what is installed beside it
    chmod +x path/python3
    PATH=$PWD/path:$PATH run -1 --separate-stderr model2onnx -t planar
    [ -z "$output" ]
    [ "${#stderr_lines[@]}" = 1 ]
    [[ "$stderr" = "model2onnx: -t: "*"has no module "*"(wanted ONNX Runtime"* ]]
    run -1 --separate-stderr env PATH="$PWD/empty" "$(command -v model2onnx)" -t planar
    [ "$stderr" = "model2onnx: -t: python3: No such file or directory" ]
}

@test "model2onnx: ONNX Runtime finds what infer finds, of every network with a name and of every operation" {
    need_peers onnxruntime
    mkdir path
    ln -s "$python" path/python3
    sed 's/inputs: 1, classes: 2, base: 15, rounds: 5/inputs: 4, classes: 4, base: 15, rounds: 1/' "$ROOT/pipelines/networks/mindgrab.yaml" >mindgrab.yaml
    for n in $NAMED mindgrab; do
        learned $n
    done
    for n in $NAMED mindgrab planar half brain volume beside; do
        PATH=$(dirname "$python"):$PATH model2onnx -t $n
    done
}

@test "model2onnx: the page's thirty lines make of every model a module of PyTorch, which gives what infer gives" {
    sed -n '/^\.\\" begin model.py/,/^\.\\" end model.py/p' "$ROOT/man/model2onnx.1" | sed '1d; $d; s/\\(aq/'"'"'/g; s/\\-/-/g; s/\\e/\\/g' >model.py
    [ "$(grep -c . model.py)" = 30 ]
    need_peers torch
    sed 's/inputs: 1, classes: 2, base: 15, rounds: 5/inputs: 4, classes: 4, base: 15, rounds: 1/' "$ROOT/pipelines/networks/mindgrab.yaml" >mindgrab.yaml
    for n in $NAMED mindgrab; do
        learned $n
    done
    for n in $NAMED mindgrab planar half brain volume beside; do
        model2onnx $n >$n.onnx
    done
    # What infer finds, of a volume a case, else of slices; and the same images for the module.
    compared $NAMED mindgrab planar half brain volume beside <<'PY'
for n in sys.argv[1:]:
    g = Graph(n + ".onnx")
    shape = (1, 5, 97, 65) if len(g.input[0][1]) == 5 else (2, 97, 65)
    x = np.random.default_rng(1).standard_normal((shape[0], len(g.meta["channels"].split(",")), *shape[1:])).astype("f4")
    np.savez(n + ".npz", x=x, want=g.run(x), regions="regions" in g.meta)
    assert agree(n, 3, 97, 65) < 1e-5
PY
    "$python" - $NAMED mindgrab planar half brain volume beside <<'PY'
import numpy as np, sys, torch
from model import Model
for n in sys.argv[1:]:
    f, net = np.load(n + ".npz"), Model(n)
    with torch.no_grad():
        y = net.eval()(torch.from_numpy(f["x"]))
    got = (y.sigmoid() if f["regions"] else y.softmax(1)).numpy()
    assert np.abs(got - f["want"]).max() < 1e-5, (n, np.abs(got - f["want"]).max())
    net.train()(torch.from_numpy(f["x"])).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)
PY
}
