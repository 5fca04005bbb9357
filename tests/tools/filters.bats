# znorm, crop, folds, pick, tnsview: what each does to a stream, against numpy and by hand.
load ../lib/common

make() {
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" make "$@"
}
dump() {
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" dump
}
# Python that sees mkstream's functions: py CODE ARG...
py() {
    PYTHONPATH=$ROOT/tests/lib PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -c "import sys, numpy as np; from mkstream import *
def records(f): return [(dict(m), t) for k, _, m, t, _ in parse(open(f, 'rb').read()) if k == 'R']
def save(f, r): open(f, 'wb').write(stream({}, r))
$1" "${@:2}"
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
}

@test "znorm: z-scores are numpy's in double, for any dtype, by case and by slice" {
    for dtype in f4 i2 f8 u1 i4 f2; do
        make dtype=$dtype >in.tns
        znorm <in.tns >case.tns
        znorm -p slice <in.tns >slice.tns
        py '
for f in "case", "slice":
    for (m, a), (n, b) in zip(records("in.tns"), records(f + ".tns")):
        x, got = a["image"].astype("f8"), b["image"]
        assert got.dtype == np.float32 and n["norm"] == f
        for c in range(4):
            on = x[c] != 0
            mean, std = (float(m[k].split()[c]) for k in ("mean", "std")) if f == "case" else (x[c][on].mean(), x[c][on].std())
            assert abs(got[c] - np.where(on, (x[c] - mean) / std, 0)).max() <= 1e-6
            assert (got[c].view("u4")[~on] == 0).all() and on.any() and not on.all()'
    done
}

@test "znorm: a constant or empty channel becomes zeros, not NaN" {
    py '
r = study(cases=1, slices=1, dtype="f4")
m, t = r[0]
t["image"] = t["image"].copy()
t["image"][1][t["image"][1] != 0] = np.float32(0.1)
t["image"][2] = 0
m["std"] = "5 0 0 7"
save("in.tns", r)'
    for p in case slice; do
        znorm -p $p <in.tns >out.tns
        py 'i = records("out.tns")[0][1]["image"]; assert not i[1].any() and not i[2].any() and i[0].any() and i[3].any() and np.isfinite(i).all()'
    done
}

@test "znorm: missing statistics, a second run and NaN voxels are refused by name" {
    py 'r = study(cases=1, slices=1); del r[0][0]["std"]; save("in.tns", r)'
    run -1 --separate-stderr znorm <in.tns
    [[ $stderr = *"no key 'std'"* ]]
    znorm -p slice <in.tns >once.tns
    run -1 --separate-stderr znorm -p slice <once.tns
    [[ $stderr = *"normalised already (norm=slice)"* ]]
    py 'r = study(cases=1, slices=1); r[0][1]["image"][2, 5, 7] = np.nan; save("in.tns", r)'
    run -1 --separate-stderr pipe 'znorm <in.tns >out'
    [[ $stderr = *"image: channel 2, row 5, column 7: (wanted at most 1e+18 in size, got nan)" ]]
    py 'r = study(cases=1, slices=1); r[0][0].update(mean="0 0 0 0", std="1 1 1e-40 1"); save("in.tns", r)'
    run -1 --separate-stderr pipe 'znorm <in.tns >out'
    [[ $stderr = *"channel 2 has no finite z-score at row 4, column 4"* ]]
}

@test "znorm: over real cases the largest difference to numpy is 1e-5" {
    need_data
    need_release "it takes long"
    nii2slices "$DATA"/brats/BraTS2021_0000[05] >in.tns
    znorm <in.tns >out.tns
    py '
x, z, d = records("in.tns"), records("out.tns"), 0
for c in {m["case"] for m, _ in x}:
    for k in range(4):
        v = np.stack([t["image"][k] for m, t in x if m["case"] == c]).astype("f8")
        g = np.stack([t["image"][k] for m, t in z if m["case"] == c])
        on = v != 0
        d = max(d, abs(np.where(on, (v - v[on].mean()) / v[on].std(), 0) - g).max())
print(d)
assert d <= 1e-5'
}

