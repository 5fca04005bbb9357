# measure: sizes of shapes that are known, of random ones against numpy, and what has changed since a table before.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
}

# Python from standard input, with np and one(case, volume, keys): a stream of one case; and rows(stream, options): what measure says.
py() {
    PYTHONPATH="$ROOT/tests/lib" "$PYTHON" -c 'import json, subprocess, sys
from itertools import product
from math import hypot, sqrt, nan, isnan
from components import components
from mkstream import np, stream
def one(case, volume, tensor="pred", **keys):
    records = []
    for z, v in enumerate(volume):
        meta = {"case": case, "patient": case.split("-")[0], "slice": z, "slices": len(volume), "scheme": "canonical", "spacing": "1 1 1", **keys}
        records.append((meta, {tensor: v.astype("u1")}))
    return stream({"history": "made"}, records)
def table(s, *options):
    return subprocess.run(["measure", *options], input=s, stdout=subprocess.PIPE, check=True).stdout.decode()
def rows(s, *options):
    head, *lines = (l.split("\t") for l in table(s, *options).splitlines())
    return [dict(zip(head, l)) for l in lines]
def near(a, b, within=1e-6):
    assert abs(float(a) - b) <= within * max(1, abs(b)), (a, b)
exec(sys.stdin.read())' "$@"
}

@test "measure: boxes, discs and balls have the sizes that geometry says" {
    py <<'P'
def et(s, *options):
    return [r for r in rows(s, *options) if r["row"] == "lesion"]

# A box of 20 x 12 x 4 mm: its diagonal, and the longest line at a right angle to that between its long sides.
v = np.zeros((8, 40, 40))
v[2:6, 10:22, 5:25] = 3
r, = et(one("box", v))
near(r["longest"], hypot(20, 12)), near(r["across"], 12 * hypot(20, 12) / 20), near(r["ml"], .96)
assert (r["slice"], r["measurable"], r["z_first"], r["z_last"], r["y_first"], r["x_last"]) == ("2", "yes", "2", "5", "10", "24"), r
near(r["z"], 3.5), near(r["y"], 15.5), near(r["x"], 14.5)
# The same in voxels of 0.5 x 2 x 3 mm (x, y, z): 10 x 24 x 12 mm.
r, = et(one("box", v, spacing="0.5 2 3"))
near(r["longest"], hypot(10, 24)), near(r["across"], 10 * hypot(10, 24) / 24), near(r["ml"], 10 * 24 * 12 / 1000)
# A ball of 30 mm, hollow: the rim counts with what it encloses, the volume does not.
z, y, x = np.ogrid[-20:21, -20:21, -20:21]
q = z * z + y * y + x * x
r, = et(one("ball", np.where((q < 225) & (q >= 100), 3, np.where(q < 225, 1, 0))))
near(r["longest"], 30, .05), near(r["across"], 30, .05), near(r["ml"], 4 / 3 * np.pi * (3.375 - 1), .02)
assert 17 <= int(r["slice"]) <= 20  # of equals the first
# An ellipse at an angle: its axes.
y, x = np.ogrid[-40:41, -40:41]
u, w = x * .8 + y * .6, y * .8 - x * .6
r, = et(one("ellipse", np.where((u / 30) ** 2 + (w / 12) ** 2 < 1, 3, 0)[None].repeat(2, 0)))
near(r["longest"], 60, .03), near(r["across"], 24, .06)
P
}

