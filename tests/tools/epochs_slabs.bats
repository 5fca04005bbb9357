load ../lib/common
load ../lib/records

# Rows of slices: slabs (-d), slices with their neighbours (-N), and data in several files.

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
    i=0
    for n in 12 3 5 7; do
        "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n $n -1 $i -e -d 8x8 -l nii2slices
        i=$((i + 1))
    done >a.tns
}

# What comes, as a list of items: (epoch, index, case, first, depth, numbers of slices, repeat, centre); each
# checked to be of one case in rising order, with the same keys in all its records.
items() {
    cat <<'PY'
def items(path):
    rows, out = [(m, t) for m, t in read(path) if "mark" not in m], []
    while rows:
        m, d = rows[0][0], int(rows[0][0]["depth"])
        row, rows = rows[:d], rows[d:]
        for i, (k, _) in enumerate(row):
            assert int(k["slice"]) == int(m["slab"]) + i, (k, m)
            for key in ("epoch", "index", "length", "case", "slab", "depth", "repeat", "centre", "largest"):
                assert k.get(key) == m.get(key), (key, k, m)
        out.append((int(m["epoch"]), int(m["index"]), m["case"], int(m["slab"]), d, [int(k["slice"]) for k, _ in row],
                    int(m.get("repeat", 0)), m.get("centre"), int(m["length"]), m["largest"], [t["label"].max() for _, t in row]))
    return out
PY
}

@test "epochs: -d gives slabs: every slice comes in each pass, at the ends as often as in the middle, and the cuts lie elsewhere in each" {
    epochs -b 0 -n 60 -s 1 -d 5 a.tns >s.tns
    { items; cat <<'PY'; } >check
slices, want = {"P000": 12, "P001": 3, "P002": 5, "P003": 7}, {"P000": 4, "P001": 1, "P002": 1, "P003": 3}
often, begins, of = {}, {}, items("s.tns")
assert len(of) == 60 * 9 and [i[1] for i in of] == list(range(9)) * 60
for epoch in range(60):
    now = [i for i in of if i[0] == epoch]
    for case, n in slices.items():
        mine = [i for i in now if i[2] == case]
        assert len(mine) == want[case] and all(i[4] == min(5, n) for i in mine)
        times = [sum(z in i[5] for i in mine) for z in range(n)]
        assert min(times) >= 1 and (n > 5 or set(times) == {1}), times
        often[case] = np.array(times) + often.get(case, 0)
        begins.setdefault(case, set()).update(i[3] for i in mine)
    assert all(i[8:10] == (9, "5 8 8") for i in now)
# At the ends as often as in the middle, as much as chance allows; behind the ends at most twice as often.
o = often["P000"] / 60
assert max(abs(o[i] - 20 / 16) for i in (0, 11, 5, 6)) < 0.2 and max(o) < 2 * 20 / 16, o
assert begins["P000"] == set(range(8)) and begins["P003"] == {0, 1, 2}, begins
# Shuffled: no two passes begin alike for long.
assert len({tuple(i[2:4] for i in of[e * 9:e * 9 + 4]) for e in range(60)}) > 30
PY
    py <check
    # The order hangs on the seed and the epoch alone; -k and marks count slabs.
    epochs -b 0 -n 60 -s 1 -d 5 a.tns | cmp - s.tns
    epochs -b 0 -n 4 -s 2 -d 5 a.tns >all.tns
    epochs -b 0 -n 4 -s 2 -d 5 -k 13 a.tns >rest.tns
    { items; cat <<'PY'; } >check
assert items("all.tns")[13:] == items("rest.tns")
marks = [m for m, _ in read("all.tns") if m.get("mark")]
assert len(marks) == 4 and {(m["index"], m["length"]) for m in marks} == {("9", "9")}
assert items("all.tns")[:9] != items("s.tns")[:9]
PY
    py <check
    run -1 pipe 'epochs -b 0 -n 2 -d 5 -k 19 a.tns >x.tns'
    [[ $output == *"-k 19 is past the end (2 epochs of 9 slabs)"* ]]
    # A slab of one slice is a slice.
    epochs -b 0 -n 2 -d 1 a.tns >one.tns
    { items; echo 'assert sorted((i[2], i[3]) for i in items("one.tns")[:27]) == sorted((f"P{c:03}", z) for c, n in enumerate((12, 3, 5, 7)) for z in range(n))'; } | py
}