@test "crop: the box is the brain's, grown around its centre to the multiple" {
    make >in.tns # brain: rows 4-19, columns 4-16 of 24x20
    for o in "-m 1:4 4 16 13 24 20" "-m 16:4 3 16 16 24 20" "-m 8:4 3 16 16 24 20" "-s 20x30:2 -4 20 30 24 20" "-p slice -m 1:4 4 16 13 24 20"; do
        # shellcheck disable=SC2086
        crop ${o%%:*} <in.tns >out.tns
        [ "$(tnsview -k crop <out.tns | sort -u)" = "${o#*:}" ]
        py '
for (m, a), (n, b) in zip(records("in.tns"), records("out.tns")):
    y, x, h, w = map(int, n["crop"].split()[:4])
    for k in "image", "label":
        p = np.pad(a[k], [(0, 0)] * (a[k].ndim - 2) + [(40, 40)] * 2)[..., 40 + y:40 + y + h, 40 + x:40 + x + w]
        assert (p == b[k]).all() and p.dtype == b[k].dtype and p.shape == b[k].shape'
    done
}

@test "crop: -u puts everything back, after one crop or several" {
    make pred=1 >in.tns
    for p in "crop -m 16" "crop -s 30x17" "crop -m 4 | crop -s 40x40" "crop -p slice | crop -p case -m 1 | crop -p slice -m 3"; do
        pipe "<in.tns $p | crop -u >out.tns"
        diff <(dump <in.tns | grep -v history) <(dump <out.tns | grep -v history)
    done
    crop -u <in.tns >out.tns
    diff <(dump <in.tns | grep -v history) <(dump <out.tns | grep -v history)
}

@test "crop: tumour is never lost without a word" {
    make >in.tns # tumour: rows 8-11, columns 6-9
    run -1 --separate-stderr pipe 'crop -s 6x6 <in.tns >out'
    [[ $stderr = "crop: stdin: record 0 (case000 slice 0): label: "*" voxels lie outside the box of 6x6"* ]]
    run -0 --separate-stderr pipe 'crop -F -s 6x6 <in.tns >out'
    lost=$(py 'print(sum(np.count_nonzero(a["label"]) - np.count_nonzero(b["label"]) for (_, a), (_, b) in zip(records("in.tns"), records("out"))))')
    [ "$lost" -gt 0 ]
    [[ $stderr = "crop: warning: $lost voxels of tumour in 6 slices"* ]]
}

@test "crop: tumour that is predicted alone is not lost either" {
    for what in label pred; do
        py 'r = study(cases=1, slices=1)
t = r[0][1]
t["pred"], t["label"] = np.zeros((24, 20), "u1"), np.zeros((24, 20), "u1")
t[sys.argv[1]][22, 3:6] = 2 # below the brain
save("in.tns", r)' $what
        run -1 --separate-stderr pipe 'crop <in.tns >out'
        [[ $stderr = "crop: stdin: record 0 (case000 slice 0): $what: 3 voxels lie outside the box of 16x16"* ]]
        run -0 --separate-stderr pipe 'crop -F <in.tns | crop -u >out'
        [ "$stderr" = "crop: warning: 3 voxels of tumour in 1 slices lay outside the box" ]
        # What was outside is background.
        py 't = records("out")[0][1]; assert not t["pred"].any() and not t["label"].any()'
    done
}

