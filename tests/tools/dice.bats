load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
}

# A stream from a Python program on standard input (tests/lib/cases.py tells its words).
stream() {
    "$PYTHON" "$ROOT/tests/lib/cases.py"
}

# cell TABLE ROW CASE PART COLUMN
cell() {
    awk -F'\t' -v row="$2" -v c="$3" -v part="$4" -v col="$5" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $1 == row && $2 == c && $at["part"] == part { print $at[col]; n++ }
        END { if (n != 1) print "found " n + 0 " times" }' "$1"
}

# is TABLE ROW CASE PART COLUMN VALUE: equal to 6 digits, or both nan
is() {
    local got
    got=$(cell "$1" "$2" "$3" "$4" "$5")
    awk -v a="$got" -v b="$6" 'BEGIN {
        if (a == b) exit 0
        if (a !~ /^[-+.0-9e]+$/ || b !~ /^[-+.0-9e]+$/) exit 1
        d = a - b; if (d < 0) d = -d
        m = b < 0 ? -b : b; if (m < 1e-3) m = 1e-3
        exit d > 1e-6 * m }' || { echo "$2 $3 $4 $5: wanted $6, got $got"; return 1; }
}

# Two cases whose scores can be worked out by hand: A has 8 voxels of oedema and 4 enhancing, of which 6
# and 2 are found, 2 enhancing taken for core; B has nothing, and one voxel of oedema is invented.
two() {
    stream <<'PY'
t, p = zeros(4, 10, 12), zeros(4, 10, 12)
t[1, 2, 2:10], t[2, 4, 4:8] = 2, 3
p[1, 2, 2:8], p[2, 4, 4:6], p[2, 4, 6:8] = 2, 3, 1
case("A", t, p, spacing="0.5 2 3")
t, p = zeros(4, 10, 12), zeros(4, 10, 12)
p[3, 9, 11] = 2
case("B", t, p, spacing="0.5 2 3")
PY
}

@test "dice: Dice, sensitivity, specificity and volumes of every label and region, by hand" {
    two >s.tns
    dice <s.tns >t
    # A: label 1: nothing true, 2 predicted; 2: 6 of 8; 3: 2 of 4; a voxel is 3 mm3
    is t case A 1 dice 0
    is t case A 2 dice 0.857142857
    is t case A 3 dice 0.666666667
    is t case A WT dice 0.909090909
    is t case A TC dice 1
    is t case A ET dice 0.666666667
    is t case A 0 dice 0.997867804
    is t case A 2 sensitivity 0.75
    is t case A 1 sensitivity 0
    is t case A 1 specificity 0.995833333
    is t case A TC specificity 1
    is t case A WT label_mm3 36
    is t case A WT pred_mm3 30
    is t case A ET pred_mm3 6
    is t case A mean123 dice 0.507936508
    is t case A mean0123 dice 0.630419332
    is t case B WT dice 0
    is t case B TC dice 1
    is t case B TC hd95 0
    is t case B WT hd95 374
    is t mean - WT dice 0.454545455
    is t sd - WT dice 0.642824347
    is t n - WT dice 2
}

@test "dice: overlap of random volumes as numpy counts it" {
    stream >s.tns <<'PY'
for i in range(3):
    t = rng.integers(0, 4, (3, 17, 13)).astype(np.uint8)
    p = np.where(rng.random(t.shape) < .6, t, rng.integers(0, 4, t.shape)).astype(np.uint8)
    np.save(f"v{i}.npy", np.stack([t, p]))
    case(f"c{i}", t, p)
PY
    dice -l none <s.tns >t
    "$PYTHON" - <<'PY'
import csv, numpy as np
rows = [r for r in csv.DictReader(open("t"), delimiter="\t") if r["row"] == "case"]
parts = {"0": [0], "1": [1], "2": [2], "3": [3], "WT": [1, 2, 3], "TC": [1, 3], "ET": [3]}
n = 0
for r in rows:
    if r["part"] not in parts:
        continue
    t, p = (np.isin(v, parts[r["part"]]) for v in np.load(f"v{r['case'][1:]}.npy"))
    for name, want in (("dice", 2 * (t & p).sum() / (t.sum() + p.sum())), ("sensitivity", (t & p).sum() / t.sum()),
                       ("specificity", (~t & ~p).sum() / (~t).sum()), ("label_mm3", t.sum()), ("pred_mm3", p.sum())):
        assert abs(float(r[name]) - want) <= 1e-7 * want, (r["case"], r["part"], name, r[name], want)
        n += 1
assert n == 3 * 7 * 5
PY
}

