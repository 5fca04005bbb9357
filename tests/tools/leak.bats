# A leak cannot go unseen: whom a scan shows, by name and by voxels, from nii2slices to dice.
load ../lib/common

# --- fingerprints ---------------------------------------------------------------------------------

@test "nii2slices: fingerprints are those of the specification, of each modality" {
    py <<'PY'
volumes = case("P1", volumes=[head(), head(dtype="f4", seed=2) * np.float32(-.37), head(dtype="u1", seed=3), head(seed=4)])
open("volumes", "wb").write(b"".join(v.astype("<f4").tobytes() for v in volumes))
PY
    nii2slices P1 >out
    nii2slices -t P1 >tumour
    py <<'PY'
M = 2 ** 64 - 1
def m(bits):
    x = bits * 0x9e3779b97f4a7c15 & M
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93 & M
    return x ^ x >> 32
raw = np.fromfile("volumes", "<u4").reshape(4, -1)
want = ",".join(f"{sum(m(int(b)) for b in v if b << 1 & 2 ** 32 - 1) & M:016x}" for v in raw)
for f in "out", "tumour":
    assert {k["fingerprint"] for k, _ in records(f)} == {want}, want
assert 0 < len(records("tumour")) < len(records("out"))
PY
}

@test "nii2slices: name, layout, dtype, scaling, orientation and margin leave a fingerprint as it is, one voxel changes it" {
    py <<'PY'
import json
def prints(*args):
    subprocess.run(["nii2slices", *args], stdout=open("out", "wb"), check=True)
    return {k["fingerprint"] for k, _ in records()}
v = case("P1")
(want,) = prints("P1")
same = lambda *args: prints(*args) == {want} or sys.exit(f"{args}: {prints(*args)}, not {want}")
for i, codes in enumerate(ALL):
    case(f"O{codes}", codes, volumes=v)
same(*[f"O{codes}" for codes in ALL])
for t in "i2", "i4", "f4", "f8", "u2":
    case(f"T{t}", volumes=[x.astype(t) for x in v], names="{}-t2f {}-t1n {}-t1c {}-t2w {}-seg")
    same(f"T{t}")
case("big", volumes=v, order=">", ending=".nii")
same("big")
case("scaled", volumes=[(2 * x - 6).astype("i2") for x in v], slope=.5, inter=3, seg=False)
same("scaled")
case("margin", volumes=[np.pad(x, ((2, 1), (0, 3), (1, 0))) for x in v], seg=False)
same("margin")
os.makedirs("msd/imagesTr")
affine = turned(v[0], "RAS")[1]
write("msd/imagesTr/X_1.nii.gz", np.stack([turned(x, "RAS")[0] for x in (v[1], v[0], v[3], v[2])], -1), affine=affine)
json.dump({"modality": {"0": "t1", "1": "flair", "2": "t2", "3": "t1gd"}}, open("msd/dataset.json", "w"))
same("-l", "msd", "msd")
write("one.nii", v[2], affine=np.diag((-1, -1, 1, 1)))
assert prints("-l", "file", "one.nii") == {want.split(",")[2]}
w = [x.copy() for x in v]
w[1][4, 3, 2] += 1
case("changed", volumes=w)
(got,) = prints("changed")
assert [a == b for a, b in zip(got.split(","), want.split(","))] == [True, False, True, True]
w[1][:], w[3][:] = 0, (w[3] > 0) * 7
case("mask", volumes=w)
(got,) = prints("mask")
assert got.split(",")[1] == got.split(",")[3] == "0" * 16
PY
}
