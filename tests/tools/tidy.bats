# tidy: rules over whole cases, against a second implementation, and what -c makes of cases that were made for it.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
}

# Python from standard input, with np, stream and parse of mkstream.py, and cases(): a stream of (name, label, pred, keys).
py() {
    PYTHONPATH="$ROOT/tests/lib" "$PYTHON" -c 'import subprocess, sys
from components import components
from mkstream import np, stream, parse
def cases(*all, order=lambda n: range(n)):
    records = []
    for name, label, pred, keys in all:
        for z in order(len(pred)):
            meta = {"case": name, "patient": name, "slice": z, "slices": len(pred), "scheme": "canonical", "spacing": "1 1 1", **keys}
            records.append((meta, {"label": label[z].astype("u1"), "pred": pred[z].astype("u1"), "prob": np.full((4, *pred[z].shape), .25, "f4")}))
    return stream({"history": "made"}, records)
def tidied(s, *options):
    r = subprocess.run(["tidy", *options], input=s, stdout=subprocess.PIPE, check=True)
    return [(dict(m), t) for kind, at, m, t, ends in parse(r.stdout) if kind == "R"]
exec(sys.stdin.read())' "$@"
}

dies() { # MESSAGE COMMAND: one line, status 1
    run -1 --separate-stderr pipe "$2"
    [ "$stderr" = "tidy: $1" ] || { echo "says $stderr"; false; }
}

@test "tidy: every rule is that of a second implementation, voxel for voxel" {
    py <<'P'
from itertools import product
r = np.random.default_rng(7)

def paint(v, voxels, to):
    for p in voxels:
        v[p] = to.get(v[p], v[p])

def expect(v, mm3, near, whole=0, largest=0, core=0, enhancing=0, little=0, holes=0):
    v = v.copy()
    for limit, labels, to in (whole, (1, 2, 3), {1: 0, 2: 0, 3: 0}), (-largest, (1, 2, 3), {1: 0, 2: 0, 3: 0}), \
            (core, (1, 3), {1: 2, 3: 2}), (enhancing, (3,), {3: 1}):
        found = components(np.isin(v, labels), near)
        most = max(map(len, found), default=0)
        kept = False
        for one in found: # min(left) comes first: of equals the first
            if limit < 0 and (len(one) < most or kept) or limit > 0 and len(one) * mm3 < limit:
                paint(v, one, to)
            elif len(one) == most:
                kept = True
    if (v == 3).sum() * mm3 < little:
        v[v == 3] = 1
    for labels, to in ((1, 3), {0: 1, 2: 1}), ((1, 2, 3), {0: 2}):
        for one in components(~np.isin(v, labels), 26 if near == 6 else 6) if holes else ():
            ends = [(0, n - 1) if n > 1 or axis else () for axis, n in enumerate(v.shape)]
            if not any(p[a] in ends[a] for p in one for a in range(3)):
                paint(v, one, to)
    return v

letters = {"whole": "-w", "largest": "-l", "core": "-t", "enhancing": "-e", "little": "-E", "holes": "-i"}
differ = [0] * 6
for i in range(60):
    shape = (1 + i % 6, 9, 11)
    share = r.choice([.15, .5, .7])
    v = np.where(r.random(shape) < share, r.choice([1, 2, 3, 4], shape, p=[.3, .4, .25, .05]), 0)
    spacing = [1, 1, 1] if i % 3 else [.5, 2, 3]
    mm3 = spacing[0] * spacing[1] * spacing[2]
    rules = {k: (1 if k in ("largest", "holes") else float(r.choice([2, 5, 9])) * mm3) for k in letters if r.random() < .45} or {"holes": 1}
    near = int(r.choice([6, 18, 26]))
    options = [w for k in rules for w in ([letters[k]] if k in ("largest", "holes") else [letters[k], repr(rules[k])])]
    s = cases(("c", v, v, {"spacing": " ".join(map(str, spacing))}), order=lambda n: r.permutation(n))
    out = np.zeros(shape, "u1")
    for m, t in tidied(s, *options, "-n", str(near)):
        out[int(m["slice"])] = t["pred"]
    want = expect(v, mm3, near, **rules)
    assert (out == want).all(), (i, options, near, np.argwhere(out != want))
    for k, rule in enumerate(letters):
        differ[k] += rule in rules and bool((want != v).any())
    again = cases(("c", v, out, {"spacing": " ".join(map(str, spacing))}))
    for m, t in tidied(again, *options, "-n", str(near)):
        assert (t["pred"] == out[int(m["slice"])]).all(), "twice is not once"
assert min(differ) > 5, differ
P
}

