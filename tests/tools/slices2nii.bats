#!/usr/bin/env bats
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
}

@test "slices2nii: there and back in every orientation and byte order: voxels, header and extensions" {
    py <<'P'
ext = bytes([1, 0, 0, 0]) + struct.pack("<2i", 32, 4) + b"a comment".ljust(24, b"\0")
for i, codes in enumerate(ALL):
    case("P1", codes, order="<>"[i % 2], offset=400, ext=ext, slope=0)
    subprocess.run("nii2slices -P P1 | slices2nii -o out", shell=True, check=True)
    (h, d), (h2, d2) = load("P1/P1_seg.nii.gz"), load("out/P1.nii.gz")
    assert d.shape == d2.shape and (d == d2).all() and d2.dtype == "u1", codes
    assert [k for k in range(len(h)) if h[k] != h2[k]] in ([], [114, 115], [112, 113]) and len(h) == len(h2), codes
P
}

@test "slices2nii: a prediction has the scan's place in space, not its range of display nor its intent" {
    py <<'P'
ext = bytes([1, 0, 0, 0]) + struct.pack("<2i", 32, 4) + b"a comment".ljust(24, b"\0")
for order in "<>":
    put = dict(_56=("3f", 1, 2, 3), _68=("h", 5), _112=("2f", 2, 5), _124=("2f", 900, 10), _328=("16s", b"z score"), order=order, offset=400, ext=ext)
    case("P1", "PSR", seg=False, _39=("B", 0x39), _252=("2h", 1, 1), **put)
    subprocess.run("nii2slices -P P1 >s", shell=True, check=True)
    pred = [(m, {**t, "pred": np.full(t["image"].shape[1:], 3, "u1")}) for m, t in records("s")]
    open("p", "wb").write(mkstream.stream([], pred))
    subprocess.run("slices2nii -n pred -o out <p", shell=True, check=True)
    (h, _), (h2, d) = load("P1/P1_flair.nii.gz"), load("out/P1_pred.nii.gz")
    assert (d == 3).all() and d.dtype == "u1" and len(h) == len(h2)
    mine = {*range(56, 74), *range(112, 120), *range(124, 132), *range(328, 344)}
    assert all(h[k] == h2[k] for k in range(len(h)) if k not in mine)
    u = lambda f, at: struct.unpack_from(order + f, h2, at)
    assert u("3f", 56) == (0, 0, 0) and u("3h", 68) == (0, 2, 8) and u("2f", 112) == (1, 0) and u("2f", 124) == (0, 0) and not any(h2[328:344])
# An intent that says label stays with labels, and goes from an image.
case("P2", _68=("h", 1002), _328=("16s", b"tumour parts"))
for name, want in (("label", 1002), ("image", 0)):
    subprocess.run(f"nii2slices -P P2 | slices2nii -n {name} -o out", shell=True, check=True)
    h, _ = load("out/P2.nii.gz" if want else "out/P2_image.nii.gz")
    assert struct.unpack_from("<h", h, 68) == (want,) and any(h[328:344]) == bool(want)
P
}

@test "slices2nii: another tensor keeps its type and its channels" {
    py <<'P'
v = [head(seed=i).astype("f4") / 3 for i in range(4)]
case("P1", "PSR", volumes=v)
subprocess.run("nii2slices P1 | slices2nii -n image -o out", shell=True, check=True)
h, d = load("out/P1_image.nii.gz")
assert d.dtype == "f4" and (d == np.stack([turned(a, "PSR")[0] for a in v], -1)).all()
P
}

@test "slices2nii: missing slices become background, with a warning that counts them" {
    py <<'P'
case("P1")
r = subprocess.run("nii2slices -t P1 | slices2nii -o out", shell=True, check=True, stderr=subprocess.PIPE, text=True)
assert "4 of 6 slices" in r.stderr, r.stderr
assert (load("out/P1.nii.gz")[1] == mask()).all()
P
}

@test "slices2nii: a cropped label lies where it was" {
    py <<'P'
case("P1", "RAS")
subprocess.run("nii2slices P1 | crop -m 4 | slices2nii -o out", shell=True, check=True)
assert (load("out/P1.nii.gz")[1] == turned(mask(), "RAS")[0]).all()
P
}

