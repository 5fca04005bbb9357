load ../lib/common
load ../lib/records

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 3 -n 4 -e -d 48x32 >a.tns
}

@test "augment: what happens to a record does not hang on the records around it" {
    all="noise@1 brightness@1 contrast@1 gamma@0.5 gammainv@0.5 blur@0.5 lowres@0.5 rotate@0.5 scale@0.5 flip elastic@0.3
        stretch@0.5 biasfield@0.5 shift@0.5 anisotropy@0.5 histogram@0.5 cutout@0.5 -w 24x24 -f 0.5"
    epochs -b 0 -n 2 -s 1 a.tns | augment -s 3 $all >one.tns
    epochs -b 0 -n 2 -s 8 a.tns | augment -s 3 $all >two.tns
    epochs -b 0 -n 2 -s 1 -k 5 a.tns | augment -s 3 $all >rest.tns
    py <<'PY'
def table(path):
    return {(m["case"], m["slice"], m["epoch"]): t for m, t in read(path) if "mark" not in m}
one, two, rest = map(table, ("one.tns", "two.tns", "rest.tns"))
assert len(one) == len(two) == 24 and len(rest) == 19
for k in two:
    assert all((two[k][n] == one[k][n]).all() for n in two[k]), k
for k in rest:
    assert all((rest[k][n] == one[k][n]).all() for n in rest[k]), k
assert all((one[c, s, "0"]["image"] != one[c, s, "1"]["image"]).any() for c, s, _ in one)
PY
}

@test "augment: two runs give the same bytes, another seed others" {
    augment -s 1 noise@1 <a.tns >one.tns
    augment -s 1 noise@1 <a.tns >two.tns
    cmp one.tns two.tns
    augment -s 2 noise@1 <a.tns >two.tns
    run ! cmp one.tns two.tns
}

@test "augment: -T changes only slices that hold one of the labels" {
    augment -s 1 -T 1,3 noise@1 <a.tns >b.tns
    py <<'PY'
for (m, old), (_, new) in zip(read("a.tns"), read("b.tns")):
    rare = np.isin(old["label"], (1, 3)).any()
    assert rare == (int(m["slice"]) % 2 == 0) == (old["image"] != new["image"]).any()
    assert (old["label"] == new["label"]).all()
PY
}

@test "augment: the history spells out what was asked for, in the order of doing" {
    augment -s 4 -T 3 gamma=0.8:1.2@1 noise flip=x rotate=15@0.5 <a.tns >b.tns
    py <<'PY'
read("b.tns")
assert read.header == ["history=augment -s 4 -T 3 rotate=15:15@0.5 flip=x@0.5 noise=0:0.1@0.1 gamma=0.7:1.5@0.3".replace("0.7:1.5@0.3", "0.8:1.2@1")], read.header
PY
}

@test "augment: epoch marks pass through" {
    epochs -b 0 -n 2 a.tns | augment noise >b.tns
    py <<'PY'
assert [i for i, (m, t) in enumerate(read("b.tns")) if m.get("mark") == "epoch" and not t] == [12, 25]
PY
}

@test "augment: any number of threads gives the same bytes, with marks, segments and what stands behind the label" {
    all="rotate@0.5 elastic@0.5 noise@1 gamma@0.5 cutout@0.5"
    epochs -b 0 -n 2 -s 1 a.tns >one.tns
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 2 -n 3 -1 7 -r -k x-mine=x >two.tns
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 0 >none.tns
    # Behind the label little, which is taken along, and much, which goes straight from input to output.
    "$PYTHON" - <<'PY'
import os, sys
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
import blobs, numpy as np
r, out = np.random.default_rng(1), open("behind.tns", "wb")
out.write(blobs.record(b"H"))
for i, n in enumerate((5, 200000, 16000, 17000, 300000, 5)):
    out.write(blobs.record(b"R", {"case": "A", "patient": "A", "slice": i}.items(), [("image", r.random((2, 64, 96), np.float32)), ("label", np.eye(64, 96, dtype=np.uint8)), ("x", r.random(n, np.float32))], i))
out.write(blobs.record(b"E", count=6))
out.close()
PY
    cat one.tns none.tns two.tns behind.tns >in.tns
    augment -s 3 $all <in.tns >want.tns
    augment -s 3 -w 24x24 -f 0.4 $all <in.tns >window.tns
    for j in 2 3 7 16; do
        augment -s 3 -j $j $all <in.tns | cmp - want.tns
        dd bs=$((j * 9001)) status=none <in.tns | augment -s 3 -j $j -w 24x24 -f 0.4 $all | cmp - window.tns
    done
}