@test "crop: -w keeps the label whole, and -u puts it back, whatever lay outside; the prediction there has missed it" {
    py 'r = study(cases=1, slices=2)
for _, t in r:
    t["label"] = t["label"].copy()
    t["label"][22, 3:6] = 4 # below the brain
save("in.tns", r)'
    crop -w <in.tns >cut.tns
    pipe '<cut.tns crop -w | crop -m 1 | crop -u >out.tns' # a second crop has nothing more to keep
    py 'for (m, a), (_, b), (n, c) in zip(*map(records, ("in.tns", "cut.tns", "out.tns"))):
    assert b["label"].shape == (16, 16) and (b["whole"] == a["label"]).all() and b["whole"].dtype == np.uint8
    assert (c["label"] == a["label"]).all() and "whole" not in c and m == n'
    # What was cut before cannot be kept, and what is no label of the slice is not put back.
    crop -F <in.tns >forced.tns # (in one pipe, its warning might come last)
    run -1 --separate-stderr pipe 'crop -w <forced.tns >x'
    [[ $stderr = *"crop: stdin: record 0 (case000 slice 0): -w: the label was cropped before (wanted 24x20, got 16x16)" ]]
    py 'r = records("cut.tns"); r[1][1]["whole"] = np.zeros((3, 4), "u1"); save("bad.tns", r)'
    run -1 --separate-stderr pipe 'crop -u <bad.tns >x'
    [[ $stderr = "crop: stdin: record 1 (case000 slice 1): whole: wrong shape (wanted 24 by 20, got 3 by 4)" ]]
    run -2 crop -u -w <in.tns
}

@test "crop: brain is never lost without a word, with labels or without" {
    make bare=1 cases=2 >in.tns # brain: rows 4-19, columns 4-16, all of it not zero
    crop -s 16x13 <in.tns >/dev/null
    # One column of 13 is 7.7 %.
    run -1 --separate-stderr pipe 'crop -s 16x12 <in.tns >out'
    [[ $stderr = "crop: stdin: case case000: image: 7.7 % of the brain's voxels lie outside the box of 16x12"* ]]
    [ "$(grep -c . <<<"$stderr")" = 1 ]
    run -0 --separate-stderr pipe 'crop -F -p slice -s 16x12 <in.tns >out'
    [ "$stderr" = "crop: warning: 7.7 % of the brain's voxels of case case000 lay outside the box (cases that lost more than 1 %: 2)" ]
    tnsview -c <out
    # The background is not zero: the whole slice counts, and of its 20 columns 4 are lost.
    py 'r = study(bare=1)
for m, t in r: t["image"] = t["image"] + np.float32(7); m["brain"] = "0 0 24 20"
save("in.tns", r)'
    run -1 --separate-stderr pipe 'crop -s 24x16 <in.tns >out'
    [[ $stderr = *"20.0 % of the brain's voxels"*"its background is not zero"* ]]
}

@test "crop: a few voxels of a case may lie outside, whatever their share of one slice" {
    # 208 voxels in the box in the second slice, N stray ones in the first, of the second case alone.
    stray() {
        py 'r = study(cases=2, slices=2, bare=1)
t = r[2][1]["image"] = np.zeros((4, 24, 20), "f4")
t[:, 0, :int(sys.argv[1])] = 9
save("in.tns", r)' "$1"
    }
    stray 2 # of 210: 0.95 %
    run -0 --separate-stderr pipe 'crop -v -s 16x13 <in.tns >out'
    [ "$stderr" = "crop: case case001: 0.952 % of the brain's voxels lay outside the box" ]
    stray 3 # of 211: 1.4 %
    run -1 --separate-stderr pipe 'crop -s 16x13 <in.tns >out'
    [[ $stderr = "crop: stdin: case case001: image: 1.4 % of the brain's voxels"* ]]
}

@test "crop: real brains lose nothing at 192x160, and 96x96 is refused" {
    need_data
    need_release "it takes long"
    nii2slices "$DATA"/brats/BraTS2021_014* >in.tns
    run -0 --separate-stderr pipe 'crop -v -s 192x160 <in.tns >out'
    [[ $stderr != *[1-9]" %"* ]]
    run -1 --separate-stderr pipe 'crop -s 128x128 <in.tns >out'
    [ -n "$stderr" ]
    run -0 --separate-stderr pipe 'crop -F -s 96x96 <in.tns >out'
    [[ $stderr = *"% of the brain's voxels of case BraTS2021_01482"*"than 1 %: 6)" ]]
}