@test "dice: distances use the spacing of their own axis" {
    stream >s.tns <<'PY'
for name, at in ("x", (0, 0, 3)), ("y", (0, 3, 0)), ("z", (3, 0, 0)):
    t, p = zeros(5, 6, 7), zeros(5, 6, 7)
    t[0, 0, 0], p[at] = 3, 3
    case(name, t, p, spacing="0.5 2 7")
PY
    for d in surface pooled border; do
        dice -d $d <s.tns >t
        is t case x ET hd95 1.5
        is t case y ET hd95 6
        is t case z ET hd95 21
    done
}

@test "dice: each convention says what empty masks are worth, and names itself" {
    stream >s.tns <<'PY'
e, f = zeros(2, 6, 6), zeros(2, 6, 6)
f[0, 2, 2] = 3
case("both", e, e)
case("truth", e, f)
case("pred", f, e)
PY
    # convention, HD95; Dice and HD95 of: both empty, no truth, no prediction; cases in the Dice's mean
    while read -r c by d1 h1 d2 h2 d3 h3 n; do
        dice -c "$c" <s.tns >t
        is t case both ET dice "$d1"
        is t case both ET hd95 "$h1"
        is t case truth ET dice "$d2"
        is t case truth ET hd95 "$h2"
        is t case pred ET dice "$d3"
        is t case pred ET hd95 "$h3"
        is t n - ET dice "$n"
        is t case both ET convention "$c"
        is t case both ET hd95_by "$by"
    done <<'T'
brats2023 surface 1 0 0 374 0 374 3
brats2020 pooled 1 0 0 373.1287 0 373.1287 3
nnunet none nan nan 0 nan 0 nan 2
monai border nan nan nan nan 0 nan 1
study none 1 nan 9.9999e-06 nan 9.9999e-06 nan 3
T
}

@test "dice: -a prints the scores under all conventions side by side" {
    two >s.tns
    dice -a <s.tns >all
    is all case A WT convention all
    for c in brats2023.surface brats2020.pooled nnunet.none monai.border study.none; do
        dice -c "${c%.*}" <s.tns >one
        for case in A B; do
            for part in 1 WT ET; do
                is all case $case $part "dice.${c%.*}" "$(cell one case $case $part dice)"
                is all case $case $part "hd95.$c" "$(cell one case $case $part hd95)"
                is all case $case $part "sensitivity.${c%.*}" "$(cell one case $case $part sensitivity)"
            done
        done
        is all mean - WT "dice.${c%.*}" "$(cell one mean - WT dice)"
    done
}

@test "dice: -j says the same in JSON" {
    need_command jq
    two >s.tns
    for o in "" "-a" "-p slice" "-c nnunet"; do
        dice $o <s.tns >t
        dice $o -j <s.tns >j
        # every number of the table, in its order
        awk -F'\t' 'NR > 1 { for (i = 12; i <= NF; i++) print $i == "nan" ? "null" : $i }' t >a
        jq -r '[.cases[].parts, .mean, .sd, .n][] | .[] | .[] | tostring' j >b
        [ "$(wc -l <a)" -gt 200 ]
        paste a b | awk '$1 != $2 && ($1 - $2) ^ 2 > 1e-15 * $1 ^ 2 { print; bad = 1 } END { exit bad }'
    done
    dice -j <s.tns | jq -e '.convention == "brats2023" and .hd95_by == "surface" and .lesion_rule == "gli" and
        .counted == 2 and (.cases[1] | .case == "B" and .slices == 4 and .absent == 0 and .trained == null)'
}