@test "tidy: what has exactly the volume of a rule stays" {
    py <<'P'
v = np.zeros((3, 8, 8))
v[1, 2, 2:5] = 3                      # 3 voxels of 2 mm3
s = cases(("c", v, v, {"spacing": "1 1 2"}))
for options, left in (("-w", "6"), 3), (("-w", "6.5"), 0), (("-E", "6"), 3), (("-E", "6.5"), 0), (("-e", "6"), 3), (("-e", "6.5"), 0):
    got = sum(int((t["pred"] == 3).sum()) for m, t in tidied(s, *options))
    assert got == left, (options, got)
P
}

@test "tidy: of equals the first from below stays" {
    py <<'P'
v = np.zeros((4, 8, 8))
v[0, 6, 6] = v[2, 1, 1:3] = v[2, 5, 1:3] = v[3, 1, 6:8] = 2
kept = np.zeros_like(v)
kept[2, 1, 1:3] = 2
got = tidied(cases(("c", v, v, {})), "-l")
assert all((t["pred"] == kept[int(m["slice"])]).all() for m, t in got)
P
}

@test "tidy: -c sees a hole where the filter does, and none in one slice of many" {
    py <<'P'
ring = np.zeros((10, 10), int)
ring[2:7, 2:7] = 2
ring[4, 4] = 0
many = np.zeros((3, 10, 10), int)
many[1] = ring # open above and below
for v, changed in (many, "0"), (ring[None], "1"):
    s = cases(("c", v, v, {}))
    table = subprocess.run(["tidy", "-c"], input=s, stdout=subprocess.PIPE, check=True).stdout.decode()
    assert [l.split("\t")[4] for l in table.splitlines() if l.startswith("try\tholes")] == [changed], table
    assert any((t["pred"] != v[int(m["slice"])]).any() for m, t in tidied(s, "-i")) == (changed == "1")
P
}

@test "tidy: a component goes through slices, crops and absent slices as the case has it" {
    py <<'P'
# A column of 5 voxels in z, one slice of which does not come: two parts, of 3 voxels and of 1.
v = np.zeros((5, 12, 12))
v[:, 6, 6] = 2
full = [(m, t) for kind, at, m, t, ends in parse(cases(("c", v, v, {}))) if kind == "R"]
absent = stream({}, [(dict(m), t) for m, t in full if dict(m)["slice"] != "3"])
assert [int(t["pred"].sum()) for m, t in tidied(absent, "-w", "2")] == [2, 2, 2, 0]
assert [int(t["pred"].sum()) for m, t in tidied(cases(("c", v, v, {})), "-w", "5")] == [2] * 5
# Each slice cropped elsewhere, two with a margin beyond the slice, in which they predict something.
records = []
for z, (m, t) in enumerate(full):
    y, x = ((-3, 4), (1, -1), (2, 4), (2, 3), (2, 2))[z]
    p = np.zeros((10, 8), "u1")
    for i in range(10):
        for j in range(8):
            if 0 <= y + i < 12 and 0 <= x + j < 12:
                p[i, j] = v[z, y + i, x + j]
    if z < 2:
        p[4 * z, 0] = 3
    records.append(({**dict(m), "crop": f"{y} {x} 10 8 12 12"}, {"pred": p}))
got = tidied(stream({}, records), "-w", "5", "-E", "9")
for (m, t), (m2, before) in zip(got, records):
    assert (t["pred"] == before["pred"]).all() # one component of 5; what lies beyond the slice is none
assert [int(t["pred"].sum()) for m, t in tidied(stream({}, records), "-w", "6")] == [3, 3, 0, 0, 0]
P
}