@test "crop: a smaller box cuts one more above and to the left" {
    make >in.tns # brain: rows 4-19, columns 4-16: 16x13
    for o in "15x12:5 5 15 12" "13x10:6 6 13 10" "14x11:5 5 14 11"; do
        crop -F -s "${o%:*}" <in.tns 2>/dev/null | tnsview -k crop | sort -u >out
        [ "$(cat out)" = "${o#*:} 24 20" ]
    done
}

@test "crop: a slice or case without brain gets a valid box" {
    py '
r = study(cases=1, slices=1)
r[0][0]["brain"] = "0 0 0 0"
r[0][1]["image"], r[0][1]["label"] = np.zeros((4, 24, 20), "f4"), np.zeros((24, 20), "u1")
save("in.tns", r)'
    for p in case slice; do
        crop -p $p <in.tns | tnsview -k crop >out
        [ "$(cat out)" = "4 2 16 16 24 20" ]
    done
}

@test "crop: maps of uncertainty go along, and -u puts them back with 0 where it was cut" {
    py '
r = study(cases=1, slices=2)
for i, (m, t) in enumerate(r):
    t["entropy"], t["disagreement"] = (np.random.default_rng(9 * i + k).random((24, 20), "f4") + 1 for k in range(2))
save("in.tns", r)'
    for how in "-s 30x30" "-s 16x14"; do
        # shellcheck disable=SC2086
        crop $how <in.tns >cut.tns
        crop -u <cut.tns >out.tns
        py '
for (m, a), (n, b), (o, c) in zip(*map(records, ("in.tns", "cut.tns", "out.tns"))):
    y, x, h, w = map(int, n["crop"].split()[:4])
    kept = np.zeros((24, 20), bool)
    kept[max(y, 0):y + h, max(x, 0):x + w] = True
    for k in "entropy", "disagreement":
        assert b[k].shape == (h, w) and c[k].dtype == np.float32 and (c[k] == np.where(kept, a[k], 0)).all()'
    done
}

@test "crop: what is made up around prob is certain background" {
    py '
r = study(cases=1, slices=1)
r[0][1]["prob"] = np.full((4, 24, 20), 0.25, "f4")
save("in.tns", r)'
    crop -s 30x30 <in.tns >out.tns
    py 'p = records("out.tns")[0][1]["prob"]; assert np.allclose(p.sum(0), 1) and p[0].max() == 1 and (p == 0.25).sum() == 4 * 24 * 20'
}

@test "crop: keys that do not fit the slice are refused" {
    for k in "brain=0 0 99 5" "brain=1 1 -1 5" "brain=a" "brain=0.5 0 1 1" "crop=0 0 9 9 24 20"; do
        py 'r = study(cases=1, slices=1); k, v = sys.argv[1].split("="); r[0][0][k] = v; save("in.tns", r)' "$k"
        run -1 --separate-stderr pipe 'crop <in.tns >out'
        [[ $stderr = "crop: stdin: record 0 (case000 slice 0): key '${k%%=*}'"* ]]
    done
}

# A list of N patients, every third with two scans.
list() {
    for i in $(seq 1 "$1"); do
        printf 'BraTS-GLI-%05d-000\n' "$i"
        [ $((i % 3)) != 0 ] || printf 'BraTS-GLI-%05d-001\n' "$i"
    done
}