@test "dice: a case's name with quotes and a tab leaves table and JSON whole" {
    need_command jq
    stream >s.tns <<'PY'
case('a "b"\\\tc\u00e9', zeros(1, 2, 2), zeros(1, 2, 2))
PY
    dice <s.tns >t
    [ "$(awk -F'\t' '{ print NF }' t | sort -u | wc -l)" = 1 ]
    dice -j <s.tns | jq -e '.cases[0].case == "a \"b\"\\\tc\u00e9"'
}

@test "dice: lesions by the rule asked for" {
    stream >s.tns <<'PY'
t, p = zeros(20, 40, 40), zeros(20, 40, 40)
t[2:6, 2:6, 2:6] = p[2:6, 2:6, 2:6] = 3     # found
t[10:15, 30:35, 30:35] = 3                  # missed
t[10:12, 5:7, 30:32] = 3                    # 8 mm3, missed: too small for gliomas
p[18, 20, 20] = 3                           # invented
case("A", t, p)
PY
    dice <s.tns >t
    is t case A ET lesion_dice 0.333333333
    is t case A ET lesion_hd95 249.333333
    is t case A ET found 1
    is t case A ET missed 1
    is t case A ET invented 1
    is t case A 3 lesion_dice nan
    is t case A ET lesion_rule gli
    dice -l met <s.tns >t
    is t case A ET lesion_dice 0.25
    is t case A ET missed 2
    dice -l none <s.tns >t
    is t case A ET lesion_dice nan
}

@test "dice: -b scores what a constant prediction earns, by hand" {
    # 24 pixels of head in both slices: 12 of oedema, 6 enhancing, no core; a prediction that would be perfect.
    stream >s.tns <<'PY'
t = zeros(2, 10, 12)
t[:, 2:4, 2:5], t[0, 4, 2:8] = 2, 3
image = np.zeros((2, 10, 12), np.int16)
image[0, 2:5, 2:8], image[1, 5, 2:8] = 7, -7
case("A", t, t, tensors=[("image", image)], trained="yes")
PY
    dice -b 0 -c monai <s.tns >t0
    dice -b 2 -c monai <s.tns >t2
    # Nothing found: 0 where there is something to find; what is not there does not count.
    is t0 case A 2 dice 0
    is t0 case A 1 dice nan
    is t0 mean - mean123 dice 0
    is t0 case A WT pred_mm3 0
    # 48 pixels called oedema: 2 * 12 / (12 + 48); WT 2 * 18 / (18 + 48); nothing enhancing.
    is t2 case A 2 dice 0.4
    is t2 case A 3 dice 0
    is t2 mean - mean123 dice 0.2
    is t2 case A WT dice 0.545454545
    is t2 case A WT pred_mm3 48
    # Nobody trained it, and it needs no prediction.
    is t2 n - 2 dice 1
    run -2 dice -b 16 <s.tns
    run -0 dice -b 0 -c study <s.tns
    stream >bad.tns <<<'case("A", zeros(1, 4, 4), zeros(1, 4, 4))'
    run -1 dice -b 1 <bad.tns
    [[ $output == *"image"* ]]
    dice -b 0 <bad.tns
}

@test "dice: -p slice scores each slice by itself" {
    two >s.tns
    dice -p slice <s.tns >t
    [ "$(awk -F'\t' '$1 == "slice" && $8 == "WT"' t | wc -l)" = 8 ]
    [ "$(awk -F'\t' '$1 == "slice" && $8 == "WT" { print $2 $4, $12 }' t | tr '\n' ' ')" = \
        "A0 1 A1 0.85714286 A2 1 A3 1 B0 1 B1 1 B2 1 B3 0 " ]
    is t mean - WT dice 0.857142857
    is t n - WT dice 8
    is t mean - WT hd95 nan
    # slices may come in any order, from any case
    dice -p slice -c monai <s.tns >t
    is t n - WT dice 2
}

