# monai2model: a bundle of MONAI's with a SegResNet becomes a model, whose probabilities are those of the network in
# numpy as MONAI defines it, axes x, y, z; a checkpoint that would do something does nothing.
load ../lib/common

setup_file() {
    [ "${CONFIG:-release}" = release ] || return 0
    cd "$BATS_FILE_TMPDIR"
    cat >bundles.py <<'PY'
import json
from checkpoints import *
from onnx_eval import conv, resize
def weights(rng, cin, filters, outputs, down, up):
    w = {}
    def kernel(name, c, cin, k=3):
        w[name + ".conv.weight"] = rng.uniform(-1, 1, (c, cin, k, k, k)) * (3 / (cin * k ** 3)) ** 0.5
    def norm(name, c):
        w[name + ".weight"], w[name + ".bias"] = 1 + rng.uniform(-0.3, 0.3, c), rng.uniform(-0.3, 0.3, c)
    def block(name, c):
        for i in "12":
            norm(name + ".norm" + i, c)
            kernel(name + ".conv" + i, c, c)
    kernel("convInit", filters, cin)
    for s, n in enumerate(down):
        if s:
            kernel(f"down_layers.{s}.0", filters << s, filters << s - 1)
        for j in range(n):
            block(f"down_layers.{s}.{j + 1}", filters << s)
    for d, n in enumerate(up):
        c = filters << len(down) - 2 - d
        kernel(f"up_samples.{d}.0", c, 2 * c, 1)
        for j in range(n):
            block(f"up_layers.{d}.{j}", c)
    norm("conv_final.0", filters)
    kernel("conv_final.2", outputs, filters, 1)
    w["conv_final.2.conv.bias"] = rng.uniform(-0.3, 0.3, outputs)
    return w
def forward(w, x, groups, down, up):
    """SegResNet.forward: normalised first, what comes up is added to what was skipped."""
    def kernel(name, x, stride=1):
        k = w[name + ".conv.weight"]
        return conv(x, k, w.get(name + ".conv.bias"), list(k.shape[2:]), [stride] * 3, [1] * 3, [k.shape[2] // 2] * 6)
    def norm(name, x):
        y = x.reshape(len(x), groups, -1)
        y = ((y - y.mean(2, keepdims=True)) / np.sqrt(y.var(2, keepdims=True) + 1e-5)).reshape(x.shape)
        return np.maximum(y * w[name + ".weight"].reshape(-1, 1, 1, 1) + w[name + ".bias"].reshape(-1, 1, 1, 1), 0)
    def block(name, x):
        return x + kernel(name + ".conv2", norm(name + ".norm2", kernel(name + ".conv1", norm(name + ".norm1", x))))
    x, skips = kernel("convInit", x), []
    for s, n in enumerate(down):
        x = kernel(f"down_layers.{s}.0", x, 2) if s else x
        for j in range(n):
            x = block(f"down_layers.{s}.{j + 1}", x)
        skips.append(x)
    for d, n in enumerate(up):
        x = resize(kernel(f"up_samples.{d}.0", x), None, scales=[1, 1, 2, 2, 2], mode="linear", coordinate_transformation_mode="half_pixel")
        x = x + skips[-2 - d]
        for j in range(n):
            x = block(f"up_layers.{d}.{j}", x)
    return kernel("conv_final.2", norm("conv_final.0", x))
DOWN, UP = [1, 2, 1], [1, 2]
def make(sigmoid=True, edit=lambda config, metadata, saved: None, within=None):
    """A bundle; its weights."""
    os.makedirs("bundle/configs", exist_ok=True)
    os.makedirs("bundle/models", exist_ok=True)
    chain = lambda *t: {"_target_": "Compose", "transforms": [{"_target_": k, "keys": "image", **v} for k, v in t]}
    config = {"filters": 4, "network_def": {"_target_": "monai.networks.nets.SegResNet", "spatial_dims": 3, "init_filters": "@filters", "in_channels": 2,
                                            "out_channels": 3, "blocks_down": DOWN, "blocks_up": UP, "dropout_prob": 0.2, "norm": ["GROUP", {"num_groups": 2}]},
              "preprocessing": chain(("LoadImaged", {}), ("Spacingd", {"pixdim": [1.0, 1.0, 2.5]}),
                                     ("NormalizeIntensityd", {"nonzero": True, "channel_wise": True})),
              "postprocessing": chain(("Activationsd", {"sigmoid": True} if sigmoid else {"softmax": True}), ("AsDiscreted", {"threshold": 0.5}))}
    metadata = {"network_data_format": {"inputs": {"image": {"channel_def": {"0": "T1c", "1": "FLAIR"}}}, "outputs": {"pred": {
        "channel_def": {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"}}}}}
    w = weights(np.random.default_rng(1), 2, 4, 3, DOWN, UP)
    saved = collections.OrderedDict((k, Tensor(v)) for k, v in w.items())
    saved = {within: saved, "epoch": 3} if within else saved
    edit(config, metadata, saved)
    json.dump(config, open("bundle/configs/inference.json", "w"))
    json.dump(metadata, open("bundle/configs/metadata.json", "w"))
    save("bundle/models/model.pt", saved)
    return {k: v.astype("f4").astype("f8") for k, v in w.items()}
PY
    cat >agree.py <<'PY'
"""What infer makes of a volume (batch, channels, x, y, z) by `model` is what was to come, y."""
import mkstream, numpy as np, subprocess, sys
f = np.load("truth.npz")
x, want = (f[k][0].transpose(3, 0, 2, 1) for k in "xy")
meta = {"case": "a", "patient": "a", "slices": len(x), "modalities": sys.argv[1], "norm": "case", "spacing": "1 1 2.5"}
stream = mkstream.stream([("history", "nii2slices"), ("history", "znorm -p case")], [({**meta, "slice": z}, {"image": i}) for z, i in enumerate(x)])
p = subprocess.run(["infer", "-P", "-t", "none", "-m", "model"], input=stream, stdout=subprocess.PIPE, check=True)
got = np.stack([t["prob"] for _, _, _, t, _ in mkstream.parse(p.stdout) if t])
assert np.ptp(want, (0, 2, 3)).min() > 0.05 and np.abs(got - want).max() < 1e-5, np.abs(got - want).max()
PY
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_release "it is Python"
    need_python numpy
    cp "$BATS_FILE_TMPDIR"/*.py .
}

bundles() { # Python from standard input, with bundles.py's names
    PYTHONPATH=$ROOT/tests/lib:$PWD "$PYTHON" -c 'import sys
from bundles import *
exec(sys.stdin.read())' "$@"
}

agrees() { # MODALITIES
    PYTHONPATH=$ROOT/tests/lib "$PYTHON" agree.py "$1"
}

@test "monai2model: what infer finds by the model is what SegResNet computes, with regions in our order, or classes" {
    bundles <<'PY'
w = make()
x = np.random.default_rng(2).standard_normal((1, 2, 16, 12, 8)).astype("f4")
y = 1 / (1 + np.exp(-forward(w, x.astype("f8"), 2, DOWN, UP)))
np.savez("truth.npz", x=x, y=y[:, [1, 0, 2]])
PY
    "$PYTHON" "$ROOT/pipelines/monai2model" -o model bundle 2>err
    grep -q 'by windows' err
    infer -n -m model | tr '\t' ' ' >told
    [ "$(grep -cE '^(modalities t1gd,flair|scheme canonical|regions wt=1,2,3;tc=1,3;et=3|spacing 1 1 2.5 1 1 2.5|step znorm -p case)$' told)" = 5 ]
    agrees t1gd,flair
    rm model
    bundles <<'PY'
w = make(sigmoid=False, within="model")
f = np.load("truth.npz")
y = forward(w, f["x"].astype("f8"), 2, DOWN, UP)
p = np.exp(y - y.max(1, keepdims=True))
np.savez("truth.npz", x=f["x"], y=p / p.sum(1, keepdims=True))
PY
    "$PYTHON" "$ROOT/pipelines/monai2model" -s brats2017 -m t2,t1 -o model bundle 2>/dev/null
    agrees t2,t1
}

@test "monai2model: what our filters or networks have not is refused with the reason, and a checkpoint runs nothing" {
    bundles <<'PY'
tool = script("monai2model")
def net(config):
    return config["network_def"]
def chain(config, i, **what):
    config["preprocessing"]["transforms"][i].update(what)
for want, edit in [
        ("SwinUNETR", lambda c, m, s: net(c).update(_target_="SwinUNETR")),
        ("norm", lambda c, m, s: net(c).update(norm=["BATCH", {}])),
        ("act", lambda c, m, s: net(c).update(act="PRELU")),
        ("upsample_mode", lambda c, m, s: net(c).update(upsample_mode="deconv")),
        ("init_filters", lambda c, m, s: c.update(filters=10 ** 9)),
        ("blocks_down", lambda c, m, s: net(c).update(blocks_down=[1] * 99)),
        ("NormalizeIntensityd", lambda c, m, s: chain(c, 2, nonzero=False)),
        ("Orientationd", lambda c, m, s: chain(c, 0, _target_="Orientationd", axcodes="RAS")),
        ("CropForegroundd", lambda c, m, s: chain(c, 0, _target_="CropForegroundd")),
        ("no list of transforms", lambda c, m, s: c.update(preprocessing=3)),
        ("Activationsd", lambda c, m, s: c["postprocessing"]["transforms"].pop(0)),
        ("outputs", lambda c, m, s: m["network_data_format"]["outputs"]["pred"]["channel_def"].update({"0": "Edema"})),
        ("names of their own", lambda c, m, s: m["network_data_format"]["inputs"]["image"]["channel_def"].update({"0": "FLAIR"})),
        ("is missing", lambda c, m, s: s.pop("conv_final.0.bias")),
        ("wrong shape", lambda c, m, s: net(c).update(out_channels=3, in_channels=2, init_filters=8)),
        ("finite", lambda c, m, s: s["conv_final.0.bias"].a.fill(np.nan)),
        ("is missing", lambda c, m, s: s.update({"conv_final.0.bias": Bomb()}))]:
    make(edit=edit)
    why = attempt(tool, "bundle")
    assert why and want in why, (want, why)
make(sigmoid=False)
assert "-s SCHEME" in attempt(tool, "bundle")
make(edit=lambda c, m, s: s.update(more=Bomb()))
assert attempt(tool, "bundle") is None and not os.path.exists("bang")
make()
rounds = 3000 if os.environ.get("LONG") else 100
refused = damaged(tool, ["bundle"], "bundle/models/model.pt", ["bundle/configs/inference.json", "bundle/configs/metadata.json"], rounds)
assert refused > rounds // 4 and not os.path.exists("bang"), refused
PY
    touch there
    run -2 "$PYTHON" "$ROOT/pipelines/monai2model" -o there bundle
    run -2 "$PYTHON" "$ROOT/pipelines/monai2model" bundle
    run -1 "$PYTHON" "$ROOT/pipelines/monai2model" -o model nowhere
    [ "$output" = "monai2model: nowhere/configs/inference.json: No such file or directory" ]
}

@test "monai2model: a SegResNet that MONAI's own code made gives what it gives" {
    python=${PEERS:-$ROOT/build/peers}/bin/python
    "$python" -c 'import monai' 2>/dev/null || skip "it wants what make bench-peers installs"
    "$python" - <<'PY'
import json, monai, numpy as np, os, torch
torch.manual_seed(1)
kw = {"spatial_dims": 3, "init_filters": 8, "in_channels": 4, "out_channels": 3, "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1], "dropout_prob": 0.2}
net = monai.networks.nets.SegResNet(**kw)
step = torch.optim.SGD(net.parameters(), 1e-2)
net(torch.randn(1, 4, 32, 32, 16)).square().mean().backward()
step.step()
with torch.no_grad():
    for p in net.parameters():
        if p.dim() == 1:
            p.add_(0.2 * torch.randn_like(p))
    x = torch.randn(1, 4, 40, 32, 24)
    np.savez("truth.npz", x=x, y=net.eval()(x).sigmoid()[:, [1, 0, 2]])
for folder in "configs", "models":
    os.makedirs("bundle/" + folder)
torch.save(net.state_dict(), "bundle/models/model.pt")
chain = lambda *t: {"_target_": "Compose", "transforms": list(t)}
json.dump({"network_def": {"_target_": "SegResNet", **kw}, "preprocessing": chain({"_target_": "LoadImaged"}, {"_target_": "NormalizeIntensityd", "nonzero": True,
           "channel_wise": True}), "postprocessing": chain({"_target_": "Activationsd", "sigmoid": True})}, open("bundle/configs/inference.json", "w"))
json.dump({"network_data_format": {"inputs": {"image": {"channel_def": {"0": "T1c", "1": "T1", "2": "T2", "3": "FLAIR"}}}, "outputs": {"pred": {"channel_def": {
           "0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"}}}}}, open("bundle/configs/metadata.json", "w"))
PY
    "$PYTHON" "$ROOT/pipelines/monai2model" -o model bundle 2>/dev/null
    agrees t1gd,t1,t2,flair
}