@test "folds: every case once, patients whole, folds of one size" {
    list 47 >cases
    for k in 2 5 47; do
        folds -k $k -s 3 -l cases >f
        [ "$(head -n 1 f)" = "# folds 1 k=$k seed=3 by=patient" ]
        diff <(sort cases) <(grep -v '^#' f | cut -f 2 | sort)
        [ "$(grep -v '^#' f | cut -f 1,3 | sort -u | cut -f 2 | sort | uniq -d | wc -l)" = 0 ]
        grep -v '^#' f | cut -f 1,3 | sort -u | cut -f 1 | sort | uniq -c | awk '{ print $1 }' | sort -n >sizes
        [ "$(wc -l <sizes)" = $k ]
        [ $(($(tail -n 1 sizes) - $(head -n 1 sizes))) -le 1 ]
    done
    run -1 folds -k 48 -s 3 -l cases
}

@test "folds: the order of the input does not matter, the seed does" {
    list 30 >cases
    folds -k 5 -s 1 -l cases >a
    sort -r cases | folds -k 5 -s 1 -l - | cmp - a
    folds -k 5 -s 2 -l cases >b
    run ! cmp -s a b
    LC_ALL=C sort -s -t "$(printf '\t')" -k1,1n -k2,2 a | cmp - a
}

@test "folds: slices are balanced, and a stream gives what its list does" {
    py 'save("in.tns", sum((study(cases=1, first=i, slices=1 + i * 7 % 13, h=8, w=8, bare=1) for i in range(24)), []))'
    folds -k 4 -s 1 <in.tns >f
    cat in.tns | folds -k 4 -s 1 | cmp - f
    join -1 2 -2 2 <(grep -v '^#' f | cut -f 1,2 --output-delimiter=' ' | sort -k2,2) <(tnsview -k case <in.tns | sort | uniq -c | awk '{ print $1, $2 }' | sort -k2,2) |
        awk '{ n[$2] += $3 } END { for (f in n) print n[f] }' | sort -n >sums
    # 24 cases of 1 to 13 slices, 164 in all: chance alone gives differences of some 20.
    [ "$(wc -l <sums)" = 4 ]
    [ $(($(tail -n 1 sums) - $(head -n 1 sums))) -le 6 ]
}

@test "folds: a list says who is who, and pick carries it on" {
    make cases=4 slices=1 >in.tns
    printf 'case000 twin\ncase001\ttwin\n# a comment\n\ncase002 x\ncase003\n' >map
    folds -k 3 -s 1 -l map >f
    [ "$(grep -c 'twin$' f)" = 2 ]
    [ "$(grep 'twin$' f | cut -f 1 | uniq | wc -l)" = 1 ]
    grep -q 'case003.case003$' f
    n=$(grep -m 1 'twin$' f | cut -f 1)
    run -0 --separate-stderr pipe 'pick -m f -f '$n' val <in.tns >out.tns'
    [[ $stderr = *"3 records had another patient than f says"* ]]
    [ "$(tnsview -k case,patient <out.tns)" = "$(printf 'case000\ttwin\ncase001\ttwin')" ]
}

@test "folds: two patients for a case, and names that would break the manifest, are refused" {
    printf 'a p\na q\nb r\n' | run -1 folds -k 2 -s 1 -l -
    printf 'a b c\n' >three
    run -1 --separate-stderr folds -k 2 -s 1 -l three
    [ "$stderr" = "folds: three: line 1: wanted case and patient" ]
    py 'r = study(cases=2, slices=1); r[0][0]["case"] = "a b"; save("in.tns", r)'
    run -1 --separate-stderr folds -k 2 -s 1 <in.tns
    [[ $stderr = *"'a b' cannot stand in a manifest"* ]]
}

@test "folds -b slice deals slices and says that it leaks; pick obeys" {
    make cases=3 slices=5 h=8 w=8 >in.tns
    run -0 --separate-stderr pipe 'folds -k 3 -s 1 -b slice <in.tns >f'
    [[ $stderr = *warning* ]]
    for f in 0 1 2; do
        pick -m f -f $f val <in.tns >val.tns
        pick -m f -f $f train <in.tns >train.tns
        [ "$(tnsview -k case <val.tns | wc -l)" = 5 ]
        sort <(tnsview -k case,slice <val.tns) <(tnsview -k case,slice <train.tns) | diff - <(tnsview -k case,slice <in.tns | sort)
    done
}