@test "measure: parts, boxes, centres and diameters of random volumes are numpy's" {
    py <<'P'
r = np.random.default_rng(3)

def diameters(voxels, mm):
    """By all corners of all voxels: the two furthest apart, and lines across through each of them, clipped by every half-plane
    that two corners make with all others on one side."""
    p = np.unique(np.concatenate([voxels + c for c in product((0, 1), repeat=2)]), axis=0) * mm
    d = p[:, None] - p[None]
    far = np.sqrt((d ** 2).sum(2))
    planes = []
    for i, j in np.argwhere(far > 0):
        n = np.array([-d[j, i][1], d[j, i][0]]) / far[i, j]
        if ((p - p[i]) @ n <= 1e-9).all():
            planes.append((n, p[i] @ n))
    normals, limits = np.array([n for n, _ in planes]), np.array([l for _, l in planes])
    best = 0
    for i, j in np.argwhere(far > far.max() - 1e-9):
        u = np.array([-d[i, j][1], d[i, j][0]]) / far[i, j]
        for q in p:
            along, room = normals @ u, np.maximum(limits - normals @ q, 0)
            high = min(room[along > 1e-12] / along[along > 1e-12])
            low = min(room[along < -1e-12] / -along[along < -1e-12])
            best = max(best, high + low)
    return far.max(), best

for k in range(4):
    v = r.choice(5, (3, 7, 9), p=(.6, .1, .1, .15, .05))
    mm = r.choice((.5, 1, 2.5), 3)
    got = rows(one("a", v, spacing=f"{mm[2]} {mm[1]} {mm[0]}"))
    for name, labels in ("1", [1]), ("2", [2]), ("3", [3]), ("4", [4]), ("WT", [1, 2, 3]), ("TC", [1, 3]), ("ET", [3]):
        row, = [g for g in got if g["row"] == "part" and g["part"] == name]
        at = np.argwhere(np.isin(v, labels))
        near(row["ml"], len(at) * mm.prod() / 1000)
        assert int(row["components"]) == len(components(np.isin(v, labels)))
        for a, axis in enumerate("zyx"):
            near(row[axis], at[:, a].mean())
            assert (int(row[axis + "_first"]), int(row[axis + "_last"])) == (at[:, a].min(), at[:, a].max())
    want = []
    for c in map(np.array, components(v == 3)):
        best = (0, 0, 0)
        for z in sorted(set(c[:, 0])):
            mask = np.zeros(v.shape[1:], bool)
            mask[tuple(c[c[:, 0] == z][:, 1:].T)] = True
            for piece in map(np.array, components(mask)):
                l, a = diameters(piece, mm[1:])
                best = (l, a, z) if l * a > best[0] * best[1] * (1 + 1e-9) else best
        want.append((best[0] * best[1], len(c)))
    have = [g for g in got if g["row"] == "lesion"]
    assert len(have) == len(want)
    for g, (area, n) in zip(have, sorted(want, reverse=True)):
        near(g["product"], area)
    total, = [g for g in got if g["row"] == "sum"]
    near(total["product"], sum(float(g["product"]) for g in have if g["measurable"] == "yes"))
P
}

@test "measure: what is measurable depends on both diameters, the slices and their distance" {
    py <<'P'
def yes(shape, **keys):
    v = np.zeros((6, 40, 40))
    v[tuple(slice(2, 2 + n) for n in shape)] = 3
    return [(x["measurable"], x["product"]) for x in rows(one("a", v, **keys)) if x["row"] in ("lesion", "sum")]
(m, p), (_, s) = yes((2, 10, 10), spacing="1 1 5")
assert m == "yes" and p == s
(m, p), (_, s) = yes((2, 9, 20), spacing="1 1 5")  # the line across is 9.9
assert m == "no" and s == "0"
assert yes((1, 10, 10), spacing="1 1 5")[0][0] == "no"  # one slice
assert yes((4, 10, 10))[0][0] == "yes"
assert yes((2, 10, 10))[0][0] == "no"  # a film: 200 mm3 of 1571
def shape(v):
    return [x["measurable"] for x in rows(one("a", v)) if x["row"] == "lesion"]
v = np.zeros((12, 40, 40))
v[2:8, 10, 10] = v[5, 8:20, 8:20] = 3  # wide enough on one slice, of six
assert shape(v) == ["no"]
v[:] = 0
for i in range(16):  # a web of 0.1 ml on four
    v[2:6, 4 + i, 4 + i] = v[2:6, 4 + i, 19 - i] = 3
assert shape(v) == ["no"]
z, y, x = np.indices((24, 40, 40)) - np.array([12, 20, 20]).reshape(3, 1, 1, 1)
r = np.sqrt(z * z + y * y + x * x)
v = np.where((r > 9) & (r <= 10), 3, 0)  # a rim of a millimetre is no web
assert shape(v) == ["yes"]
assert yes((2, 11, 11), spacing="1 1 6")[0][0] == "yes"  # 15.6 mm, of 12
assert yes((2, 8, 8), spacing="1 1 6")[0][0] == "no"  # 11.3 mm
# -k: the largest alone; -n: what touches at a corner is two
v = np.zeros((9, 60, 60))
v[:8, 2:22, 2:22] = v[:8, 22:34, 22:34] = v[:8, 40:55, 40:55] = 3
def total(*options):
    return [x for x in rows(one("a", v), *options) if x["row"] == "sum"][0]
assert [total()["components"], total("-n", "6")["components"], total("-k", "1", "-n", "6")["components"]] == ["2", "3", "1"]
near(total("-k", "1", "-n", "6")["product"], 800), near(total("-n", "6")["product"], 800 + 288 + 450)
P
}

