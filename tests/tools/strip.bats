# strip: a mask of others', voxel for voxel; a network's, on a model whose answer is known; what is refused, and what is warned of.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
}

# Python with niftis.py's names, np, a stream of a head: bright in a ball (1000), and around it in a shell (500).
headed() {
    PYTHONPATH="$ROOT/tests/lib" "$PYTHON" -c 'import struct, subprocess, sys
import niftis
from mkstream import np, stream, parse
SHAPE, MM = (40, 60, 50), (4.0, 3.0, 3.5) # z, y, x: 160 x 180 x 175 mm
def ball(radius, shape=SHAPE, mm=MM, at=(0, 0, 0)):
    r = [((np.arange(n) - (n - 1) / 2) * m - a) ** 2 for n, m, a in zip(shape, mm, at)]
    return r[0][:, None, None] + r[1][None, :, None] + r[2][None, None, :] < radius ** 2
def records(image, name="c", **keys):
    """image: (C,D,H,W)"""
    names = keys.pop("modalities", "flair,t1gd"[:5 if len(image) == 1 else 10])
    return [({"case": name, "patient": name, "slice": z, "slices": image.shape[1], "spacing": " ".join(f"{m:g}" for m in reversed(MM)),
              "modalities": names, "fingerprint": "00000000000000aa", "brain": "0 0 60 50", "mean": "1 1", "std": "1 1", **keys},
             {"image": image[:, z], "label": np.full(image.shape[2:], 3, "u1")}) for z in range(image.shape[1])]
def stripped(s, *options):
    r = subprocess.run(["strip", *options], input=s, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    sys.stdout.write(r.stderr.decode())
    assert r.returncode == 0
    return [(dict(m), t) for kind, at, m, t, ends in parse(r.stdout) if kind == "R"], r.stderr.decode()
def mask(path, m, **k):
    niftis.write(path, np.asarray(m, "u1").transpose(2, 1, 0), pixdim=(MM[2], MM[1], MM[0]), affine=np.diag([-MM[2], -MM[1], MM[0], 1]), **k)
exec(sys.stdin.read())' "$@"
}

dies() { # MESSAGE OPTIONS FILE: one line beside warnings, status 1
    run -1 --separate-stderr pipe "strip $2 <$3"
    stderr=$(grep -v ': warning: ' <<<"$stderr")
    [[ "$stderr" = "strip: "*"$1"* && "$(wc -l <<<"$stderr")" = 1 ]] || { echo "says $stderr"; false; }
}

@test "strip: by a mask of others' all modalities keep what is in it, and the keys tell of what is left" {
    headed <<'P'
rng = np.random.default_rng(1)
image = rng.integers(1, 900, (2, *SHAPE)).astype("i2")
m = ball(65, at=(0, 9, -14))
mask("m.nii.gz", m * 7)
s = stream({"history": "made"}, records(image))
got, said = stripped(s, "-k", "m.nii.gz")
want = image * m
assert said == "", said
on = np.argwhere(m)
y, x = on[:, 1], on[:, 2]
for (meta, t), z in zip(got, range(SHAPE[0])):
    assert (t["image"] == want[:, z]).all() and t["image"].dtype == np.dtype("i2") and (t["label"] == 3).all() and "mask" not in t
    assert meta["brain"] == f"{y.min()} {x.min()} {y.max() - y.min() + 1} {x.max() - x.min() + 1}" and meta["fingerprint"] == "00000000000000aa"
    for key, f in ("mean", np.mean), ("std", np.std):
        assert np.allclose([float(v) for v in meta[key].split()], [f(w[m].astype(float)) for w in want], rtol=1e-12), meta
got, _ = stripped(s, "-K", "-k", "m.nii.gz")
assert all((t["mask"] == m[int(meta["slice"])]).all() for meta, t in got)
# To be looked at: the scan stays, the label is the mask. Any number but 0 is brain.
niftis.write("part.nii.gz", np.asarray(m * .25, "f4").transpose(2, 1, 0), pixdim=(MM[2], MM[1], MM[0]), affine=np.diag([-MM[2], -MM[1], MM[0], 1]))
got, _ = stripped(s, "-l", "-k", "part.nii.gz")
for meta, t in got:
    z = int(meta["slice"])
    assert (t["image"] == image[:, z]).all() and (t["label"] == m[z]).all() and meta["scheme"] == "canonical" and meta["mean"] == "1 1"
# As programs write theirs: of other numbers and byte orders, its axes turned, its place in other digits.
place = np.array([[-MM[2], .02, 0, 90], [.03, -MM[1], .01, 80], [0, -.02, MM[0], -70], [0, 0, 0, 1]])
ours = niftis.header(SHAPE[::-1], "i2", affine=place, pixdim=(MM[2], MM[1], MM[0]))
placed = stream({}, [(a, {**b, "nifti": np.frombuffer(ours + bytes(4), "u1")}) for a, b in records(image)])
xyz, turn = m.transpose(2, 1, 0), np.diag([-1, -1, 1, 1.0])
turn[:2, 3] = SHAPE[2] - 1, SHAPE[1] - 1
for k, (kind, order) in enumerate([("u1", "<"), ("i1", ">"), ("i2", ">"), ("f4", "<"), ("f8", ">"), ("i4", "<")]):
    there = place @ turn if k % 2 else place
    niftis.write("other.nii.gz", (xyz[::-1, ::-1] if k % 2 else xyz).astype(kind), order=order, pixdim=(MM[2], MM[1], MM[0]), affine=there + np.array([[0, 0, 0, .05 * k]] + [[0] * 4] * 3), slope=k % 3)
    got, said = stripped(placed, "-k", "other.nii.gz")
    assert all((t["image"] == want[:, int(meta["slice"])]).all() for meta, t in got) and said == "", (kind, said)
niftis.write("far.nii.gz", xyz.astype("u1"), pixdim=(MM[2], MM[1], MM[0]), affine=place + np.array([[0, 0, 0, 1.0]] + [[0] * 4] * 3))
r = subprocess.run(["strip", "-k", "far.nii.gz"], input=placed, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
assert r.returncode == 1 and r.stderr.count(b"\n") == 1 and b"far.nii.gz: not on the grid of the scan (a corner lies 1 mm away, wanted 0.3 at most)" in r.stderr, r.stderr
# Of a brain that ends with the scan, and of a scan that shows less than the others, it is told.
m2, image2 = ball(70, at=(34, 0, 0)), image.copy()
image2[1, :22] = 0
mask("cut.nii.gz", m2)
lost = round(100 * m2[:22].sum() / m2.sum())
area = round(m2[-1].sum() * 3 * 3.5 / 100)
for keys, told in ({}, ["top", "t1gd"]), ({"missing": "t1gd"}, ["top"]):
    for look in (), ("-l",):
        _, said = stripped(stream({}, records(image2, **keys)), "-k", "cut.nii.gz", *look)
        assert said.splitlines() == [w for k, w in (("top", f"strip: warning: case c: the brain reaches the scan's top with {area} cm2: is an end of it missing?"),
                                                    ("t1gd", f"strip: warning: case c: t1gd shows nothing in {lost} % of the brain: is an end of it missing?")) if k in told], said
out = subprocess.run(["strip", "-k", "m.nii.gz"], input=s, stdout=subprocess.PIPE, check=True).stdout
assert ("history", "strip -k") in next(iter(parse(out)))[2]
# Slices in any order, cropped, with a margin that lies beyond: the mask lies where the crop says.
cut = [({**a, "crop": "-2 5 40 30 60 50"}, {"image": np.pad(b["image"], ((0, 0), (2, 0), (0, 0)))[:, :40, 5:35]}) for a, b in records(image)]
got, _ = stripped(stream({}, cut[::-1]), "-k", "m.nii.gz")
for meta, t in got:
    assert (t["image"] == np.pad(want[:, int(meta["slice"])], ((0, 0), (2, 0), (0, 0)))[:, :40, 5:35]).all()
P
}

@test "strip: a folder has a mask for each case, and an unlikely one is told of" {
    headed <<'P'
import os
os.mkdir("masks")
image = np.ones((1, *SHAPE), "f4")
whole, two = ball(40), ball(60, at=(0, 25, 0)) | ball(20, at=(0, -75, 0))
mask("masks/a.nii.gz", whole)
mask("masks/b.nii.gz", two)
s = stream({}, records(image, "a") + records(image, "b"))
got, said = stripped(s, "-k", "masks")
assert all((t["image"][0] == (whole if meta["case"] == "a" else two)[int(meta["slice"])]).all() for meta, t in got)
ml = int(round(whole.sum() * 4 * 3 * 3.5 / 1000))
assert said.splitlines()[0] == f"strip: warning: case a: a mask of {ml} ml is no likely brain (wanted 700 to 2200); look at it", said
assert "case b: the mask is in pieces: " in said and len(said.splitlines()) == 2, said
open("two", "wb").write(s)
open("one", "wb").write(stream({}, records(image, "a")))
open("part", "wb").write(stream({}, records(image, "a")[:5]))
open("normed", "wb").write(stream({}, records(image, "a", norm="case")))
mask("small.nii.gz", whole[:, :, :20])
mask("none.nii.gz", whole * 0)
mask("odd.nii.gz", whole)
b = bytearray(__import__("gzip").open("odd.nii.gz").read())
open("cut.nii", "wb").write(b[:2000])
P
    dies "masks/a.nii.gz is the mask of one case" "-k masks/a.nii.gz" two
    dies "small.nii.gz: not on the grid of the scan (wanted 50x60x40, got 20x60x40)" "-k small.nii.gz" one
    dies "case a: no brain in the mask" "-k none.nii.gz" one
    dies "cut.nii" "-k cut.nii" one
    dies "nothing.nii.gz" "-k nothing.nii.gz" one
    dies "the image is normalised already (norm=case; strip comes first)" "-k masks/a.nii.gz" normed
    run -2 strip -k a -m b <one
    run -2 strip <one
    run -2 strip -k a -c t1 <one
}

# A network of one round whose weights pass the image through the middle taps: so brain is what is bright, whatever the grid,
# and it is sure of that.
model() { # FILE
    headed "$1" <<'P'
import json, os
network = open(os.environ["ROOT"] + "/pipelines/networks/mindgrab.yaml").read()
header, data = {"__metadata__": {"model": "2", "arch": "mindgrab", "network": network, "parameters": "base=1 rounds=1", "weights": "f32",
    "classes": "2", "modalities": "any", "scheme": "brain", "patients": "", "leaky": "no", "generator": "test"}}, b""
w = np.zeros((1, 1, 3, 3, 3), "f4")
w[0, 0, 1, 1, 1] = 1
for name, a in [(f"r1.d{d}.conv.weight", w) for d in (16, 8, 4, 2, 1)] + [("head.weight", np.array([-10, 10], "f4").reshape(2, 1, 1, 1)),
                                                                         ("head.bias", np.array([5, -5], "f4"))]:
    header[name] = {"dtype": "F32", "shape": a.shape, "data_offsets": [len(data), len(data) + a.nbytes]}
    data += a.tobytes()
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
open(sys.argv[1], "wb").write(struct.pack("<Q", len(text)) + text + data)
P
}

@test "strip: by a network, at 1 mm and back, the largest piece without holes" {
    need_release "a network is slow under sanitizers"
    model m.safetensors
    headed <<'P'
SHAPE = (10, 20, 16) # small: 40 x 60 x 56 mm
brain = ball(18, SHAPE)
hole = ball(6, SHAPE)
flair = np.full(SHAPE, 5)
t1gd = np.where(brain & ~hole, 1000, 20)
t1gd[:, :2, :2] = 1000 # another piece, of 10 x 6 x 7 mm columns: 1.7 ml
image = np.stack([flair, t1gd]).astype("i2")
s = stream({}, records(image, brain="0 0 20 16"))
got, said = stripped(s, "-K", "-v", "-m", "m.safetensors")
m = np.zeros(SHAPE)
for meta, t in got:
    m[int(meta["slice"])] = t["mask"]
    assert (t["image"] == image[:, int(meta["slice"])] * t["mask"]).all()
inter = (m * brain).sum()
assert 2 * inter / (m.sum() + brain.sum()) > .9 and m[hole].all() and not m[:, :2, :2].any(), (inter, m.sum(), brain.sum())
assert "t1gd at 112x116x96 of 1 mm" in said and "is no likely brain" in said, said
out = subprocess.run(["strip", "-m", "m.safetensors", "-c", "t1gd", "-j", "1"], input=s, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
(_, _, top, _, _), *again = parse(out)
assert ("history", "strip -m mindgrab:unknown -c t1gd") in top
assert all((a["image"] == b["image"]).all() for (_, a), (kind, _, _, b, _) in zip(got, again) if kind == "R")
# Of two that are sure of other things both have to be.
other = np.where(brain | ball(18, SHAPE, at=(0, 14, 0)), 1000, 20)
for more, want in ((), m > 0), (("-c", "t1"), other > 500), (("-c", "t1,t1gd"), m > 0):
    got2, said = stripped(stream({}, records(np.stack([np.where(brain, 1000, 20), other]).astype("i2"), modalities="t1gd,t1", brain="0 0 20 16")), "-K", "-v", "-m", "m.safetensors", *more)
    m2 = np.stack([t["mask"] for _, t in sorted(got2, key=lambda r: int(r[0]["slice"]))])
    assert 2 * (m2 * want).sum() / (m2.sum() + want.sum()) > .88 and said.count(" of 1 mm") == (1 if more[1:] == ("t1",) else 2), (more, said)
# One that nobody has scanned is not looked at.
got, _ = stripped(stream({}, records(np.stack([image[1], image[1] * 0]), modalities="t1,t1gd", missing="t1gd", brain="0 0 20 16")), "-K", "-m", "m.safetensors")
assert all((t["mask"] == m[int(meta["slice"])]).all() for meta, t in got)
open("part", "wb").write(stream({}, records(image)[:5]))
open("flat", "wb").write(stream({}, records(image * 0 + 3)))
open("other", "wb").write(stream({}, records(image, modalities="t2,flair")))
open("large", "wb").write(stream({}, records(image, spacing="90 3 4")))
open("whole", "wb").write(s)
P
    dies "case c: 5 of 10 slices came (wanted all: the network sees the whole head)" "-m m.safetensors" part
    dies "case c: t1gd: nothing to tell brain by" "-m m.safetensors" flat
    dies "no modality 't1gd or t1' (wanted by -c, got t2,flair)" "-m m.safetensors" other
    dies "case c: the scan is too large (wanted sides of at most 512 mm, got 1440x60x40)" "-m m.safetensors" large
    dies "case c: " "-M 20M -m m.safetensors" whole
    dies "case c: the scan alone takes 1 MiB (wanted -M above that)" "-M 15K -m m.safetensors" whole
    "$PYTHON" -c "import sys; sys.stdout.buffer.write(open(\"m.safetensors\", \"rb\").read()[:-4])" >cut.safetensors
    dies "cut.safetensors: " "-m cut.safetensors" whole
    sed 's/"scheme": "brain"/"scheme": "brawn"/' m.safetensors >other.safetensors
    dies "other.safetensors: no network that tells brain from one modality" "-m other.safetensors" whole
}

@test "strip: the converter turns axes as it says, and refuses what is no MindGrab" {
    "$PYTHON" - <<'P'
import json, os
import numpy as np
r = np.random.default_rng(5)
def files(folder, base=2, rounds=1, **change):
    os.mkdir(folder)
    layers, weights, data, cin = [], [], b"", 1
    for i, d in enumerate([16, 8, 4, 2, 1] * rounds):
        layers.append({"class_name": "Conv3D", "config": {"name": f"conv3d_{i}_gn", "filters": base, "kernel_size": [3] * 3,
                       "dilation_rate": [change.get("dilation", d)] * 3, "use_bias": False}})
        weights.append((f"conv3d_{i}_gn/kernel", r.random((3, 3, 3, cin, base), dtype="f4")))
        cin = base
    layers.append({"class_name": "Conv3D", "config": {"name": "output", "filters": 2, "kernel_size": [1] * 3, "dilation_rate": [1] * 3, "use_bias": True}})
    weights += [("output/kernel", r.random((1, 1, 1, base, 2), dtype="f4")), ("output/bias", r.random(2, dtype="f4"))]
    json.dump({"modelTopology": {"model_config": {"config": {"layers": layers}}},
               "weightsManifest": [{"weights": [{"name": n, "shape": w.shape, "dtype": "float32"} for n, w in weights]}]}, open(folder + "/model.json", "w"))
    open(folder + "/model.bin", "wb").write(b"".join(w.tobytes() for _, w in weights)[:change.get("bytes")])
    return weights
weights = files("good")
files("short", bytes=100)
files("other", dilation=3)
import subprocess, struct
tool = os.environ["ROOT"] + "/pipelines/mindgrab"
subprocess.run([tool, "good", "m.safetensors"], check=True)
b = open("m.safetensors", "rb").read()
n = struct.unpack("<Q", b[:8])[0]
h = json.loads(b[8:8 + n])
for (name, w), key in zip(weights, [f"r1.d{d}.conv.weight" for d in (16, 8, 4, 2, 1)] + ["head.weight", "head.bias"]):
    lo, hi = h[key]["data_offsets"]
    got = np.frombuffer(b[8 + n + lo:8 + n + hi], "<f4").reshape(h[key]["shape"])
    # theirs (left, inferior, anterior), ours (superior, posterior, left)
    want = w if w.ndim == 1 else w.transpose(4, 3, 1, 2, 0)[:, :, ::-1, ::-1].reshape(got.shape)
    assert (got == want).all(), key
for folder in "short", "other", "none":
    p = subprocess.run([tool, folder, "no"], stderr=subprocess.PIPE)
    assert p.returncode == 1 and p.stderr.startswith(b"mindgrab: ") and p.stderr.count(b"\n") == 1, p.stderr
    assert not os.path.exists("no")
P
    infer -n -m m.safetensors | awk '$1 == "scheme"' | grep -q 'brain$'
}

@test "strip: the public network is what numpy computes of its published weights, within 1e-4" {
    need_data
    need_release "a network is slow under sanitizers"
    "$ROOT/pipelines/mindgrab" "$DATA/mindgrab" m.safetensors
    headed <<'P'
import json, os
from math import erf
folder = os.environ["DATA"] + "/mindgrab"
values, weights = np.fromfile(folder + "/model.bin", "<f4").astype("f8"), []
for w in json.load(open(folder + "/model.json"))["weightsManifest"][0]["weights"]:
    n = int(np.prod(w["shape"]))
    a, values = values[:n].reshape(w["shape"]), values[n:]
    weights.append(a if a.ndim == 1 else a[:, ::-1, ::-1].transpose(1, 2, 0, 3, 4))  # theirs (left, inferior, anterior), ours (z, y, x)
x = np.random.default_rng(1).random((12, 14, 18)).astype("f4")
x[:, :3] = 0
h = x[..., None].astype("f8")
for i, w in enumerate(weights[:-2]):
    d, out = (16, 8, 4, 2, 1)[i % 5], 0
    wide = np.pad(h, [(d, d)] * 3 + [(0, 0)])
    for k in np.ndindex(3, 3, 3):
        out = out + wide[tuple(slice(j * d, j * d + n) for j, n in zip(k, x.shape))] @ w[k]
    out = (out - out.mean((0, 1, 2))) / np.sqrt(out.var((0, 1, 2)) + 1e-5)
    h = out / 2 * (1 + np.vectorize(erf)(out / 2 ** .5))
logits = h @ weights[-2][0, 0, 0] + weights[-1]
want = 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))
s = stream({}, [({"case": "c", "patient": "c", "slice": z, "slices": 12, "spacing": "1 1 1", "modalities": "any", "brain": "0 0 14 18"}, {"image": v[None]}) for z, v in enumerate(x)])
out = subprocess.run(["infer", "-F", "-P", "-t", "none", "-m", "m.safetensors"], input=s, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
got = np.stack([t["prob"][1] for kind, _, _, t, _ in parse(out) if kind == "R"])
print("largest difference", np.abs(got - want).max(), "of probabilities from", want.min(), "to", want.max())
assert np.abs(got - want).max() < 1e-4 and want.max() - want.min() > .5
P
}