@test "pick: train and val of every fold are the stream, record by record, in its order" {
    make cases=7 slices=2 h=8 w=8 >in.tns
    folds -k 3 -s 5 <in.tns >f
    for n in 0 1 2; do
        pick -H -m f -f $n val <in.tns >val.tns
        pick -H -m f -f $n train <in.tns >train.tns
        [ "$(comm -12 <(tnsview -k patient <val.tns | sort -u) <(tnsview -k patient <train.tns | sort -u) | wc -l)" = 0 ]
        py '
a, v, t = (records(f) for f in ("in.tns", "val.tns", "train.tns"))
key = lambda r: (r[0]["case"], int(r[0]["slice"]))
assert sorted(map(key, v + t)) == sorted(map(key, a))
for s in v, t: assert list(map(key, s)) == [key(r) for r in a if key(r) in set(map(key, s))]'
    done
}

@test "pick: what the manifest does not know is refused; a later scan goes with its patient" {
    py 'save("in.tns", study(cases=1, slices=1, names="BraTS-GLI-00001-{:03d}", first=1))'
    printf '# folds 1 k=2 seed=1 by=patient\n0\tother\tother\n' >f
    run -1 --separate-stderr pipe 'pick -m f -f 0 val <in.tns >out'
    [[ $stderr = *"neither the case nor patient 'BraTS-GLI-00001-001' is in f"* ]]
    py 'r = study(cases=1, slices=1, names="BraTS-GLI-00001-{:03d}", first=1); r[0][0]["patient"] = "BraTS-GLI-00001"; save("in.tns", r)'
    printf '# folds 1 k=2 seed=1 by=patient\n1\tBraTS-GLI-00001-000\tBraTS-GLI-00001\n' >f
    [ "$(pick -m f -f 1 val <in.tns | tnsview -k case)" = BraTS-GLI-00001-001 ]
    run -0 --separate-stderr pipe 'pick -m f -f 0 val <in.tns >out'
    [[ $stderr = *"no record is on this side"* ]]
}

@test "pick: a manifest that breaks its grammar is refused with the line" {
    make cases=1 slices=1 >in.tns
    first='# folds 1 k=2 seed=1 by=patient\n'
    while IFS='|' read -r text line; do
        # shellcheck disable=SC2059
        printf "${text/FIRST/$first}" >f
        run -1 --separate-stderr pipe 'pick -m f -f 0 val <in.tns >out'
        [[ $stderr = "pick: f: $line"* ]] || { echo "$text: $stderr"; false; }
    done <<'END'
0\ta\tp\n|line 1: not a manifest
# folds 2 k=2 seed=1 by=patient\n|line 1: not a manifest
# folds 1 k=1 seed=1 by=patient\n|line 1: not a manifest
FIRST|line 2: the manifest is empty
FIRST2\ta\tp\n|line 2: fold
FIRST# c\n0 a p\n|line 3: wanted fold, case and patient
FIRST0\ta\tp\tq\n|line 2: wanted fold, case and patient
FIRST0\ta\tp|line 2: not ended
FIRST0\ta\tp\r\n|line 2: byte 6 is a control character
FIRST0\ta\tp\n1\ta\tp\n|'a' stands twice
FIRST0\ta\tp\n1\tb\tp\n|patient 'p' is in folds 0 and 1
END
}