@test "measure: change since a table before, and RANO's category by imaging" {
    py <<'P'
def cube(n, label=3):
    v = np.zeros((30, 60, 60))
    if n:
        v[:n, :n, :n] = label
    return v
def change(before, after):
    open("before.tsv", "w").write(table(one("P1-000", before)))
    got = rows(one("P1-001", after), "-b", "before.tsv")
    et, = [g for g in got if g["row"] == "part" and g["part"] == "ET"]
    total, = [g for g in got if g["row"] == "sum"]
    return et, total
et, total = change(cube(20), cube(20))
assert (et["change"], et["category"], total["change"], total["category"]) == ("0", "stable", "0", "stable")
et, total = change(cube(20), cube(14))  # 8 ml, 800 mm2; 2.744 ml, 392 mm2
assert (et["category"], total["category"]) == ("partial response", "partial response")
near(et["change"], -65.7), near(total["change"], -51), near(total["baseline"], 800)
et, total = change(cube(20), cube(15))  # 3.375 ml, 450 mm2
assert (et["category"], total["category"]) == ("stable", "stable")
et, total = change(cube(20), cube(23))  # 12.167 ml, 1058 mm2
assert (et["category"], total["category"]) == ("progression", "progression")
et, total = change(cube(20), cube(22))  # 10.648 ml, 968 mm2
assert (et["category"], total["category"]) == ("stable", "stable")
et, total = change(cube(20), cube(20, 1))
assert (et["category"], total["category"], et["change"]) == ("complete response", "complete response", "-100")
et, total = change(cube(0), cube(20))
assert (et["category"], total["category"], et["change"]) == ("progression", "progression", "nan")
et, total = change(cube(3), cube(4))  # too small for diameters
assert (et["category"], total["category"]) == ("progression", "not measurable")
et, total = change(cube(0), cube(0))
assert (et["category"], total["category"]) == ("none", "none")
# JSON says the same.
s = one("P1-001", cube(14))
for a, b in zip(rows(s), json.loads(table(s, "-J"))):
    assert list(a) == list(b)
    for k in a:
        assert b[k] is None and a[k] == "nan" or a[k] == str(b[k]) or abs(float(a[k]) - b[k]) < 1e-9, (k, a[k], b[k])
# A patient is known by name, in capitals or not.
assert {x["baseline"] for x in rows(one("p1-001", cube(14)), "-b", "before.tsv") if x["part"] == "ET" and x["row"] == "sum"} == {"0"}
open("two.tsv", "w").write(table(one("P1-000", cube(20))) + table(one("p1-001", cube(20))).split("\n", 1)[1])
e = subprocess.run(["measure", "-b", "two.tsv"], input=one("P1", cube(2)), capture_output=True)
assert e.returncode == 1 and b"patient 'p1' has two cases, P1-000 and p1-001" in e.stderr
# Of next to nothing the change is no number that JSON has.
t = table(one("P1-000", cube(20))).replace("\t8\t", "\t1e-320\t")
open("least.tsv", "w").write(t)
assert [x["change"] for x in json.loads(table(s, "-J", "-b", "least.tsv")) if x["row"] == "part" and x["part"] == "ET"] == [None]
# Labels, and a rectangle of a larger scan.
v = cube(20)[:, :32, :32]
a, b = rows(one("P1", v, "label", crop="8 -2 32 32 60 50"), "-l"), rows(one("P1", v))
assert a[0]["ml"] == b[0]["ml"]
near(a[2]["ml"], 20 * 20 * 18 / 1000)
assert (a[2]["y_first"], a[2]["x_first"], a[2]["x_last"]) == ("8", "0", "17")
P
}