@test "tidy: all but pred passes as it is, and the history says how" {
    py <<'P'
r = np.random.default_rng(3)
v = r.integers(0, 4, (4, 9, 9))
s = cases(("a", v, v, {"x-lab.note": "kept"}), ("b", v, v, {}))
before = [(m, t) for kind, at, m, t, ends in parse(s) if kind == "R"]
for (m, t), (m2, t2) in zip(before, tidied(s, "-w", "3", "-i")):
    assert dict(m) == m2 and list(t) == list(t2) and all((t[k] == t2[k]).all() for k in t if k != "pred")
out = subprocess.run(["tidy", "-i", "-E", "50", "-w", "12.5", "-n", "6"], input=s, stdout=subprocess.PIPE, check=True).stdout
(kind, at, m, t, ends), *_ = parse(out)
assert ("history", "tidy -w 12.5 -E 50 -i -n 6") in m, m
out = subprocess.run(["tidy", "-w", "0"], input=s, stdout=subprocess.PIPE, check=True).stdout
assert ("history", "tidy") in next(iter(parse(out)))[2]
P
}

@test "tidy: -c keeps what helps patients beyond the one who asks for it, by counts made by hand" {
    py <<'P'
# Ten patients with a cube of 8x8x8 of oedema around 4x4x4 of core, predicted right. No patient has enhancing tumour.
def patient(enhancing=0, speck=0):
    v = np.zeros((12, 20, 20), int)
    v[2:10, 2:10, 2:10] = 2
    v[4:8, 4:8, 4:8] = 1
    p = v.copy()
    p[5, 5, 4:4 + enhancing] = 3      # within the core: TC and WT stay right
    p[9, 17, 15:15 + speck] = 2       # far away
    return v, p
def write(name, *all):
    open(name, "wb").write(cases(*((f"p{i}", *patient(**a), {}) for i, a in enumerate(all))))
right = {}
write("many", *[{"enhancing": 3}] * 4, *[right] * 6)
write("single", {"enhancing": 3}, *[right] * 9)
write("speck", *[{"speck": 1}] * 5, *[right] * 5)
P
    tidy -c <many >many.tsv
    # ET is 0 in 4 of 10, of three regions: 1 - 4/30. The least volume that takes 3 mm3 is 10.
    awk -F '\t' '$1 == "start" { print $4, $9 } $1 == "chosen" { print $3, $9, $10 }' many.tsv >got
    printf '10 0.866667\n-e 10 1.000000 0.133333\n' | diff - got
    [ "$(awk -F '\t' '$1 == "rule" && $2 == "enhancing" { print $5, $13, $14 }' many.tsv)" = "4 0.133333 kept" ]
    # What is settled leaves nothing to the rule behind it.
    [ "$(awk -F '\t' '$1 == "rule" && $2 == "little" { print $14 }' many.tsv)" = "dropped: it raises nothing" ]
    tidy -c <single >single.tsv
    [ "$(awk -F '\t' '$1 == "rule" && $2 == "enhancing" { print $10, $13, $14 }' single.tsv)" = "0.033333 0.000000 dropped: nothing is gained by patients left out" ]
    [ "$(awk -F '\t' '$1 == "chosen" { print $3 }' single.tsv)" = - ]
    # A voxel beside 512 costs WT 1 - 2*512/1025, a third of it half of the patients: 0.00016.
    tidy -c <speck >speck.tsv
    [ "$(awk -F '\t' '$1 == "rule" && $2 == "whole" { print $10, $14 }' speck.tsv)" = "0.000163 dropped: it raises the mean by less than 0.001" ]
}

@test "tidy: -c drops what helps some patients as it harms others" {
    py <<'P'
# Beside the tumour lies a cube of 27 voxels: predicted where there is none in six patients, and where there is one in four.
def patient(true):
    v = np.zeros((14, 20, 20), int)
    v[2:10, 2:10, 2:10] = 2
    p = v.copy()
    p[10:13, 14:17, 14:17] = 2
    return (p if true else v), p
open("s", "wb").write(cases(*((f"p{i}", *patient(i < 4), {}) for i in range(10))))
P
    tidy -c <s >got
    # Of 27 beside 512: 1 - 2*512/1051 each, a third of it, six gain and four lose.
    want=$(awk 'BEGIN { printf "%.6f", (6 - 4) / 10 * (1 - 1024 / 1051) / 3 }')
    [ "$(awk -F '\t' '$1 == "rule" && $2 == "largest" { print $10, ($11 < 0), $14 }' got)" = "$want 1 dropped: the interval of what it raises holds a loss" ]
    [ "$(awk -F '\t' '$1 == "rule" && $2 == "whole" { print $3, $10, $14 }' got)" = "-w 50 $want dropped: the interval of what it raises holds a loss" ]
    [ "$(awk -F '\t' '$1 == "chosen" { print $3 }' got)" = - ]
}