@test "tnsview: text, TSV and statistics say what is there" {
    make cases=1 slices=2 h=24 w=20 >in.tns
    tnsview <in.tns >text
    grep -qx 'segment 1' text
    grep -qx '  image: f32 4x24x20' text
    grep -qx '  x-lab.note=größe = 3 µm' text
    grep -qx '  scalar: f64 scalar' text
    [ "$(tail -n 1 text)" = "2 records in 1 segment" ]
    [ "$(tnsview -k slice,none,case <in.tns)" = "$(printf '0\t\tcase000\n1\t\tcase000')" ]
    tnsview -t -n 1 <in.tns >stats
    want=$(py 'l = records("in.tns")[0][1]["label"]; print("    values " + " ".join(f"{v}:{n}" for v, n in zip(*np.unique(l, return_counts=True))))')
    grep -qxF -- "$want" stats
    want=$(py 'x = records("in.tns")[0][1]["image"][2].astype("f8"); print(f"    [2] min {x.min():.6g} max {x.max():.6g} mean {x.mean():.6g} std {x.std():.6g} nonzero {np.count_nonzero(x)}")')
    grep -qxF -- "$want" stats
    [ "$(tail -n 1 stats)" = "1 record in 1 segment seen" ]
}

@test "tnsview: no value moves the cursor or starts a field" {
    py 'r = study(cases=1, slices=1); r[0][0]["evil"] = "\x1b[2J\tb\\\x85"; save("in.tns", r)'
    [ "$(tnsview <in.tns | grep evil)" = '  evil=\x1b[2J\tb\\xc2\x85' ]
    [ "$(tnsview -k evil,case <in.tns)" = "$(printf '%s\tcase000' '\x1b[2J\tb\\\xc2\x85')" ]
    # In JSON it is the value itself.
    py 'r = study(cases=1, slices=1); r[0][0]["evil"] = "\x1b\t\"b\\\x7f ü"; save("in.tns", r)'
    tnsview -J -k evil,case <in.tns >out
    run ! grep -q "$(printf '[\x1b\t]')" out
    py 'import json; assert json.load(open("out")) == [{"evil": "\x1b\t\"b\\\x7f ü", "case": "case000"}]'
}

