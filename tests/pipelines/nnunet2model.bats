# nnunet2model: a checkpoint of nnU-Net becomes a model, whose probabilities are those of the network in numpy as
# nnU-Net defines it; a checkpoint that would do something does nothing.
load ../lib/common

setup_file() {
    [ "${CONFIG:-release}" = release ] || return 0
    cd "$BATS_FILE_TMPDIR"
    "$PYTHON" -c 'import numpy' || return 0
    cat >nnu.py <<'PY'
import json
from checkpoints import *
from onnx_eval import conv, conv_transpose
def weights(rng, cin, features, kernels, strides, heads):
    w, x = {}, cin
    def layer(name, c, cin, k):
        w[name + ".conv.weight"] = rng.uniform(-1, 1, (c, cin, *k)) * (6 / (cin * np.prod(k))) ** 0.5
        for k, v in ("conv.bias", 0), ("norm.weight", 1), ("norm.bias", 0):
            w[f"{name}.{k}"] = v + rng.uniform(-0.3, 0.3, c)
    for s, c in enumerate(features):
        for j in range(2):
            layer(f"encoder.stages.{s}.0.convs.{j}", c, x, kernels[s])
            x = c
    for d, s in enumerate(range(len(features) - 2, -1, -1)):
        c = features[s]
        w[f"decoder.transpconvs.{d}.weight"] = rng.uniform(-1, 1, (x, c, *strides[s + 1])) * (3 / x) ** 0.5
        w[f"decoder.transpconvs.{d}.bias"] = rng.uniform(-0.3, 0.3, c)
        for j in range(2):
            layer(f"decoder.stages.{d}.convs.{j}", c, 2 * c if j == 0 else c, kernels[s])
        w[f"decoder.seg_layers.{d}.weight"] = rng.uniform(-0.5, 0.5, (heads, c, *[1] * len(kernels[0])))
        w[f"decoder.seg_layers.{d}.bias"] = rng.uniform(-0.3, 0.3, heads)
        x = c
    return w
def forward(w, x, features, kernels, strides):
    """PlainConvUNet: what comes up stands before what was skipped."""
    n = len(kernels[0])
    def layer(name, x, k, s):
        y = conv(x, w[name + ".conv.weight"], w[name + ".conv.bias"], list(k), list(s), [1] * n, [v // 2 for v in k] * 2)
        axes = tuple(range(2, 2 + n))
        y = (y - y.mean(axes, keepdims=True)) / np.sqrt(y.var(axes, keepdims=True) + 1e-5)
        y = y * w[name + ".norm.weight"].reshape(-1, *[1] * n) + w[name + ".norm.bias"].reshape(-1, *[1] * n)
        return np.where(y < 0, 0.01 * y, y)
    skips = []
    for s in range(len(features)):
        for j in range(2):
            x = layer(f"encoder.stages.{s}.0.convs.{j}", x, kernels[s], strides[s] if j == 0 else [1] * n)
        skips.append(x)
    for d, s in enumerate(range(len(features) - 2, -1, -1)):
        x = conv_transpose(x, w[f"decoder.transpconvs.{d}.weight"], w[f"decoder.transpconvs.{d}.bias"], list(strides[s + 1]), list(strides[s + 1]))
        x = np.concatenate([x, skips[s]], 1)
        for j in range(2):
            x = layer(f"decoder.stages.{d}.convs.{j}", x, kernels[s], [1] * n)
    return conv(x, w[f"decoder.seg_layers.{d}.weight"], w[f"decoder.seg_layers.{d}.bias"])
SHAPES = {"2d": ([4, 6, 8], [[3, 3]] * 3, [[1, 1], [2, 2], [2, 2]]),
          "3d_fullres": ([4, 6, 8], [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]])}
def make(name, regions=False, edit=lambda plans, dataset, saved: None, compress=zipfile.ZIP_STORED):
    """A folder as nnU-Net leaves it; the weights."""
    features, kernels, strides = SHAPES[name]
    n, folder = len(kernels[0]), f"T__P__{name}"
    os.makedirs(folder + "/fold_0", exist_ok=True)
    kw = {"n_stages": 3, "features_per_stage": features, "conv_op": f"torch.nn.modules.conv.Conv{n}d", "kernel_sizes": kernels, "strides": strides,
          "n_conv_per_stage": [2] * 3, "n_conv_per_stage_decoder": [2] * 2, "conv_bias": True, "dropout_op": None, "nonlin": "torch.nn.LeakyReLU",
          "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{n}d", "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "nonlin_kwargs": {"inplace": True}}
    plans = {"dataset_name": "Dataset001_X", "transpose_forward": [0, 1, 2], "original_median_spacing_after_transp": [3.0, 1.0, 1.0], "configurations": {
        "base": {"spacing": [3.0, 1.0, 0.5][-n:], "normalization_schemes": ["ZScoreNormalization"] * 2, "use_mask_for_norm": [True] * 2,
                 "architecture": {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet", "arch_kwargs": kw}},
        name: {"inherits_from": "base"}}}
    dataset = {"channel_names": {"0": "T1w", "1": "T1ce"}, "labels": {"background": 0, "edema": 1, "core": 2}}
    if regions:
        dataset.update(labels={"background": 0, "whole tumor": [1, 2], "tumor core": [2]}, regions_class_order=[1, 2])
    w = weights(np.random.default_rng(1), 2, features, kernels, strides, 2 if regions else 3)
    saved = {"network_weights": collections.OrderedDict((k, Tensor(v)) for k, v in w.items()), "logging": {"loss": [Opaque(), 1.5]}, "epoch": 1000,
             "optimizer_state": {"state": {0: {"momentum_buffer": None}}, "param_groups": [{"lr": 1e-2, "params": [0, 1]}]}, "axes": (0, 1), "done": True}
    edit(plans, dataset, saved)
    json.dump(plans, open(folder + "/plans.json", "w"))
    json.dump(dataset, open(folder + "/dataset.json", "w"))
    save(folder + "/fold_0/checkpoint_final.pth", saved, compress)
    return {k: v.astype("f4").astype("f8") for k, v in w.items()}
PY
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_release "it is Python"
    need_python numpy
    cp "$BATS_FILE_TMPDIR/nnu.py" .
}

nnu() { # Python from standard input, with nnu.py's names
    PYTHONPATH=$ROOT/tests/lib:$PWD "$PYTHON" -c 'import sys
from nnu import *
exec(sys.stdin.read())' "$@"
}

# agrees MODALITIES: what infer makes by the models 2d and 3d_fullres of x of their .npz is y.
agrees() {
    nnu "$1" <<'PY'
import mkstream, subprocess
for n in SHAPES:
    f = np.load(n + ".npz")
    x, want = (a if n == "2d" else a[0].swapaxes(0, 1) for a in (f["x"], f["y"]))
    meta = {"case": "a", "patient": "a", "slices": len(x), "modalities": sys.argv[1], "norm": "case", "spacing": "1 1 3"}
    stream = mkstream.stream([("history", "nii2slices"), ("history", "znorm -p case")], [({**meta, "slice": z}, {"image": i}) for z, i in enumerate(x)])
    p = subprocess.run(["infer", "-P", "-t", "none", "-m", n], input=stream, stdout=subprocess.PIPE, check=True)
    got = np.stack([t["prob"] for _, _, _, t, _ in mkstream.parse(p.stdout) if t])
    assert np.ptp(want, (0, 2, 3)).min() > 0.01 and np.abs(got - want).max() < 1e-5, (n, np.abs(got - want).max())
PY
}

@test "nnunet2model: what infer finds by the model is what nnU-Net's network computes, of slices and of volumes, classes and regions" {
    nnu <<'PY'
w = make("2d")
rng = np.random.default_rng(2)
for name, shape in ("2d", (3, 2, 12, 20)), ("3d_fullres", (1, 2, 6, 12, 20)):
    w = make(name, name != "2d")
    x = rng.standard_normal(shape).astype("f4")
    y = forward(w, x.astype("f8"), *SHAPES[name])
    p = np.exp(y - y.max(1, keepdims=True))
    np.savez(name + ".npz", x=x, y=p / p.sum(1, keepdims=True) if name == "2d" else 1 / (1 + np.exp(-y)))
PY
    for n in 2d 3d_fullres; do
        "$PYTHON" "$ROOT/pipelines/nnunet2model" -o $n T__P__$n 2>err
        grep -q 'no patient will be known' err
    done
    grep -q 'by tiles' err
    infer -n -m 2d | tr '\t' ' ' >2d.told
    [ "$(grep -cE '^(modalities t1,t1gd|scheme nnunet|prepared known|spacing 0.5 1 3 0.5 1 3|step znorm -p case)$' 2d.told)" = 5 ]
    infer -n -m 3d_fullres | tr '\t' ' ' >3d.told
    grep -qx 'regions wt=1,2:1;tc=2:2' 3d.told
    grep -qx 'spacing 0.5 1 3 0.5 1 3' 3d.told
    agrees t1,t1gd
}

@test "nnunet2model: what our filters or networks have not is refused with the reason, and a checkpoint runs nothing" {
    nnu <<'PY'
tool = script("nnunet2model")
def base(plans):
    return plans["configurations"]["base"]
def net(plans):
    return base(plans)["architecture"]["arch_kwargs"]
for want, edit in [
        ("NoNormalization", lambda p, d, s: base(p).update(normalization_schemes=["ZScoreNormalization", "NoNormalization"])),
        ("use_mask_for_norm", lambda p, d, s: base(p).update(use_mask_for_norm=[True, False])),
        ("transpose_forward", lambda p, d, s: p.update(transpose_forward=[1, 0, 2])),
        ("ResidualEncoderUNet", lambda p, d, s: base(p)["architecture"].update(network_class_name="a.ResidualEncoderUNet")),
        ("no architecture", lambda p, d, s: base(p).pop("architecture")),
        ("norm_op", lambda p, d, s: net(p).update(norm_op="torch.nn.BatchNorm2d")),
        ("kernel_sizes", lambda p, d, s: net(p).update(kernel_sizes=[[9, 9]] * 3)),
        ("n_stages", lambda p, d, s: net(p).update(n_stages=10 ** 9)),
        ("configuration '2d'", lambda p, d, s: p["configurations"]["base"].update(inherits_from="2d")),
        ("cascade", lambda p, d, s: base(p).update(previous_stage="3d_lowres")),
        ("channel_names", lambda p, d, s: d.update(channel_names={"0": "T1", "2": "T2"})),
        ("names of their own", lambda p, d, s: d.update(channel_names={"0": "T1", "1": "t1w"})),
        ("labels", lambda p, d, s: d.update(labels={"background": 0, "tumour": 2})),
        ("regions_class_order", lambda p, d, s: d.update(labels={"background": 0, "whole": [1, 2], "core": [2]})),
        ("is missing", lambda p, d, s: s["network_weights"].pop("decoder.seg_layers.1.bias")),
        ("wrong shape", lambda p, d, s: net(p).update(features_per_stage=[4, 6, 9])),
        ("finite", lambda p, d, s: s["network_weights"]["decoder.seg_layers.1.bias"].a.fill(np.inf)),
        ("network_weights", lambda p, d, s: s.pop("network_weights")),
        ("is missing", lambda p, d, s: s["network_weights"].update({"decoder.seg_layers.1.bias": Bomb()}))]:
    make("2d", edit=edit)
    why = attempt(tool, "T__P__2d")
    assert why and want in why, (want, why)
make("2d", compress=zipfile.ZIP_DEFLATED)
assert "compressed" in attempt(tool, "T__P__2d")
# What would be called elsewhere is a name here, and the model is made.
make("2d", edit=lambda p, d, s: s.update(logging=Bomb()))
assert attempt(tool, "T__P__2d") is None and not os.path.exists("bang")
# Tuples of one another: of few bytes, and without end for who goes through them.
signal.alarm(20)
make("2d", edit=lambda p, d, s: s.update(logging=endless()["key"]))
assert attempt(tool, "T__P__2d") is None
make("2d", edit=lambda p, d, s: s["network_weights"].update({"decoder.seg_layers.1.bias": endless()["shape"]}))
assert "is missing" in attempt(tool, "T__P__2d")
signal.alarm(0)
# Damaged bytes: a line, or a model. Not a word of Python's.
make("2d")
rounds = 3000 if os.environ.get("LONG") else 100
refused = damaged(tool, ["T__P__2d"], "T__P__2d/fold_0/checkpoint_final.pth", ["T__P__2d/plans.json", "T__P__2d/dataset.json"], rounds)
assert refused > rounds // 4 and not os.path.exists("bang"), refused
PY
    touch there
    run -2 "$PYTHON" "$ROOT/pipelines/nnunet2model" -o there T__P__2d
    run -2 "$PYTHON" "$ROOT/pipelines/nnunet2model" T__P__2d
    run -1 "$PYTHON" "$ROOT/pipelines/nnunet2model" -o model nowhere
    [ "$output" = "nnunet2model: nowhere/plans.json: No such file or directory" ]
    run -1 "$PYTHON" "$ROOT/pipelines/nnunet2model" -o none/model T__P__2d
    [ "${#lines[@]}" = 1 ]
}

@test "nnunet2model: networks that nnU-Net's own code made, of slices and of volumes, give what it gives" {
    python=${PEERS:-$ROOT/build/peers}/bin/python
    "$python" -c 'import dynamic_network_architectures' 2>/dev/null || skip "it wants what make bench-peers installs"
    # Its default networks but for their widths, after a step of training, saved as its trainer does.
    "$python" - <<'PY'
import json, numpy as np, os, pydoc, torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
torch.manual_seed(1)
for name, n, features, kernels, strides in [
        ("2d", 2, [8, 16, 24, 32, 32], [[3, 3]] * 5, [[1, 1]] + [[2, 2]] * 4),
        ("3d_fullres", 3, [8, 16, 24, 32], [[1, 3, 3]] + [[3, 3, 3]] * 3, [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]])]:
    kw = {"n_stages": len(features), "features_per_stage": features, "conv_op": f"torch.nn.modules.conv.Conv{n}d", "kernel_sizes": kernels,
          "strides": strides, "n_conv_per_stage": [2] * len(features), "n_conv_per_stage_decoder": [2] * (len(features) - 1), "conv_bias": True,
          "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{n}d", "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None,
          "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}}
    net = PlainConvUNet(4, num_classes=4, deep_supervision=True,
                        **{k: pydoc.locate(v) if k in ("conv_op", "norm_op", "nonlin") else v for k, v in kw.items()})
    step = torch.optim.SGD(net.parameters(), 1e-2, momentum=0.99, nesterov=True)
    sum(y.square().mean() for y in net(torch.randn(1, 4, *[8, 64, 64][-n:]))).backward()
    step.step()
    folder = f"nnUNetTrainer__nnUNetPlans__{name}"
    os.makedirs(folder + "/fold_0")
    plans = {"dataset_name": "Dataset001_BrainTumour", "transpose_forward": [0, 1, 2], "original_median_spacing_after_transp": [1.0] * 3, "configurations": {
        name: {"patch_size": [128] * n, "spacing": [1.0] * n, "normalization_schemes": ["ZScoreNormalization"] * 4, "use_mask_for_norm": [True] * 4,
               "architecture": {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet", "arch_kwargs": kw}}}}
    dataset = {"channel_names": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, "labels": {"background": 0, "edema": 1, "core": 2, "enhancing": 3}}
    json.dump(plans, open(folder + "/plans.json", "w"))
    json.dump(dataset, open(folder + "/dataset.json", "w"))
    torch.save({"network_weights": net.state_dict(), "optimizer_state": step.state_dict(), "grad_scaler_state": {"scale": 65536.0}, "trainer_name": "nnUNetTrainer",
                "logging": {"mean_fg_dice": [np.float64(0.5)]}, "_best_ema": np.float64(0.7), "current_epoch": 1000, "inference_allowed_mirroring_axes": (0, 1),
                "init_args": {"plans": plans, "fold": 0, "device": torch.device("cpu")}}, folder + "/fold_0/checkpoint_final.pth")
    net.eval().decoder.deep_supervision = False
    x = torch.randn((1, 4, 16, 48, 64) if n == 3 else (3, 4, 48, 64))
    with torch.no_grad():
        np.savez(name + ".npz", x=x, y=net(x).softmax(1))
PY
    for n in 2d 3d_fullres; do
        "$PYTHON" "$ROOT/pipelines/nnunet2model" -o $n nnUNetTrainer__nnUNetPlans__$n 2>/dev/null
    done
    agrees flair,t1,t1gd,t2
}