@test "epochs: shares, lengths and weights are of slabs" {
    # One slice of twelve with a tumour, in one case of four.
    "$PYTHON" - <<'PY'
import os, sys
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
import blobs, numpy as np
out, n = open("c.tns", "wb"), 0
out.write(blobs.record(b"H"))
for c in "ABCD":
    for z in range(12 if c < "C" else 24):
        label = np.zeros((8, 8), np.uint8)
        label[3, 3] = 1 if c == "A" and z == 6 else 3 if c == "B" and z == 0 else 0
        out.write(blobs.record(b"R", {"case": c, "patient": c, "slice": z}.items(), [("image", np.ones((1, 8, 8), np.float32)), ("label", label)], n))
        n += 1
out.write(blobs.record(b"E", count=n))
out.close()
PY
    epochs -n 6 -s 1 -d 4 -l 20 -b 0.5 -B 4 -T 1,3 c.tns >b.tns
    epochs -n 6 -s 1 -d 4 -l 20 -b 0.5 -c -B 4 -T 1,3 c.tns >by.tns
    epochs -b 0 -n 12 -s 1 -d 4 -p c.tns >p.tns
    printf 'A\t0\n' >weights
    epochs -n 6 -s 1 -d 4 -b 1 -T 3,1 -w weights c.tns >w.tns
    { items; cat <<'PY'; } >check
b = items("b.tns")
assert len(b) == 120 and {i[8] for i in b} == {20}
for at in range(0, 120, 4):
    assert sum(max(i[10]) > 0 for i in b[at:at + 4]) >= 2, at
# Held wherever in the slab, so that the cuts of those that are dealt differ too.
assert len({i[3] for i in b if i[2] == "A" and 1 in i[10]}) == 4
by = items("by.tns")
for at in range(0, 120, 4):
    assert [sum(v in i[10] for i in by[at + 2:at + 4]) for v in (1, 3)] == [1, 1], at
# No slab stands twice in an epoch with the same number of draws.
assert len({(i[0], i[2], i[3], i[6]) for i in b}) == 120
of = {c: sum(i[2] == c for i in items("p.tns")) for c in "ABCD"}
assert max(of.values()) - min(of.values()) <= 12, of
w = items("w.tns")
assert {i[2] for i in w} == {"B"} and all(3 in i[10] for i in w)
PY
    py <check
}

@test "epochs: -N gives each slice with those beside it, as often and in the order of slices alone" {
    epochs -b 0 -n 3 -s 4 -N 2 a.tns >n.tns
    epochs -b 0 -n 3 -s 4 a.tns >plain.tns
    epochs -n 3 -s 4 -N 2 -b 0.5 -T 3 -B 5 a.tns >nb.tns
    epochs -n 3 -s 4 -b 0.5 -T 3 -B 5 a.tns >b.tns
    { items; cat <<'PY'; } >check
size = {"P000": 12, "P001": 3, "P002": 5, "P003": 7}
for rows, slices in (("n.tns", "plain.tns"), ("nb.tns", "b.tns")):
    plain = [(int(m["epoch"]), int(m["index"]), m["case"], m["slice"]) for m, _ in read(slices) if "mark" not in m]
    of = items(rows)
    assert [(i[0], i[1], i[2], i[7]) for i in of] == plain
    for i in of:
        z, n = int(i[7]), size[i[2]]
        assert i[5] == list(range(max(0, z - 2), min(n, z + 3))), i
        assert i[9] == "5 8 8"
PY
    py <check
}