@test "dice: soft Dice and the study's loss from prob, pooled over the case" {
    stream >s.tns <<'PY'
for i in range(2):
    t = rng.integers(0, 4, (3, 8, 9)).astype(np.uint8)
    q = rng.random((4, 3, 8, 9)).astype(np.float32)
    q /= q.sum(0)
    if i:
        q = q.astype(np.float16)
    np.save(f"t{i}.npy", t), np.save(f"q{i}.npy", q)
    case(f"c{i}", t, q.argmax(0).astype(np.uint8), prob=q)
PY
    dice <s.tns >t
    "$PYTHON" - >want <<'PY'
import numpy as np
for i in range(2):
    t, q = np.load(f"t{i}.npy"), np.load(f"q{i}.npy").astype(float)
    d = lambda s: (2 * q[s][:, np.isin(t, s)].sum() + 1e-5) / (q[s].sum() + np.isin(t, s).sum() + 1e-5)
    for n, s in ("0", [0]), ("1", [1]), ("3", [3]), ("WT", [1, 2, 3]), ("TC", [1, 3]):
        print(f"c{i}", n, "soft_dice", d(s))
    print(f"c{i}", "mean123", "soft_dice", np.mean([d([k]) for k in (1, 2, 3)]))
    print(f"c{i}", "mean0123", "dice_loss", 1 - np.mean([d([k]) for k in range(4)]))
PY
    while read -r c part col v; do
        is t case "$c" "$part" "$col" "$v"
    done <want
    [ "$(wc -l <want)" = 14 ]
    two | dice >t
    is t case A WT soft_dice nan
}

@test "dice: cropped slices are put back first: the same scores as of full ones" {
    for box in None "(4, 5, 16, 14)" "(-3, -2, 30, 32)" "(-3, 4, 20, 33)"; do
        stream >s.tns <<PY
t, p = zeros(5, 24, 26), zeros(5, 24, 26)
t[1:4, 6:14, 7:15], p[1:4, 8:15, 6:14] = 2, 2
t[2, 8:12, 8:12] = p[2, 9:12, 8:13] = 3
case("A", t, p, box=$box)
PY
        dice <s.tns >"t$box"
        cmp "tNone" "t$box"
    done
    # 3120 voxels, 192 true, 168 predicted, 126 both: 2886 of 2928
    is tNone case A WT specificity 0.985655738
}

@test "dice: what a prediction says in the padding beside the slice is not counted" {
    stream >s.tns <<'PY'
t = zeros(2, 6, 6)
case("A", t, t, only=[])
label, pred = zeros(8, 10), zeros(8, 10)
label[3, 4] = pred[3, 4] = 2
pred[[0, 7], :], pred[:, [0, 1, 8, 9]] = 2, 2
# The second slice first: what goes over its neighbour's end would stay in it.
for count, z in enumerate((1, 0)):
    sys.stdout.buffer.write(record(b"R", [("case", "A"), ("slice", z), ("slices", 2), ("spacing", "1 1 1"), ("scheme", "canonical"),
        ("crop", "-1 -2 8 10 6 6")], [("label", label), ("pred", pred)], count))
count = 2
PY
    dice <s.tns >t
    is t case A WT dice 1
    is t case A WT pred_mm3 2
}