@test "measure: what is wrong is one line" {
    py <<'P'
def says(s, *options):
    r = subprocess.run(["measure", *options], input=s, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == 1, r
    return r.stderr.decode().strip()
v = np.zeros((2, 8, 8))
assert "not canonical" in says(one("a", v, scheme="msd"))
v[0, 1, 2] = 16
assert "pred: value outside the scheme (wanted 0 to 15, got 16 at row 1, column 2)" in says(one("a", v))
v[:] = 3
good = one("a", v)
open("no.tsv", "w").write("row\tcase\n")
assert says(good, "-b", "no.tsv") == "measure: no.tsv: no column 'patient' (wanted a table of measure)"
t = table(one("a-1", v)).splitlines()
open("two.tsv", "w").write("\n".join(t + table(one("a-2", v)).splitlines()[1:]) + "\n")
assert says(good, "-b", "two.tsv").startswith("measure: two.tsv: line 10: patient 'a' has two cases, a-1 and a-2")
open("bad.tsv", "w").write("\n".join(t).replace("0.128", "0x2") + "\n")
assert "column 'ml': (wanted a number of 0 or more, got '0x2')" in says(good, "-b", "bad.tsv")
open("cut.tsv", "w").write("\n".join(t[:2])[:-9] + "\n")
assert "(wanted 25 columns, as the first line has)" in says(good, "-b", "cut.tsv")
assert "lack slices" in subprocess.run(["measure"], input=stream({"history": "m"}, [({"case": "a", "slice": 0, "slices": 2, "scheme": "canonical",
    "spacing": "1 1 1"}, {"pred": v[0].astype("u1")})]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True).stderr.decode()
P
}

@test "stats: counts labels, or with -n pred what was predicted, as measure does" {
    py <<'P'
v = np.zeros((4, 9, 9))
v[1, 2:5, 2:8], v[2, 2, 2:4] = 2, 3
s = one("a", v, spacing="2 1 1")
out = subprocess.run(["stats", "-n", "pred"], input=s, stdout=subprocess.PIPE, check=True).stdout.decode()
head, *lines = (l.split("\t") for l in out.splitlines())
got = {r[1]: dict(zip(head, r)) for r in lines}
assert [(got[k]["voxels"], got[k]["mm3"], got[k]["tumour_slices"]) for k in "23"] == [("18", "36.0", "2"), ("2", "4.0", "2")]
for r in rows(s):
    if r["part"] in "123":
        near(got[r["part"]]["mm3"], float(r["ml"]) * 1000)
# A stream of predictions alone has no labels.
def says(s):
    p = subprocess.run(["stats", "-n", "pred"], input=s, capture_output=True)
    assert p.returncode == 1 and p.stderr.count(b"\n") == 1, p
    return p.stderr.decode()
for bad in ("-1 1 1", "0 1 1", "1 1e300 1"):
    assert "key 'spacing': (wanted millimetres above 0, got " in says(one("a", v, spacing=bad))
meta = {"case": "a", "scheme": "canonical"}
assert "record 1 (a): the case's spacing changes" in says(stream({"history": "m"}, [({**meta, "spacing": x}, {"pred": v[0].astype("u1")}) for x in ("1 1 1", "1 1 2")]))
out = subprocess.run(["stats", "-n", "pred"], input=one("a\tb", v), stdout=subprocess.PIPE, check=True).stdout.decode()
assert [len(l.split("\t")) for l in out.splitlines()] == [8] * 5 and "\na?b\t0" in out
assert subprocess.run(["stats"], input=s, stdout=subprocess.PIPE, stderr=subprocess.PIPE).returncode == 1
P
}

@test "measure: how uncertain each part is, where the stream says so" {
    py <<'P'
r = np.random.default_rng(3)
p, e = r.integers(0, 4, (3, 8, 9)).astype("u1"), r.random((3, 8, 9), "f4")
def case(**maps):
    meta = {"case": "A", "slices": 3, "scheme": "canonical", "spacing": "1 1 1"}
    return stream([], [({**meta, "slice": z}, {"pred": p[z], **{k: m[z] for k, m in maps.items()}}) for z in range(3)])
labels = {"1": [1], "2": [2], "3": [3], "WT": [1, 2, 3], "TC": [1, 3], "ET": [3]}
for row in rows(case(entropy=e)):
    if row["row"] == "part":
        near(row["entropy"], e[np.isin(p, labels[row["part"]])].mean(dtype=float))
    else:
        assert row["entropy"] == "nan"
assert {row["entropy"] for row in rows(case())} == {"nan"}
e[1, 2, 3] = 1.5
bad = subprocess.run(["measure"], input=case(entropy=e), capture_output=True)
assert bad.returncode == 1 and b"entropy: (wanted 0 to 1, got 1.5)" in bad.stderr, bad.stderr
P
}