@test "augment: what is wrong is told of the first record that is, with any number of threads" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 5 -x >no.tns
    cat a.tns no.tns a.tns no.tns >in.tns
    for j in 1 2 5 16; do
        run -1 pipe "augment -j $j -T 1 noise@1 rotate@1 elastic@1 <in.tns >b.tns"
        [ "$output" = "augment: stdin: record 12 (P000 slice 0): no tensor 'label'" ]
    done
}

@test "augment: a window is cut out of image and label alike, and crop -u puts it back" {
    augment -s 5 -w 20x16 -f 0.5 <a.tns >b.tns
    crop -u <b.tns >u.tns
    crop -s 40x24 -F -p slice <a.tns >c.tns
    augment -s 5 -w 20x16 -f 0.5 <c.tns >d.tns
    py <<'PY'
places = set()
for (_, old), (m, new), (_, back) in zip(read("a.tns"), read("b.tns"), read("u.tns")):
    y, x, h, w, rows, columns = map(int, m["crop"].split())
    assert (h, w, rows, columns) == (20, 16, 48, 32) and 0 <= y <= 28 and 0 <= x <= 16
    assert (new["image"] == old["image"][:, y:y + h, x:x + w]).all()
    assert (new["label"] == old["label"][y:y + h, x:x + w]).all()
    there = np.zeros((48, 32), bool)
    there[y:y + h, x:x + w] = True
    assert (back["image"] == old["image"] * there).all() and (back["label"] == old["label"] * there).all()
    places.add((y, x))
assert len(places) > 8
# Of what was cropped before, it says where it lies on the whole.
for (_, old), (_, half), (m, new) in zip(read("a.tns"), read("c.tns"), read("d.tns")):
    y, x, h, w, rows, columns = map(int, m["crop"].split())
    assert (h, w, rows, columns) == (20, 16, 48, 32)
    assert (new["label"] == old["label"][y:y + h, x:x + w]).all() and m["cropped"]
PY
}

@test "augment: a share of windows lies on tumour, and epochs of windows say how large they are" {
    # A tumour of one pixel in a corner of large slices: no window finds it by chance.
    py <<'PY'
sys.path.insert(0, __import__("os").environ["ROOT"] + "/tests/lib")
import blobs
out = open("t.tns", "wb")
out.write(blobs.record(b"H"))
for i in range(100):
    label = np.zeros((96, 96), np.uint8)
    label[3, 90] = 3
    out.write(blobs.record(b"R", {"case": "A", "patient": "A", "slice": i}.items(), [("image", np.ones((1, 96, 96), np.float32)), ("label", label)], i))
out.write(blobs.record(b"E", count=100))
out.close()
PY
    for share in 0 0.33 1; do
        augment -s 1 -w 24x24 -f $share noise <t.tns >w$share.tns
    done
    py <<'PY'
# By chance in (24 - 20) * (24 - 17) of 73 * 73 places at most: 28 of 5329.
found = [sum(t["label"].any() for _, t in read(f"w{s}.tns")) for s in ("0", "0.33", "1")]
assert found[0] <= 4 and 33 - 24 < found[1] < 33 + 24 and found[2] == 100, found
PY
    epochs -b 0 -n 1 a.tns | augment -w 20x99 >e.tns
    py <<'PY'
assert {m["largest"] for m, _ in read("e.tns") if "mark" not in m} == {"20 32"}
PY
}