@test "dice: cases of patients that the model knew are marked and left out, unless -L" {
    stream >s.tns <<'PY'
t, p = zeros(2, 6, 6), zeros(2, 6, 6)
t[0, 2, 2] = 2
case("seen", t, t, trained="yes", patient="P1", fingerprint="1" * 16)
case("new", t, p, trained="no", patient="P2", fingerprint="2" * 16)
PY
    run -0 --separate-stderr dice <s.tns
    echo "$output" >t
    [[ $stderr == "dice: warning: left out of the means: 1 of 2 cases, of patients that the model was trained on"*"-L"* ]]
    is t case seen WT trained yes
    is t case new WT trained no
    is t case new WT patient P2
    is t case seen WT dice 1
    is t mean - WT dice 0
    is t n - WT dice 1
    run -0 --separate-stderr dice -L <s.tns
    echo "$output" >t
    [ -z "$stderr" ]
    is t mean - WT dice 0.5
    is t n - WT dice 2
}

@test "dice: slices of a case may come in any order" {
    stream >a.tns <<'PY'
t, p = (rng.integers(0, 4, (6, 7, 8)).astype(np.uint8) for i in "tp")
case("A", t, p)
PY
    stream >b.tns <<'PY'
t, p = (rng.integers(0, 4, (6, 7, 8)).astype(np.uint8) for i in "tp")
case("A", t, p, only=[3, 0, 5, 4, 1, 2])
PY
    dice <a.tns >a
    dice <b.tns >b
    cmp a b
}

@test "dice: absent slices are counted and told" {
    stream >s.tns <<'PY'
t = zeros(9, 4, 4)
case("A", t, t, only=[2, 3, 7])
case("B", t, t)
PY
    run -0 --separate-stderr dice <s.tns
    echo "$output" >t
    is t case A WT slices 3
    is t case A WT absent 6
    is t case B WT absent 0
    [ "$stderr" = "dice: warning: 1 of 2 cases lack slices: what was predicted there is not seen" ]
}

@test "dice: streams one after the other are one stream, epoch marks are passed over" {
    two >s.tns
    sed 's/^//' >c.txt <<'PY'
case("C", zeros(1, 3, 3), zeros(1, 3, 3))
sys.stdout.buffer.write(record(b"R", [("mark", "epoch"), ("epoch", 0), ("index", 1), ("epochs", 1)], [], count))
count += 1
PY
    stream <c.txt >c.tns
    cat s.tns c.tns | dice >t
    is t n - WT dice 3
    is t case C WT dice 1
}

@test "dice: a stream without records gives a table without cases" {
    need_command jq
    echo | stream >s.tns
    dice <s.tns >t
    [ "$(wc -l <t)" = 28 ]
    is t mean - WT dice nan
    is t n - WT dice 0
    dice -j <s.tns | jq -e '.cases == [] and .counted == 0 and .mean.WT.dice == null'
}

# refused PROGRAM TEXT: dice fails on the stream, with TEXT in its one line
refused() {
    stream <<<"t, p = zeros(3, 4, 5), zeros(3, 4, 5)
$1" >bad.tns
    run --separate-stderr -1 dice <bad.tns
    [ "${#stderr_lines[@]}" = 1 ]
    [[ $stderr == "dice: stdin: "*"$2"* ]] || { echo "got: $stderr"; return 1; }
}