@test "slices2nii: outside the box a prediction is background" {
    # The box of the case, which reaches over the slice; and one of each slice, which leaves bare what the one before had.
    py <<'P'
case("P1")
subprocess.run("nii2slices P1 | crop -m 4 >s", shell=True, check=True)
rs = records("s")
for name, box in ("one", lambda z: rs[0][0]["crop"]), ("each", lambda z: f"{z % 3} {z % 2} 4 5 7 8"):
    made, want = [], 0
    for z, (m, t) in enumerate(rs):
        y, x, h, w, H, W = map(int, box(z).split())
        made.append(({**m, "crop": box(z)}, {"nifti": t["nifti"], "pred": np.ones((h, w), "u1")}))
        want += (min(H, y + h) - max(0, y)) * (min(W, x + w) - max(0, x))
    open("p", "wb").write(mkstream.stream([], made))
    subprocess.run(f"slices2nii -n pred -o {name} <p", shell=True, check=True)
    d = load(f"{name}/P1_pred.nii.gz")[1]
    assert d.sum() == want and d.size > want > 0, (name, d.sum(), want)
P
}

@test "slices2nii: a map of uncertainty is a volume of floats, 0 outside the box, cropped or put back" {
    py <<'P'
case("P1", "PSR")
subprocess.run("nii2slices P1 | crop -m 4 >s", shell=True, check=True)
r = np.random.default_rng(4)
rs = [(m, {**t, "entropy": r.random(t["image"].shape[1:], "f4")}) for m, t in records("s")]
open("p", "wb").write(mkstream.stream([], rs))
subprocess.run("slices2nii -n entropy -o cut <p && crop -u <p >q && slices2nii -n entropy -o whole <q", shell=True, check=True)
y, x, h, w, H, W = map(int, rs[0][0]["crop"].split())
want = np.zeros((len(rs), H, W), "f4")
rows, columns = slice(max(y, 0), min(H, y + h)), slice(max(x, 0), min(W, x + w))
for i, (_, t) in enumerate(rs):
    want[i, rows, columns] = t["entropy"][rows.start - y:rows.stop - y, columns.start - x:columns.stop - x]
for f in "cut/P1_entropy.nii.gz", "whole/P1_entropy.nii.gz":
    head, d = load(f)
    assert d.dtype == "<f4" and (d == turned(want.transpose(2, 1, 0), "PSR")[0]).all()
    assert struct.unpack_from("<2f", head, 112) == (1, 0) # stored as they are
P
}

@test "slices2nii: mixed cases and any order of slices" {
    py <<'P'
case("P1"); case("P2", seg=mask(first=1, last=5))
subprocess.run("nii2slices P1 P2 >s", shell=True, check=True)
parts = [(k, p, t) for k, _, p, t, _ in mkstream.parse(open("s", "rb").read())]
rs = [(p, t) for k, p, t in parts if k == "R"]
rs = [rs[i] for i in np.random.default_rng(3).permutation(len(rs))]
open("mixed", "wb").write(mkstream.stream([], rs))
subprocess.run("slices2nii -o out <mixed", shell=True, check=True)
assert (load("out/P1.nii.gz")[1] == mask()).all() and (load("out/P2.nii.gz")[1] == mask(first=1, last=5)).all()
P
}

@test "slices2nii: -s writes canonical labels in a scheme, and refuses others" {
    py <<'P'
case("P1")
subprocess.run("nii2slices P1 | recode -s brats2017 | slices2nii -s brats2017 -o out", shell=True, check=True)
assert (load("out/P1.nii.gz")[1] == mask()).all()
subprocess.run("nii2slices P1 | recode -s brats2017 | slices2nii -s msd -o out", shell=True, check=True)
assert (load("out/P1.nii.gz")[1] == np.array([0, 2, 1, 0, 3])[mask()]).all()
r = subprocess.run("nii2slices P1 | slices2nii -s msd -o raw", shell=True, stderr=subprocess.PIPE, text=True)
assert r.returncode == 1 and "canonical" in r.stderr and not os.listdir("raw")
P
}