@test "augment: a prediction is not torn from its image" {
    "$PYTHON" - <<'PY'
import re
b = open("a.tns", "rb").read()
# The label of each record is called pred instead; both checks of the front are made anew.
import struct, zlib
b = bytearray(b)
at = 0
while at < len(b):
    m, nt, rest = *struct.unpack_from("<II", b, at + 12), struct.unpack_from("<Q", b, at + 24)[0]
    d = at + 64 + (m + 63) // 64 * 64
    if nt == 2:
        b[d + 128:d + 136] = b"pred\0\0\0\0"
        struct.pack_into("<I", b, at + 20, zlib.crc32(b[at + 64:d + 256]))
        struct.pack_into("<I", b, at + 60, zlib.crc32(b[at:at + 60]))
    at += 64 + rest
open("p.tns", "wb").write(b)
PY
    run -1 pipe 'augment flip <p.tns >b.tns'
    [[ $output == *"tear image and prediction apart"* ]]
    run -1 pipe 'augment -w 20x20 <p.tns >b.tns'
    [[ $output == *"tear image and prediction apart"* ]]
    augment noise <p.tns >b.tns
    run -1 pipe 'augment -T 1 noise <p.tns >b.tns'
    [[ $output == *"no tensor 'label'"* ]]
}

@test "augment: wrong usage is told apart from wrong data" {
    for wrong in nose noise=1:0 noise=-1:1 noise@0 noise@2 noise=x flip=z flip= lowres=0.5:2 noise=nan rotate=0:10@ 'noise noise'; do
        run -2 pipe "augment $wrong <a.tns >b.tns"
    done
    for wrong in '-T x noise' '-w 20 noise' '-w 0x4 noise' '-w 4x4x4 noise' '-f 0.5 noise' '-w 4x4 -f 2' '-j 0 noise' '-j 17 noise' 'histogram=2:4'; do
        run -2 pipe "augment $wrong <a.tns >b.tns"
    done
    run -1 pipe 'head -c 9000 a.tns | augment noise >b.tns'
}

@test "augment: stays within 8 MiB on full slices" {
    need_release "it needs more memory"
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 3 -d 240x240 >f.tns
    [ "$(peak_kib augment noise@1 blur@1 rotate@1 elastic@1 lowres@1 gamma@1 <f.tns)" -le 8192 ]
    # The page's law: with threads THREADS + 2 whole slices, and 12 bytes a pixel for each.
    slice=$((240 * 240 * 17))
    for j in 2 6; do
        "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 2 -n 8 -d 240x240 >f.tns
        kib=$(peak_kib augment -j $j noise@1 blur@1 rotate@1 elastic@1 lowres@1 gamma@1 <f.tns)
        [ "$kib" -le $((3072 + ((j + 2) * slice + j * 12 * 240 * 240) / 1024)) ]
    done
}

@test "augment: a slab is one thing: what is done to one of its slices is done to all, but for the noise of a pixel" {
    # Three slices that are one and, at the end, one of which every second modality is flat: where values decide
    # whether an operation does anything, they must not decide what is drawn for others.
    "$PYTHON" - <<'PY'
import os, sys
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
import blobs, numpy as np
image, label = blobs.one(np.random.default_rng(1), 40, 48, True, ["flair", "t1", "t1gd", "t2"])
flat = image.copy()
flat[[0, 2]] = 0
out, n = open("s.tns", "wb"), 0
out.write(blobs.record(b"H", [("history", "nii2slices")]))
for c in range(4):
    for z in range(4):
        k = {"case": f"C{c}", "patient": f"C{c}", "slice": z, "slices": 4, "modalities": "flair,t1,t1gd,t2", "scheme": "canonical"}
        out.write(blobs.record(b"R", k.items(), [("image", flat if z == 3 else image), ("label", label)], n))
        n += 1
out.write(blobs.record(b"E", count=n))
out.close()
PY
    all="rotate@0.5 scale@0.5 stretch@0.5 elastic@0.5 flip biasfield@0.5 blur@0.5 brightness@0.5 shift@0.5 contrast@0.5
        lowres@0.5 anisotropy@0.5 gammainv@0.5 gamma@0.5 histogram@0.5 cutout@0.5"
    epochs -b 0 -n 8 -d 4 s.tns >slabs.tns
    augment -s 1 -w 32x32 $all <slabs.tns >out.tns
    augment -s 1 -j 3 -w 32x32 $all <slabs.tns | cmp - out.tns
    augment -s 1 noise@1 <slabs.tns >noisy.tns
    epochs -b 0 -n 2 -N 1 s.tns | augment -s 1 $all >beside.tns
    py <<'PY'
def slabs(path):
    rows = [(m, t) for m, t in read(path) if "mark" not in m]
    while rows:
        n = int(rows[0][0]["depth"])
        yield rows[:n]
        rows = rows[n:]
same = lambda a, b: a["image"].tobytes() == b["image"].tobytes() and a["label"].tobytes() == b["label"].tobytes()
seen = set()
for slab in slabs("out.tns"):
    first = slab[0][1]
    assert same(first, slab[1][1]) and same(first, slab[2][1]) and (first["label"] == slab[3][1]["label"]).all()
    assert all((first["image"][k] == slab[3][1]["image"][k]).all() for k in (1, 3))
    assert {(m["crop"], m["largest"]) for m, _ in slab} == {(slab[0][0]["crop"], "4 32 32")}
    seen.add(first["image"].tobytes())
assert len(seen) == 32  # each slab, in each epoch, its own way
for slab in slabs("noisy.tns"):
    a, b = slab[0][1]["image"], slab[1][1]["image"]
    inside = (a != 0) & (b != 0)
    assert ((a != b)[inside]).mean() > 0.9
    # as strong in both: the deviation is the slab's
    clean = [u["image"] for m, u in read("s.tns") if m["slice"] == "0"][0]
    for k in range(4):
        da, db = ((x[k] - clean[k])[inside[k]].std() for x in (a, b))
        assert abs(da - db) < 0.15 * da, (da, db)
for slab in slabs("beside.tns"):
    assert all(same(slab[0][1], t) for m, t in slab[1:] if m["slice"] != "3")
PY
    # Of what one slice holds nothing hangs.
    for o in "-T 1,3" "-w 8x8 -f 0.5"; do
        run -1 pipe "augment $o noise <slabs.tns >x.tns"
        [[ $output == *"a slab is changed as one thing, whatever one of its slices holds"* ]]
    done
}