@test "dice: a study's own labels as its prediction are perfect, cropped or not, and their volumes right" {
    phantom -n 2 -d 64x72x20 -o cases
    # a filter that adds pred, moved by 2 voxels in the second study: tns(5) tells how
    cat >guess.py <<'PY'
import os, sys
sys.path.insert(0, os.path.join(os.environ["ROOT"], "tests/lib"))
from cases import record, struct, np
b, at, seen = sys.stdin.buffer.read(), 0, []
while at < len(b):
    kind, n, count, rest, number = b[at + 10:at + 11], *struct.unpack_from("<II4xQQ", b, at + 12)
    meta = [l.split("=", 1) for l in b[at + 64:at + 64 + n].decode().splitlines()]
    front = at + 64 + n + -n % 64
    data, tensors = front + 128 * count, []
    for i in range(count):
        name = b[front + 128 * i:front + 128 * i + 64].rstrip(b"\0").decode()
        shape = struct.unpack_from("<2I", b, front + 128 * i + 72)
        length, = struct.unpack_from("<Q", b, front + 128 * i + 104)
        if name == "label":
            label = np.frombuffer(b, np.uint8, length, data).reshape(shape)
            case = dict(meta)["case"]
            seen += [case] * (case not in seen)
            tensors = [("label", label), ("pred", np.roll(label, 2 * (len(seen) - 1), 1))]
        data += length + -length % 64
    sys.stdout.buffer.write(record(kind, meta, tensors, number))
    at += 64 + rest
PY
    for crop in "cat" "crop -m 16"; do
        pipe "nii2slices cases/* | recode -s brats2017 | $PYTHON guess.py | $crop | dice" >"t $crop"
    done
    cmp "t cat" "t crop -m 16"
    mv "t cat" t
    set -- cases/*
    a=${1#*/} b=${2#*/}
    for part in 0 1 2 WT TC; do
        is t case "$a" $part dice 1
        is t case "$a" $part sensitivity 1
    done
    is t case "$a" WT hd95 0
    is t case "$a" WT lesion_dice 1
    # moved along x, whose spacing is the first
    x=$(nii2slices "cases/$b" | tnsview -k spacing | awk 'END { print 2 * $1 }')
    is t case "$b" WT hd95 "$x"
    is t case "$b" WT pred_mm3 "$(cell t case "$b" WT label_mm3)"
    [ "$(cell t case "$b" WT label_mm3)" != 0 ]
}

@test "dice: a resection cavity that was kept has a row of its own, in every case's table" {
    stream >s.tns <<'PY'
t, p = zeros(3, 8, 9), zeros(3, 8, 9)
case("A", t, p)
t[1, 2:5, 2:7], t[1, 5, 2:7], t[2, 0] = 2, 4, 4
p[1, 2:6, 2:6], p[1, 5, 5], p[2, 7] = 2, 4, 4
case("B", t, p)
PY
    dice <s.tns >t
    # B: 14 voxels of cavity, 10 predicted, 1 found; of oedema 15, 15 (one of 16 is cavity), 12 found
    is t case B 4 dice 0.083333333
    is t case B 4 sensitivity 0.071428571
    is t case B 4 label_mm3 14
    is t case B 2 dice 0.8
    is t case B WT dice 0.8
    is t case B 0 specificity 0.551724138
    # A has none, and nothing of it was invented
    is t case A 4 dice 1
    is t case A 4 hd95 0
    # nothing missed, nothing invented
    is t case A 4 lesion_dice 1
    is t case A 4 lesion_hd95 0
    is t case A 3 lesion_dice nan
    is t mean - 4 dice 0.541666667
    dice -j <s.tns >j
    "$PYTHON" -c 'import json; c = json.load(open("j"))["cases"]; assert [list(x["parts"]) for x in c] == [["0", "1", "2", "3", "4", "WT", "TC", "ET", "mean123", "mean0123"]] * 2'
    # A case before the first cavity has the row of two empty masks all the same.
    is t mean - 4 lesion_dice "$(awk -v a="$(cell t case A 4 lesion_dice)" -v b="$(cell t case B 4 lesion_dice)" 'BEGIN { print (a + b) / 2 }')"
    # without a cavity there is no row
    echo 'case("A", zeros(1, 4, 4), zeros(1, 4, 4))' | stream | dice >u
    [ "$(cut -f8 u | grep -cx 4)" = 0 ]
}