@test "stats, tnsview, dice, folds, tidy: -J says in JSON what the table says" {
    phantom -n 1 -d 24x24x12 -s 3 -o studies
    nii2slices studies/* | recode -s brats2017 >s.tns
    # Numbers as numbers, text as text; the rows of the table under the names of its first line.
    as_tsv='(.[0] | keys_unsorted | @tsv), (.[] | [.[] | if . == null then "" else tostring end] | @tsv)'
    stats <s.tns >want
    stats --json <s.tns | jq -r "$as_tsv" >got
    numbers() { awk -F'\t' '{ for (i = 1; i <= NF; i++) printf "%s\t", $i ~ /^-?[0-9.]+$/ ? $i + 0 : $i; print "" }' "$1"; }
    cmp <(numbers want) <(numbers got)
    stats -i -b 5 -r 1:900 -p case <s.tns >want
    stats -i -b 5 -r 1:900 -p case -J <s.tns | jq -r "$as_tsv" >got
    cmp <(numbers want) <(numbers got)
    [ "$(stats -J <s.tns | jq -c '[.[0].case, .[2].class, (.[2].voxels > 0)]')" = '["BraTS20_Training_001","oedema",true]' ]
    tnsview -k case,slice,none -n 3 <s.tns >want
    tnsview -k case,slice,none -n 3 -J <s.tns | jq -r '.[] | [.[] | . // ""] | @tsv' | cmp - want
    [ "$(tnsview -k slice -n 0 -J <s.tns)" = '[]' ]
    run -2 tnsview -J <s.tns
    [ "$(dice -J -b 0 -d none <s.tns)" = "$(dice -j -b 0 -d none <s.tns)" ]
    run ! grep '^  -j' <(dice -h)
    printf 'b c\na\nd\n' | folds -k 2 -s 1 -l - | grep -v '^#' >want
    printf 'b c\na\nd\n' | folds -k 2 -s 1 -J -l - | jq -r '.[] | [.fold, .case, .patient] | @tsv' | cmp - want
    printf '\303\244b\377\303\n\342\202\254\n' | folds -k 2 -s 1 -J -l - >named # a name that is not UTF-8 makes none of JSON that is not
    "$PYTHON" -c 'import json; assert {x["case"] for x in json.load(open("named", encoding="utf-8"))} == {"\u00e4b\ufffd\ufffd", "\u20ac"}'
    folds -k 2 -s 1 -b slice <s.tns 2>err | grep -v '^#' >want
    folds -k 2 -s 1 -b slice --json <s.tns 2>err | jq -r '.[] | [.fold, "\(.case):\(.slice)", .patient] | @tsv' | cmp - want
    py 'save("p.tns", [(m, {**t, "pred": t["label"]}) for m, t in records("s.tns")])'
    tidy -c <p.tns >want
    # (Of more digits than the table.)
    tidy -c -J <p.tns | jq -r '(.[0] | keys_unsorted | @tsv), (.[] | [.[] | if . == null then "nan" elif type == "number" then . * 1e6 | round / 1e6 else . end] | @tsv)' >got
    cmp <(numbers want) <(numbers got)
    run -2 tidy -J -w 10 <p.tns
}

@test "pick: by keys, as text or as numbers, all conditions at once, so many at most; recode tells how much tumour" {
    phantom -n 2 -d 24x24x12 -s 3 -o studies
    nii2slices studies/* | recode -s brats2017 >s.tns
    all=$(tnsview -k case,slice,tumour <s.tns)
    one=BraTS20_Training_001
    picked() { # what an awk program keeps of the table, and pick of the stream
        [ "$(pick "${@:2}" <s.tns 2>err | tnsview -k case,slice,tumour)" = "$(awk -F'\t' "$1" <<<"$all")" ]
    }
    # The key is what numpy counts.
    py '
from collections import Counter
for m, t in records("s.tns"): assert m["tumour"] == str((t["label"] > 0).sum()), m
assert len({m["tumour"] for m, t in records("s.tns")}) > 2'
    picked '$3 > 5' -k 'tumour>5'
    picked '$3 >= 6 && $3 < 29' -k 'tumour>=6' --key 'tumour<29'
    picked '$3 <= 5' -k 'tumour<=5.0'
    picked "\$1 == \"$one\"" -k case=$one
    picked "\$1 != \"$one\" && \$2 == 4" -k case!=$one -k slice=4
    picked '$2 == 4 && k++ < 1' -k slice=4 -n 1
    picked 'NR < 4' -n 3
    picked 0 -k slice=x
    [ "$(cat err)" = "pick: warning: no record is as wanted" ]
    # Beside a manifest both have to hold.
    folds -k 2 -s 1 <s.tns >f
    [ "$(pick -m f -f 0 -k slice=4 val <s.tns | tnsview -c)" != "$(pick -m f -f 0 val <s.tns | tnsview -c)" ]
    [ "$(pick -m f -f 0 -k slice=4 val <s.tns | tnsview -k case)" = "$(pick -m f -f 0 val <s.tns | pick -k slice=4 | tnsview -k case)" ]
    # A key that is not there, or is no number, and a stream that is cut, also behind what was wanted.
    run -1 pipe 'pick -k none=1 <s.tns'
    run -1 pipe 'pick -k "case>1" <s.tns'
    [[ $output == *"wanted a number, got 'BraTS20_Training_001'"* ]]
    head -c -20 s.tns >cut.tns
    run -1 pipe 'pick -n 1 <cut.tns'
    for wrong in "-k case" "-k =1" "-k slice<x" "-k slice==1" "-k slice=>1" "-n 0" "-f 0 -k a=1" "-k a=1 val" ""; do
        # shellcheck disable=SC2086
        run -2 pick $wrong </dev/null
    done
}