@test "epochs: several files are one, wherever a case lies" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 2 -n 4 -1 10 -d 8x8 -l nii2slices >b.tns
    cat a.tns b.tns >ab.tns
    for o in "-s 3" "-s 3 -d 4" "-N 1 -b 0.5" "-d 3 -p -l 30 -b 0.3 -c"; do
        epochs -b 0 -H -n 3 $o a.tns b.tns >two.tns
        epochs -b 0 -H -n 3 $o ab.tns >one.tns
        py <<'PY'
def records(path):
    return [(m, {n: a.tobytes() for n, a in t.items()}) for m, t in read(path)]
assert records("one.tns") == records("two.tns")
PY
    done
    # The digest tells files and their order apart.
    header() { tnsview -t -n 0 | sed -n 's/.*digest=//p'; }
    [ "$(epochs -b 0 -n 1 a.tns b.tns | header)" != "$(epochs -b 0 -n 1 b.tns a.tns | header)" ]
    # A message names the file, and the record in it.
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 4 -1 20 -d 8x8 -l nii2slices -l "denoise 4" >other.tns
    run -1 pipe 'epochs -b 0 -n 1 a.tns b.tns other.tns >x.tns'
    [[ $output == "epochs: other.tns: record 0: a part of the data was prepared differently: "* ]]
    head -c 9000 b.tns >cut.tns
    run -1 pipe 'epochs -b 0 -n 1 a.tns cut.tns >x.tns'
    [[ $output == *"cut.tns: record"*"cut off"* ]]
    run -1 pipe 'epochs -b 0 -n 1 a.tns missing.tns >x.tns'
    [[ $output == *"missing.tns: No such file"* ]]
}

@test "epochs: slices that miss some between them, another order and other sizes make no slabs" {
    blobs() { "$PYTHON" "$ROOT/tests/lib/blobs.py" -d 8x8 -l nii2slices "$@"; }
    "$PYTHON" - <<'PY'
import os, sys
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
import blobs, numpy as np
def write(name, rows, **keys):
    out = open(name, "wb")
    out.write(blobs.record(b"H"))
    for i, (c, z, side) in enumerate(rows):
        k = {"case": c, "patient": c, "slice": z, **keys}
        out.write(blobs.record(b"R", [(a, b) for a, b in k.items() if b is not None], [("image", np.ones((1, side, side), np.float32))], i))
    out.write(blobs.record(b"E", count=len(rows)))
write("gap.tns", [("A", 3, 8), ("A", 4, 8), ("A", 6, 8)])
write("back.tns", [("A", 3, 8), ("A", 2, 8)])
write("again.tns", [("A", 3, 8), ("B", 3, 8), ("A", 4, 8)])
write("size.tns", [("A", 3, 8), ("A", 4, 9)])
write("none.tns", [("A", None, 8)])
PY
    for o in "-d 2" "-N 1"; do
        run -1 pipe "epochs -b 0 -n 1 $o gap.tns >x.tns"
        [ "$output" = "epochs: gap.tns: record 2 (A): slice 6 behind slice 4: a volume without gaps is wanted, all of its slices in rising order" ]
        run -1 pipe "epochs -b 0 -n 1 $o back.tns >x.tns"
        [[ $output == *"record 1 (A): slice 2 behind slice 3: "* ]]
        run -1 pipe "epochs -b 0 -n 1 $o again.tns >x.tns"
        [[ $output == *"record 2: case 'A' comes again, behind others"* ]]
        run -1 pipe "epochs -b 0 -n 1 $o size.tns >x.tns"
        [[ $output == *"record 1: another size than the slice before it (wanted 8 by 8, got 9 by 9"* ]]
        run -1 pipe "epochs -b 0 -n 1 $o none.tns >x.tns"
        [[ $output == *"no key 'slice'"* ]]
    done
    for f in gap back again size none; do
        epochs -b 0 -n 1 $f.tns >x.tns
    done
    run -2 pipe 'epochs -b 0 -n 1 -d 2 -N 1 a.tns >x.tns'
    run -2 pipe 'epochs -b 0 -n 1 -d 0 a.tns >x.tns'
    run -2 pipe 'epochs -b 0 -n 1 -N 0 a.tns >x.tns'
}