@test "dice: a cavity is scored lesion by lesion, by the rule of the regions" {
    stream >s.tns <<'PY'
t, p = zeros(6, 24, 30), zeros(6, 24, 30)
t[0:4, 2:7, 2:7], p[0:4, 2:7, 2:7] = 4, 4       # found whole: 100 mm3
t[0:4, 2:7, 20:25] = 4                          # missed
p[5, 22, 2:4] = 4                               # invented, however small
case("A", t, p)
PY
    dice <s.tns >t
    for what in "found 1" "missed 1" "invented 1" "lesion_dice 0.33333333" "lesion_hd95 249.33333"; do is t case A 4 $what; done
    dice -l none <s.tns >t
    is t case A 4 lesion_dice nan
}

@test "dice: every label that train takes has a row once it is there, to 15" {
    stream >s.tns <<'PY'
t, p = zeros(1, 4, 8), zeros(1, 4, 8)
case("A", t, p)
t[0, 0], p[0, 0, :6], p[0, 1, :2] = 9, 9, 9     # of 8 found 6, 2 invented
q = np.zeros((10, 1, 4, 8), np.float32)
q[9, 0] = p[0] == 9
q[0, 0] = p[0] == 0
case("B", t, p, prob=q)
PY
    dice <s.tns >t
    [ "$(awk -F'\t' '$1 == "case" && $2 == "A" { printf "%s ", $8 }' t)" = "0 1 2 3 4 5 6 7 8 9 WT TC ET mean123 mean0123 " ]
    is t case B 9 dice 0.75
    is t case B 9 label_mm3 8
    is t case B 9 soft_dice 0.75000016
    is t case B WT label_mm3 0
    is t case A 9 dice 1
    is t mean - 9 dice 0.875
}

@test "dice: probabilities of regions are those of the regions, whatever labels have" {
    stream >s.tns <<'PY'
t, p = zeros(1, 2, 4), zeros(1, 2, 4)
t[0, 0] = [0, 1, 2, 3]
q = np.zeros((3, 1, 2, 4), np.float32)
q[0, 0, 0], q[1, 0, 0], q[2, 0, 0] = [.5, 1, 1, .5], [0, .5, 0, .5], [0, 0, 0, .25]
case("A", t, p, prob=q, regions="wt=1,2,3;tc=1,3;et=3")
PY
    dice <s.tns >t
    # (2 sum p o + e) / (sum p + sum o + e), e = 0.00001
    is t case A WT soft_dice 0.833333611
    is t case A TC soft_dice 0.666667778
    is t case A ET soft_dice 0.4000048
    is t case A 3 soft_dice 0.4000048
    is t case A 1 soft_dice nan
    is t case A mean0123 dice_loss 0.36666460
    refused 'case("A", t, p, prob=np.zeros((4, 3, 4, 5), np.float32), regions="wt=1,2,3;tc=1,3;et=3")' "prob: wrong shape (wanted 3x4x5, got 4x4x5)"
    refused 'case("A", t, p, prob=np.zeros((1, 3, 4, 5), np.float32), regions="wt")' "key 'regions': (wanted NAME=LABEL"
}