@test "tidy: the scores of -c are those of dice, before and after" {
    phantom -n 4 -d 40x40x16 -s 3 -o c
    pipe 'nii2slices c/* | recode -s brats2017 >l.tns'
    py <<'P'
r = np.random.default_rng(2)
header, records = None, []
for kind, at, m, t, ends in parse(open("l.tns", "rb").read()):
    if kind == "H":
        header = m
    if kind == "R":
        p = t["label"].copy()
        y, x = r.integers(2, 36, 2)
        p[y:y + 2, x:x + 2] = r.integers(1, 4)
        records.append((dict(m), {"label": t["label"], "pred": p}))
open("p.tns", "wb").write(stream(header, records))
P
    tidy -c -n 18 <p.tns >chosen.tsv
    options=$(awk -F '\t' '$1 == "chosen" { print $3 }' chosen.tsv)
    [[ $options = *"-n 18" ]]
    tidy -f chosen.tsv <p.tns >by-file.tns
    # shellcheck disable=SC2086
    tidy $options <p.tns >by-hand.tns
    cmp by-file.tns by-hand.tns
    for row in start:p.tns chosen:by-file.tns; do
        awk -F '\t' -v row=${row%:*} '$1 == row { print $6; print $7; print $8 }' chosen.tsv >got
        dice -d none -l none <${row#*:} | awk -F '\t' '$1 == "mean" && $8 ~ /^(WT|TC|ET)$/ { printf "%.6f\n", $12 }' >want
        diff want got
    done
    run diff <(awk -F '\t' '$1 == "start" { print $9 }' chosen.tsv) <(awk -F '\t' '$1 == "chosen" { print $9 }' chosen.tsv)
    [ "$status" = 1 ]
}

@test "tidy: -c counts a patient once, and no patient that the model was trained on" {
    py <<'P'
v = np.zeros((6, 12, 12), int)
v[1:5, 2:8, 2:8] = 1
wrong = v.copy()
wrong[3, 3, 3] = 3
all = [("a1", v, wrong, {"patient": "a"}), ("a2", v, v, {"patient": "a"}), ("b", v, v, {}), ("t", v, wrong, {"trained": "yes"})]
open("some", "wb").write(cases(*all))
open("none", "wb").write(cases(*all[3:]))
P
    # ET of patient a is 0 and 1, of b 1.
    tidy -c <some >got 2>err
    [ "$(awk -F '\t' '$1 == "start" { print $4, $8 }' got)" = "2 0.750000" ]
    [ "$(cat err)" = "tidy: warning: left out: 1 of 4 cases, of patients that the model was trained on (-L counts them)" ]
    tidy -c -L <some >got
    [ "$(awk -F '\t' '$1 == "start" { print $4, $8 }' got)" = "3 0.500000" ]
    run -1 --separate-stderr pipe 'tidy -c <none'
    [[ $stderr = *"tidy: stdin: no case to choose by" ]]
    [ -z "$output" ]
}

@test "tidy: records wait in a file, which leaves nothing behind" {
    need_command time
    py <<'P'
v = np.ones((40, 16, 16))
records = [({"case": "c", "slice": z, "slices": 40, "scheme": "canonical", "spacing": "1 1 1"},
            {"pred": v[z].astype("u1"), "image": np.zeros((4, 256, 256), "f4")}) for z in range(40)] # 1 MiB each
open("s", "wb").write(stream({}, records, 1))
P
    mkdir t
    TMPDIR=$PWD/t tidy -w 5 <s >out
    cmp <(tnsview -k case,slice <s) <(tnsview -k case,slice <out)
    [ -z "$(ls t)" ]
    if [ "${CONFIG:-release}" = release ]; then
        kib=$(TMPDIR=$PWD/t peak_kib tidy -w 5 <s)
        [ "$kib" -le 4096 ] || { echo "$kib KiB"; false; }
    fi
    export TMPDIR=$PWD/missing
    dies "$PWD/missing: temporary file: No such file or directory" 'tidy -w 5 <s >out'
    run -1 tnsview -c <out
}

@test "tidy: a stream that it cannot make sense of is refused in one line" {
    py <<'P'
v = np.zeros((2, 4, 4), int)
def write(name, change, order=lambda n: range(n)):
    records = [(dict(m), dict(t)) for kind, at, m, t, ends in parse(cases(("a", v, v, {}), ("b", v, v, {}), ("a", v, v, {}))) if kind == "R"][:4]
    change(records)
    open(name, "wb").write(stream({}, records))
def fives(r): r[1][1]["pred"] = np.full((4, 4), 5, "u1")
write("no-pred", lambda r: r[0][1].pop("pred"))
write("float", lambda r: r[0][1].update(pred=np.zeros((4, 4), "f4")))
write("raw", lambda r: r[0][0].update(scheme="raw"))
write("five", fives)
write("twice", lambda r: r[1][0].update(slice=0))
write("again", lambda r: r[3][0].update(case="a"))
write("grows", lambda r: r[1][0].update(slices=3))
write("flat", lambda r: r[0][0].update(spacing="1 0 1"))
write("crop", lambda r: r[0][0].update(crop="0 0 3 4 9 9"))
write("label", lambda r: r[0][1].update(label=np.zeros((4, 5), "u1")))
P
    dies "stdin: record 0 (a slice 0): no tensor 'pred'" 'tidy -i <no-pred >out'
    dies "stdin: record 0 (a slice 0): tensor 'pred': wrong type (wanted u8, got f32)" 'tidy -i <float >out'
    dies "stdin: record 0 (a slice 0): labels are not canonical (wanted scheme=canonical, got scheme=raw; recode comes first)" 'tidy -i <raw >out'
    dies "stdin: record 1 (a slice 1): pred: value outside the scheme (wanted 0 to 4, got 5 at row 0, column 0)" 'tidy -i <five >out'
    dies "stdin: record 1 (a slice 0): the slice is there twice" 'tidy -i <twice >out'
    dies "stdin: record 3 (a slice 1): the case was there before (wanted all its slices in a row)" 'tidy -i <again >out'
    dies "stdin: record 1 (a slice 1): the case's size or spacing changes" 'tidy -i <grows >out'
    dies "stdin: record 0 (a slice 0): key 'spacing': (wanted millimetres above 0, got 0)" 'tidy -i <flat >out'
    dies "stdin: record 0 (a slice 0): pred is not the size of its crop (wanted 3x4, got 4x4)" 'tidy -i <crop >out'
    dies "stdin: record 0 (a slice 0): pred: not the label's shape (wanted 4x5, got 4x4)" 'tidy -c <label >out'
}

@test "tidy: -f takes what -c wrote, and nothing else" {
    py <<'P'
v = np.ones((2, 4, 4), int)
open("s", "wb").write(cases(("a", v, v, {})))
P
    bad() { # LINE WHAT
        printf '%b' "$1" >chosen
        dies "chosen: $2" 'tidy -f chosen <s >out'
    }
    bad '' "line 1: no row 'chosen' (wanted what tidy -c wrote)"
    bad 'start\t-\t-w 5\n' "line 2: no row 'chosen' (wanted what tidy -c wrote)"
    bad 'chosen\t-\t-w 5\nchosen\t-\t-w 5\n' "line 2: a second row 'chosen'"
    bad 'chosen\n' "line 1: wanted chosen, -, options"
    bad 'chosen\t-\t-w five\n' "line 1: no option of a rule (got '-w five')"
    bad 'chosen\t-\t-w\n' "line 1: no option of a rule (got '-w')"
    bad 'chosen\t-\t-w 5 -n 7\n' "line 1: no option of a rule (got '-n 7')"
    bad 'chosen\t-\t-w 0x5\n' "line 1: no option of a rule (got '-w 0x5')"
    bad 'chosen\t-\t-w nan\n' "line 1: no option of a rule (got '-w nan')"
    bad 'chosen\t-\t-o x\n' "line 1: no option of a rule (got '-o x')"
    bad 'chosen\t-\t-w 5' "line 1: not ended by a line feed (is the file cut?)"
    printf 'chosen\t-\t-\n' >chosen
    tidy -H -f chosen <s >out
    diff <(tnsview -t <s) <(tnsview -t <out)
}

@test "tidy: wrong usage gives 2" {
    for a in "" "-w x" "-w -1" "-n 7 -i" "-i -c" "-i -f x" "-f x -n 6" "-i -L" "-i -s 1" "-c -s x"; do
        # shellcheck disable=SC2086
        run -2 --separate-stderr tidy $a </dev/null
        [ -z "$output" ] || { echo "$a: $output"; false; }
        [ "${#stderr_lines[@]}" = 1 ] || { echo "$a: $stderr"; false; }
    done
}