@test "augment: dropout empties each modality with its probability, never all, and the record says which" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 4 -n 60 -d 16x16 >many.tns
    augment -s 2 dropout=0.5 <many.tns >b.tns
    augment -s 2 dropout=1 <many.tns >one.tns
    augment -s 2 noise@1 dropout=0.5 <many.tns | augment -s 3 dropout=0.5@0.5 >twice.tns
    epochs -b 0 -n 1 -d 4 -s 1 many.tns | augment -s 2 dropout=0.5 >slabs.tns
    py <<'PY'
NAMES = ["flair", "t1", "t1gd", "t2"]
def said(m, t):
    empty = [n for n, p in zip(NAMES, t["image"]) if not p.any()]
    assert m.get("missing", "") == ",".join(empty), (m, empty)
    return empty
old, new = list(read("many.tns")), list(read("b.tns"))
assert read.header == ["history=augment -s 2 dropout=0.5:0.5@1"], read.header
sets, counts = set(), dict.fromkeys(NAMES, 0)
for (_, a), (m, b) in zip(old, new, strict=True):
    gone = said(m, b)
    sets.add(tuple(gone))
    for i, n in enumerate(NAMES):
        counts[n] += n in gone
        assert n in gone or (a["image"][i] == b["image"][i]).all()
    assert len(gone) < 4 and (a["label"] == b["label"]).all()
# Of the 16 sets that a fair coin gives the full one becomes one of three: 7/16 + 3/4 of 1/16 of 240 each, +- 4 deviations.
assert len(sets) == 15 and all(abs(c - 240 * (7 / 16 + 3 / 64)) < 31 for c in counts.values()), counts
# With 1 a single one is left, any of them.
left = [4 - len(said(m, t)) for m, t in read("one.tns")]
assert set(left) == {1} and len({m["missing"] for m, _ in read("one.tns")}) == 4
# What was missing before is not what is left.
for m, t in read("twice.tns"):
    assert len(said(m, t)) < 4
slabs = {}
for m, _ in read("slabs.tns"):
    if "mark" not in m:
        slabs.setdefault((m["case"], m["slab"], m["index"]), set()).add(m.get("missing"))
assert len(slabs) > 30 and all(len(s) == 1 for s in slabs.values()) and len(set.union(*slabs.values())) > 8
PY
    for j in 2 5; do augment -j $j -s 2 dropout=0.5 <many.tns | cmp - b.tns; done
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 1 -k missing=adc >odd.tns
    run -1 pipe 'augment dropout <odd.tns >b.tns'
    [ "$output" = "augment: stdin: record 0 (P000 slice 0): key 'missing': (wanted some of its modalities, got 'adc')" ]
}