@test "dice: what cannot be scored is refused with its place" {
    refused 'case("A", t, p, scheme="raw")' "(A slice 0): labels are not canonical (wanted scheme=canonical, got scheme=raw"
    refused 'case("A", t, p, scheme=None)' "no key 'scheme'"
    refused 't[1, 2, 3] = 16; case("A", t, p)' "(A slice 1): label: value outside the scheme (wanted 0 to 15, got 16 at row 2, column 3)"
    refused 'p[2, 0, 4] = 255; case("A", t, p)' "(A slice 2): pred: value outside the scheme (wanted 0 to 15, got 255 at row 0, column 4)"
    refused 'case("A", t, zeros(3, 5, 4))' "pred: not the label's shape (wanted 4x5, got 5x4)"
    refused 'case("A", t, p); case("B", t, p); case("A", t, p)' "record 6 (A slice 0): the case was there before"
    refused 'case("A", t, p, only=[0, 1, 0])' "record 2 (A slice 0): the slice is there twice"
    refused 'case("A", t, p, only=[0]); case("A", t, p, only=[1], spacing="1 1 2")' "the case's size or spacing changes"
    refused 'case("A", t, p, only=[0]); case("A", t, p, only=[1], slices=4)' "the case's size or spacing changes"
    refused 'case("A", t, p, slices=2)' "key 'slice': (wanted a whole number from 0 to 1, got '2')"
    refused 'case("A", t, p, spacing="1 0 1")' "key 'spacing'"
    refused 'case("A", t, p, spacing="1 1")' "key 'spacing': (wanted 3 numbers, got '1 1')"
    refused 'case("A", t, p, case=None)' "no key 'case'"
    refused 'case("A", t, p, crop="0 0 9 9 20 20")' "label is not the size of its crop (wanted 9x9, got 4x5)"
    refused 'case("A", t, p, crop="0 0.5 4 5 20 20")' "key 'crop': no rectangle"
    refused 'case("A", t, p, crop="0 0 4 5 99999999 20")' "key 'crop': no rectangle"
    refused 'case("A", t, p, crop="0 0 4 5 16777216 16777216")' "the case is too large"
    refused 'case("A", t, p, slices=16000000, crop="0 0 4 5 400 400")' "the case is too large"
    refused 'case("A", t, p, trained="maybe")' "key 'trained': (wanted yes or no, got 'maybe')"
    refused 'case("A", t.astype(np.int16), p)' "tensor 'label': wrong type (wanted u8, got i16)"
    refused 'case("A", t, p, tensors=[("prob", np.zeros((3, 4, 5), np.float32))])' "prob: wrong shape (wanted 4x4x5, got 3x4x5)"
    refused 'case("A", t, p, prob=np.full((4, 3, 4, 5), np.nan, np.float32))' "prob: no probability"
    refused 'q = np.full((4, 3, 4, 5), .25, np.float32); case("A", t, p, prob=q, only=[0]); case("A", t, p, only=[1])' \
        "prob is in some slices of the case and not in others"
    refused 'sys.stdout.buffer.write(record(b"R", [("case", "A")], [("label", t[0])])); count = 1' "no tensor 'pred'"
}

@test "dice: a stream that is cut, or none at all, fails" {
    two >s.tns
    for n in 0 63 64 1000 $(($(wc -c <s.tns) - 64)); do
        head -c "$n" s.tns >cut.tns
        run --separate-stderr -1 dice <cut.tns
        [ "${#stderr_lines[@]}" = 1 ]
    done
    run --separate-stderr -1 dice <"$ROOT/Makefile"
    [[ $stderr == "dice: stdin: "* ]]
}

@test "dice: wrong usage exits 2, -h and -V 0" {
    for o in "-c brats" "-d hausdorff" "-l big" "-p patient" "-x" "file" "-c"; do
        run --separate-stderr -2 dice $o </dev/null
        [ -z "$output" ]
    done
    run -0 dice -h
    [[ $output == "usage: dice "* ]]
    run -0 dice -V
}

@test "dice: a full disk is an error" {
    two >s.tns
    run -1 pipe 'dice <s.tns >/dev/full'
    [[ $output == "dice: stdout: "* ]]
}

@test "dice: memory is that of one case, however many there are" {
    need_release "memory"
    need_command time
    local make='
for i in range(N):
    t = zeros(155, 240, 240)
    t[20:130, 60:200, 40:200] = 2
    t[60:90, 90:150, 90:150] = 3
    case(f"c{i}", t, np.roll(t, 2, 1))'
    stream <<<"N = 1$make" >one.tns
    stream <<<"N = 2$make" >two.tns
    one=$(peak_kib dice <one.tns)
    two=$(peak_kib dice <two.tns)
    echo "one $one KiB, two $two KiB"
    # two masks of 8.5 MiB; on the box of 116x148x166, 2.7 million voxels, 10 bytes a voxel; the border
    [ "$one" -lt $((56 * 1024)) ]
    [ "$two" -lt $((one + 4096)) ]
}