@test "slices2nii: a stream that is cut, damaged or comes twice leaves no file" {
    py <<'P'
case("P1"); case("P2")
subprocess.run("nii2slices P1 P2 >s", shell=True, check=True)
b = open("s", "rb").read()
flipped = bytearray(b); flipped[len(b) // 2] ^= 1
for bad in (b[:-64], b[:-1], b[:len(b) // 2], bytes(flipped), b + b, b""):
    open("bad", "wb").write(bad)
    r = subprocess.run("slices2nii -o out <bad", shell=True, stderr=subprocess.PIPE, text=True)
    assert r.returncode == 1 and len(r.stderr.splitlines()) == 1, r.stderr
    assert not os.path.exists("out") or os.listdir("out") == [], os.listdir("out")
P
}

@test "slices2nii: a slice that comes twice is refused by its number" {
    py <<'P'
case("P1")
subprocess.run("nii2slices P1 >s", shell=True, check=True)
rs = records("s")
for twice in (rs[:3] + rs[2:], rs[:3] + rs[:1], rs[:5] + rs[4:5]): # next to it, later, in the place of one that is missing
    open("bad", "wb").write(mkstream.stream([], twice))
    r = subprocess.run("slices2nii -o out <bad", shell=True, stderr=subprocess.PIPE, text=True)
    z = {7: 2, 4: 0, 6: 4}[len(twice)]
    assert r.returncode == 1 and f"slice {z} comes twice" in r.stderr and os.listdir("out") == [], r.stderr
P
}

@test "slices2nii: a case's name cannot lead out of the folder" {
    py <<'P'
case("P1")
subprocess.run("nii2slices P1 >s", shell=True, check=True)
for name in ("../P1", "/tmp/P1", ".hidden", "a/b", "", "x" * 300):
    rs = [({**m, "case": name}, t) for m, t in records("s")]
    open("bad", "wb").write(mkstream.stream([], rs))
    r = subprocess.run("slices2nii -o out <bad", shell=True, stderr=subprocess.PIPE, text=True)
    assert r.returncode == 1 and "no fit name" in r.stderr, (name, r.stderr)
    assert os.listdir("out") == []
P
}

@test "slices2nii: less than 8 MiB for a volume that is larger" {
    need_release "memory"
    need_command time
    py <<'P'
v = head((240, 240, 160))
case("P1", volumes=[v] * 4, seg=mask((240, 240, 160)), ending=".nii")
P
    nii2slices P1 >s
    kib=$(peak_kib sh -c 'exec slices2nii -o out <s')
    [ "$kib" -lt 8192 ] || { echo "$kib KiB"; return 1; }
}

@test "slices2nii: what a header tells of whom it shows goes nowhere, but where it is asked for; what regrid wrote stays" {
    py <<'P'
SECRET = b"SECRET^JANE"
# In the texts, and in all that nobody needs: what the standard has no use for, or no more, dimensions that are not there, a matrix that does not count.
texts = {f"_{at}": (f"{n}s", (SECRET * 9)[:n]) for at, n in ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16), (32, 7), (48, 8), (56, 12), (74, 2), (92, 16), (120, 3), (124, 24), (256, 24))}
def run(line):
    subprocess.run(line, shell=True, check=True)
def extension(order, code, text):
    text = text.ljust(-(-(len(text) + 8) // 16) * 16 - 8, b"\0")
    return struct.pack(order + "2i", len(text) + 8, code) + text
for order in "<>":
    for ours in b"", extension(order, 6, b"gliopipe regrid 1\n"):
        more = ours and extension(order, 6, b"gliopipe regrid 1\n\0" + SECRET)
        ext = b"\1SEC" + extension(order, 2, SECRET) + more + extension(order, 6, SECRET)
        case("P1", order=order, offset=352 + len(ext) - 4, ext=ext, **texts)
        run("nii2slices P1 >s; nii2slices -P P1 >kept")
        assert SECRET in open("kept", "rb").read() and b"SECRET" not in open("s", "rb").read()
        run("slices2nii -o out <s; slices2nii -c -n image -o out <s")
        for f in "out/P1.nii.gz", "out/P1/P1_flair.nii.gz":
            (h, d), (h2, d2) = load("P1/P1_seg.nii.gz" if "flair" not in f else "P1/P1_flair.nii.gz"), load(f)
            kept = {*range(4), *range(40, 48), *range(76, 92), 123, *range(252, 256), *range(280, 328), *range(344, 348)}
            mine = {*range(48, 56), *range(70, 74), *range(92, 120)}
            assert (d == d2).all() and all(h2[k] == (h[k] if k in kept else 0) for k in range(348) if k not in mine)
            assert struct.unpack_from(order + "4h", h2, 48) == (1,) * 4 and struct.unpack_from(order + "4f", h2, 92) == (1,) * 4
            assert struct.unpack_from(order + "3f", h2, 108) == (len(h2), 1, 0)
            assert h2[348:352] == bytes([bool(ours), 0, 0, 0]) and h2[352:] == ours, (order, ours, h2[348:])
# What regrid wrote and somebody has changed is told.
case("P2", offset=400, ext=bytes([1, 0, 0, 0]) + extension("<", 6, b"gliopipe regrid 1\nscan t1 1 2"))
assert b"extension is damaged" in subprocess.run(["nii2slices", "P2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).stderr
P
}

@test "slices2nii: the segmentations of real cases come back, with every other byte of the header" {
    need_data
    py <<'P'
import glob
segmentations = sorted(glob.glob(os.environ["DATA"] + "/brats/*/*_seg.nii.gz"))
assert segmentations
for f in segmentations:
    c = os.path.basename(os.path.dirname(f))
    subprocess.run(f"nii2slices -P '{os.path.dirname(f)}' | slices2nii -o out", shell=True, check=True)
    (h, d), (h2, d2) = load(f), load(f"out/{c}.nii.gz")
    assert (d == d2).all() and len(h) == len(h2), c
    assert {k for k in range(len(h)) if h[k] != h2[k]} <= {*range(70, 74), *range(112, 120), *range(124, 132)}, c
P
}

@test "slices2nii: what it wrote nii2slices reads back, and it comes out again to the byte" {
    py <<'P'
r = np.random.default_rng(7)
ext = bytes([1, 0, 0, 0]) + struct.pack("<2i", 32, 4) + b"a comment".ljust(24, b"\0")
def run(line, code=0):
    p = subprocess.run(line, shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.returncode == code, (line, p.stderr)
    return p.stderr
NAMES = ["", "_disagreement", "_entropy", "_image", "_pred"]
for i, codes in enumerate(("LPS", "PSR", "RAI")):
    case("A_1", codes, order="<>"[i % 2], offset=400, ext=ext); case("sub-02_pred_x", codes)
    run("nii2slices A_1 sub-02_pred_x >s")
    rs = [(m, {**t, "pred": r.integers(0, 4, t["label"].shape, "u1"), "entropy": r.random(t["label"].shape, "f4"),
               "disagreement": r.random(t["label"].shape, "f4")}) for m, t in records("s")]
    open("p", "wb").write(mkstream.stream([], rs))
    for n in "label", "image", "pred", "entropy", "disagreement":
        run(f"slices2nii -n {n} -o one <p")
    files = sorted(os.listdir("one"))
    assert files == sorted(c + n + ".nii.gz" for c in ("A_1", "sub-02_pred_x") for n in NAMES), files
    run("nii2slices -l slices2nii one >q")
    want = {(m["case"], m["slice"]): (m, t) for m, t in rs}
    got = records("q")
    assert len(got) == len(rs) == 12
    for m, t in got:
        wm, wt = want[m["case"], m["slice"]]
        assert {k: m.get(k) for k in wm} == wm, (m, wm)
        assert set(t) == set(wt) and all((t[k] == wt[k]).all() and t[k].dtype == wt[k].dtype for k in t if k != "nifti")
    for n in "label", "image", "pred", "entropy", "disagreement":
        run(f"slices2nii -n {n} -o two <q")
    assert sorted(os.listdir("two")) == files
    for f in files:
        assert open("one/" + f, "rb").read() == open("two/" + f, "rb").read(), (codes, f)
    run("rm -r one/*_image* two")
# A case by its name, or by that of one of its files; without image and label.
run("rm one/A_1.nii.gz")
for one in "one/A_1", "one/A_1_pred.nii.gz", "one/A_1_entropy.nii.gz":
    run(f"nii2slices -l slices2nii {one} | slices2nii -n pred -o two && cmp one/A_1_pred.nii.gz two/A_1_pred.nii.gz")
assert "no volumes of case B" in run("nii2slices -l slices2nii one/B >q", 1)
run("mkdir none")
assert "none: no images here" in run("nii2slices -l slices2nii none >q", 1)
# Maps and predictions are of one grid; a prediction has labels.
write("one/A_1_entropy.nii.gz", head((8, 7, 5)).astype("f4"), affine=turned(head(), "LPS")[1])
assert "A_1_entropy.nii.gz: not on the grid of one/A_1_pred.nii.gz" in run("nii2slices -l slices2nii one/A_1 >q", 1)
P
}

@test "slices2nii: -p writes files by the case's name alone, which nii2slices -p puts beside the scans" {
    py <<'P'
case("P1"); case("P2")
def run(line, code=0):
    p = subprocess.run(line, shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.returncode == code, (line, p.stderr)
    return p
run("nii2slices P1 P2 >s")
rs = [(m, {**t, "pred": np.roll(t["label"], 1, 0)}) for m, t in records("s")]
open("p", "wb").write(mkstream.stream([], rs))
run("slices2nii -p -n pred -o plain <p; slices2nii -n pred -o named <p")
assert sorted(os.listdir("plain")) == ["P1.nii.gz", "P2.nii.gz"]
for d in "plain", "named":
    run(f"nii2slices -p {d} P1 P2 >q")
    for (m, t), (wm, wt) in zip(records("q"), rs, strict=True):
        assert m == wm and set(t) == set(wt) and all((t[k] == wt[k]).all() for k in t)
# Scored, it is what it was.
run("recode -s brats2017 <p | dice >one.tsv; nii2slices -p plain P1 P2 | recode -s brats2017 | dice >two.tsv; cmp one.tsv two.tsv")
os.remove("plain/P2.nii.gz")
r = run("nii2slices -p plain P1 P2 >q", 1)
assert r.stderr == "nii2slices: plain: no prediction of P2 (wanted P2_pred.nii.gz or P2.nii.gz)\n", r.stderr
P
}
