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

# --- who meets whom -------------------------------------------------------------------------------

prep() { recode -s brats2017 | znorm; }

# Four patients A to D as streams, prepared; the same scans under other names; small settings.
setup_file() {
    export OMP_WAIT_POLICY=passive
    # Without LONG the sanitized build has all tools but the engine's.
    command -v train >/dev/null || export PATH=$PATH:$ROOT/build/release/bin
    cd "$BATS_FILE_TMPDIR"
    phantom -n 4 -d 16x16x12 -o c
    local i name
    for i in 1_A 2_B 3_C 4_D 1_X 2_a; do
        name=${i#*_}
        mkdir "$name"
        cp c/BraTS20_Training_00"${i%_*}"/* "$name"
        nii2slices -t "$name" | prep >"$name.tns"
    done
    # One modality of A among three of D.
    mkdir Y
    cp D/* Y
    cp A/*_t1ce.nii.gz Y/BraTS20_Training_004_t1ce.nii.gz
    nii2slices -t Y | prep >Y.tns
    cat A.tns B.tns >AB.tns
    printf 'arch: unet\nbase: 1\nbatch: 8\n' >u.yaml
    epochs -b 0 -n 2 -s 1 AB.tns >AB.epochs
    train -c u.yaml -o m <AB.epochs
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    ln -s "$BATS_FILE_TMPDIR"/*.{tns,epochs,yaml} "$BATS_FILE_TMPDIR"/{A,B,C,D,m} .
}

# A key of a model's metadata.
meta() { # FILE KEY
    "$PYTHON" - "$@" <<'PY'
import json, struct, sys
b = open(sys.argv[1], "rb").read()
print(json.loads(b[8:8 + struct.unpack("<Q", b[:8])[0]])["__metadata__"].get(sys.argv[2], "-"))
PY
}

# dies WORDS COMMAND: exit 1, and the words are said.
dies() {
    run -1 pipe "$2"
    [[ $output == *"$1"* ]] || { echo "wanted '$1', got: $output"; return 1; }
}

@test "train: a patient under two names is found by his voxels, by those of one modality too, and by a name in other capitals" {
    need_release "it is the engine's"
    dies "patient A of the training stream is X of the validation stream: the same voxels; -L lets that pass" \
        'train -c u.yaml -e X.tns -o n <AB.epochs'
    dies "patient A of the training stream is Y of the validation stream: the same voxels" 'train -c u.yaml -e Y.tns -o n <AB.epochs'
    dies "patient A of the training stream is a of the validation stream: the same name" 'train -c u.yaml -e a.tns -o n <AB.epochs'
    [ ! -e n ]
    train -c u.yaml -e C.tns -o n <AB.epochs
    [ "$(meta n leaky)" = no ]
    train -L -c u.yaml -e Y.tns -o leaky <AB.epochs
    [ "$(meta leaky leaky)" = yes ]
}

@test "train: the model keeps the fingerprints, in an order of their own" {
    need_release "it is the engine's"
    cat B.tns A.tns >BA.tns
    epochs -b 0 -n 1 -s 7 BA.tns | train -c u.yaml -o n
    [ "$(meta m patients)" = $'A\nB' ]
    meta m scans >scans
    [ "$(wc -l <scans)" = 2 ]
    for p in A B; do
        grep -qx "$(tnsview <$p.tns | sed -n 's/^ *fingerprint=//p' | head -1)"$'\t'$p scans
    done
    sort -c scans
    meta n scans | cmp - scans
}

@test "infer and dice: a model knows a patient under any name, and only him" {
    cat A.tns X.tns Y.tns C.tns | infer -t none -m m >p.tns 2>err
    py <<'PY'
who = {(k["case"], k["trained"], k.get("trained_as")) for k, _ in records("p.tns")}
assert who == {("A", "yes", None), ("X", "yes", "A"), ("Y", "yes", "A"), ("C", "no", None)}, who
PY
    grep -qF "patient X of the stream is A of the model's training: the same voxels" err
    [ "$(wc -l <err)" = 2 ]
    dice -d none <p.tns >table 2>err
    grep -qF "left out of the means: 3 of 4 cases" err
    grep -qF "patient Y is A of the model's training" err
    grep -qF "case X is case A: the same voxels" err
    # A name is the whole name.
    for p in AB B1 ''; do
        mkdir "P$p"
        cp C/* "P$p"
    done
    mv PAB AB
    mv PB1 B1
    nii2slices AB B1 P | prep | infer -t none -m m >p.tns
    py <<'PY'
assert {k["trained"] for k, _ in records("p.tns")} == {"no"}
PY
}

@test "dice: slices of a case that contradict each other about training are refused" {
    infer -t none -m m <A.tns >p.tns
    infer -t none -m m <C.tns >q.tns
    py <<'PY'
for name, source in ("yes-first", "p.tns"), ("no-first", "q.tns"):
    rs = [(dict(k), t) for k, t in records(source)]
    rs[-1][0]["trained"] = {"yes": "no", "no": "yes"}[rs[0][0]["trained"]]
    open(name, "wb").write(mkstream.stream({}, rs))
    for k, _ in rs[1:]:
        k.pop("trained")
    open(name + "-alone", "wb").write(mkstream.stream({}, rs))
PY
    dies "trained=no" 'dice -d none <yes-first >table'
    dies "trained=yes" 'dice -d none <no-first >table'
    # One that says nothing contradicts nobody.
    run -0 pipe 'dice -d none <yes-first-alone'
    [[ $output == *"left out of the means: 1 of 1 cases"* ]]
}

@test "infer and dice: who was found out by voxels is known by his name from then on, and dice counts none of his cases" {
    g=BraTS-GLI-00001
    # Two time points of one patient, the first A's voxels; W has the voxels of the second.
    for i in A_$g-000 C_$g-001 C_W D_V; do
        mkdir "${i#*_}"
        cp "${i%%_*}"/* "${i#*_}"
        nii2slices -t "${i#*_}" | prep >"${i#*_}.tns"
    done
    cat $g-000.tns $g-001.tns W.tns V.tns | infer -t none -m m >after.tns 2>err
    py <<'PY'
who = {k["case"]: (k["trained"], k.get("trained_as")) for k, _ in records("after.tns")}
g = "BraTS-GLI-00001"
assert who == {g + "-000": ("yes", "A"), g + "-001": ("yes", "A"), "W": ("yes", "A"), "V": ("no", None)}, who
PY
    [ "$(grep -c "patient $g of the stream is A of the model's training: the same voxels" err)" = 1 ]
    # What came before he was found out says no: dice knows at the end.
    cat W.tns V.tns $g-001.tns $g-000.tns | infer -t none -m m >before.tns 2>err
    [ "$(tnsview -k case,trained <before.tns | sort -u)" = "$(printf '%s\t%s\n' $g-000 yes $g-001 no V no W no)" ]
    for p in case slice; do
        dice -p $p -d none <after.tns >want 2>err
        dice -p $p -d none <before.tns >got 2>err
        grep "^$p" got | cut -f 2,5 | sort -u | diff - <(printf '%s\t%s\n' $g-000 yes $g-001 yes V no W yes)
        diff <(grep ^mean want) <(grep ^mean got)
        grep -qF "patient $g of case $g-001 was trained on: he is $g of case $g-000" err
        grep -qF "patient W of case W was trained on: he is $g of case $g-000" err
        [ "$(grep -c "was trained on: he is" err)" = 2 ]
    done
    dice -d none <before.tns 2>&1 >table | grep -qF "left out of the means: 3 of 4 cases"
    dice -j -d none <before.tns 2>err | grep -qF '"counted": 1, "trained": 3'
    dice -L -j -d none <before.tns 2>err | grep -qF '"counted": 4, "trained": 3'
    # One who was trained on under another name was trained on.
    py <<'PY'
for name, trained in ("no", "no"), ("none", None):
    rs = [(dict(k), t) for k, t in records("after.tns") if k["case"] == "W"]
    for k, _ in rs:
        k.pop("trained")
        if trained:
            k["trained"] = trained
    open(name + ".tns", "wb").write(mkstream.stream({}, rs))
PY
    dies "trained_as=A, but not trained=yes (got trained=no)" 'dice -d none <no.tns >table'
    dies "trained_as=A, but not trained=yes (got trained=nothing)" 'dice -d none <none.tns >table'
    [ ! -s table ]
}

@test "a fingerprint that is none is an error; where there is none, a warning says that names alone are compared" {
    infer -t none -m m <A.tns >p.tns
    epochs -b 0 -n 1 C.tns >C.epochs
    for bad in 5F1C00D2A86B93E4 hello '' 0123456789abcde 0123456789abcdef0 0123456789abcdef, 0123456789abcdef,,0123456789abcdef \
        '0123456789abcdef 0123456789abcdef' absent nobody; do
        py "$bad" <<'PY'
for source in "C.tns", "p.tns", "C.epochs":
    rs = [(dict(k), t) for k, t in records(source)]
    for k, _ in rs:
        if "fingerprint" in k:
            k["fingerprint"] = "0" * 16 if sys.argv[1] == "nobody" else sys.argv[1]
            if sys.argv[1] == "absent":
                k.pop("fingerprint")
    open("bad-" + source, "wb").write(mkstream.stream([("history", h) for h in "nii2slices -l brats -t|recode -s brats2017|znorm -p case".split("|")], rs))
PY
        cat bad-C.tns D.tns >two.tns
        rm -f n n.* o o.*
        for command in 'infer -t none -m m <bad-C.tns' 'dice -d none <bad-p.tns' 'folds -k 2 -s 1 <two.tns' 'train -c u.yaml -o n <bad-C.epochs' \
            'train -c u.yaml -e bad-C.tns -o o <AB.epochs'; do
            case $bad in
            absent | nobody)
                pipe "$command >out 2>err"
                said=$(grep -c "patients are compared by name alone" err || true)
                [ "$bad $said" = "nobody 0" ] || [ "$bad $said" = "absent 1" ] || { echo "$bad: $command: $(cat err)"; return 1; }
                ;;
            *) dies "key 'fingerprint': (wanted 16 digits of 0-9 and a-f for each modality, with commas between, got '$bad')" "$command >out" ;;
            esac
        done
        if [ "$bad" = absent ]; then
            infer -t none -m n <A.tns 2>&1 >out | grep -qF "n: holds no fingerprints of some it was trained on: they are known by name alone"
        fi
    done
    infer -t none -m m <A.tns 2>err >out
    [ ! -s err ]
    # A model from before has none, a damaged one nonsense.
    py <<'PY'
import json
b = open("m", "rb").read()
n = int.from_bytes(b[:8], "little")
for name, scans in ("old", None), ("bad", "hello\tA"), ("short", "0123456789abcdef"):
    h = json.loads(b[8:8 + n])
    h["__metadata__"].pop("xxh3")
    h["__metadata__"].pop("scans")
    if scans:
        h["__metadata__"]["scans"] = scans
    t = json.dumps(h).encode()
    t += b" " * (-len(t) % 64 + 56)
    open(name, "wb").write(len(t).to_bytes(8, "little") + t + b[8 + n:])
PY
    infer -t none -m old <A.tns 2>&1 >out | grep -qF "old: holds no fingerprints of some it was trained on: they are known by name alone"
    for bad in bad short; do
        dies "$bad: the model's metadata has no sound 'scans'" "infer -t none -m $bad <A.tns >out"
    done
}

@test "nii2slices: a folder that only says when takes its name from those above it" {
    while read -r path case patient; do
        mkdir -p "d/$path"
        cp A/*_{flair,t1,t1ce,t2,seg}.nii.gz "d/$path"
        [ "$(nii2slices -t "d/$path" | tnsview -k case,patient | sort -u)" = "$case"$'\t'"$patient" ]
    done <<'END'
Patient-001/week-000-1 Patient-001_week-000-1 Patient-001
Patient-001/week-044 Patient-001_week-044 Patient-001
PatientID_0003/Timepoint_1 PatientID_0003_Timepoint_1 PatientID_0003
sub-01/ses-01/anat sub-01_ses-01 sub-01
sub-02/anat sub-02 sub-02
Doe/WEEK-3 Doe_WEEK-3 Doe
weekly weekly weekly
END
    for args in 'd/Patient-001|week-044|Patient-001_week-044' 'd/Patient-001/week-044|.|Patient-001_week-044' \
        'd/Patient-001/week-044|../week-044/|Patient-001_week-044' 'd/sub-01/ses-01|anat|sub-01_ses-01' 'd/sub-01/ses-01|./anat/|sub-01_ses-01'; do
        IFS='|' read -r dir path case <<<"$args"
        [ "$(cd "$dir" && nii2slices -t "$path" | tnsview -k case | sort -u)" = "$case" ]
    done
    # A name is too long with those above it, and not without.
    long=$(printf 'x%.0s' {1..250})
    mkdir -p "$long/week-000"
    dies "a name is too long" "nii2slices $long/week-000 >out"
    # Time points of a patient are dealt as one; that week of another is another's.
    mkdir -p d/Patient-002/week-044
    cp B/* d/Patient-002/week-044
    nii2slices -t d/Patient-00[12]/week-* >all.tns
    folds -k 2 -s 1 <all.tns >f
    [ "$(cut -sf 2,3 f | sort)" = "$(printf '%s\t%s\n' Patient-001_week-000-1 Patient-001 Patient-001_week-044 Patient-001 Patient-002_week-044 Patient-002)" ] || { cat f; return 1; }
}

@test "folds: a case that is two scans is refused" {
    mkdir -p one/W two/W
    cp A/* one/W
    cp C/* two/W
    nii2slices -t one/W >1.tns
    nii2slices -t two/W >2.tns
    cat 1.tns 2.tns >two.tns
    a=$(tnsview <1.tns | sed -n 's/^ *fingerprint=//p' | head -1)
    b=$(tnsview <2.tns | sed -n 's/^ *fingerprint=//p' | head -1)
    for by in patient slice; do
        dies "case 'W' is two scans: fingerprint $a, then $b" "folds -b $by -k 2 -s 1 <two.tns >f"
    done
}

@test "nii2slices -w: a file says who is who, and every tool after it sees that" {
    printf '# case\tpatient\nA\tNo 1\n\nB\tNo 1\nC\tNo 2\nnot here\tNo 3\n' >who
    nii2slices -w who -t A | prep >who-a.tns
    nii2slices -w who -t B C | prep >bc.tns
    [ "$(tnsview -k case,patient <bc.tns | sort -u)" = $'B\tNo 1\nC\tNo 2' ]
    epochs -b 0 -n 1 who-a.tns >who-a.epochs
    dies "patient No 1 of the training stream is No 1 of the validation stream: the same name" 'train -c u.yaml -e bc.tns -o n <who-a.epochs'
    dies "case D is not in who" 'nii2slices -w who A D >out'
    run ! tnsview -c <out
    for bad in 'A\n|line 1: wanted case and patient' 'A\tp\tq\n|line 1: wanted' 'A\t\n|line 1: wanted' '\tp\n|line 1: wanted' \
        'A\tp\n\nA\tp\n|line 3: case '"'A' stands twice" 'A\tp|line 1: not ended'; do
        # shellcheck disable=SC2059
        printf "${bad%%|*}" >bad
        dies "bad: ${bad##*|}" 'nii2slices -w bad A >out'
    done
    dies "none: No such file" 'nii2slices -w none A >out'
}

@test "folds: who shares a voxel or a name is one patient, in one fold, under one name" {
    cat D.tns X.tns C.tns Y.tns a.tns A.tns B.tns >all.tns
    folds -k 2 -s 1 <all.tns >f 2>err
    grep -qF "patient Y is patient D: the same voxels; dealt as one" err
    grep -qF "patient Y is patient X: the same voxels; dealt as one" err
    grep -qF "patient A is patient a: the same name; dealt as one" err
    # Y has a modality of A and three of D; X is A under another name; a is B under A's: all but C are one.
    [ "$(cut -sf 3 f | sort | uniq -c | awk '{ print $1, $2 }')" = $'6 A\n1 C' ]
    # In whatever order they come.
    cat A.tns a.tns B.tns C.tns D.tns Y.tns X.tns | folds -k 2 -s 1 2>err | cmp - f
    for f in 0 1; do
        pick -m f -f $f val <all.tns | tnsview -k patient | sort -u
    done 2>/dev/null | sort | diff - <(printf 'A\nC\n')
    folds -k 2 -s 1 -b slice <all.tns 2>err | cut -sf 3 | sort -u | diff - <(printf 'A\nC\n')
    dies "too few patients for 2 folds (1)" 'cat X.tns A.tns Y.tns | folds -k 2 -s 1 >f'
}

@test "mislabel: no patient keeps his labels, under whatever name or session" {
    for i in 1_A 2_A 3_B 4_C; do
        printf '%s\t%s\n' "$i" "${i#*_}"
    done >who
    for i in 1_A 2_B 3_C 4_D; do
        name=${i%_*}_$(sed -n "${i%_*}s/.*\t//p" who)
        mkdir "$name"
        cp "${i#*_}"/* "$name"
    done
    nii2slices -w who 1_A 2_A 3_B 4_C | recode -s brats2017 >in.tns
    cat A.tns B.tns X.tns C.tns >twins.tns
    for seed in 1 2 3 4 5 6; do
        mislabel -s $seed in.tns >out.tns
        mislabel -s $seed twins.tns >twins.out
        py <<'PY'
for old, new, patient in (("in.tns", "out.tns", lambda case: case[2:]), ("twins.tns", "twins.out", lambda case: case.replace("X", "A"))):
    a, b = records(old), records(new)
    label = {(k["case"], k["slice"]): t["label"] for k, t in a}
    assert len(a) == len(b)
    for (k, t), (m, u) in zip(a, b):
        assert m["case"] == k["case"] and patient(m["labels_of"]) != patient(k["case"]), m
        want = label.get((m["labels_of"], k["slice"]))
        assert (u["label"] == (0 if want is None else want)).all() and (u["image"] == t["image"]).all()
        assert "tumour" not in m or m["tumour"] == str((u["label"] > 0).sum()), m
    assert "tumour" in b[0][0] or old == "twins.tns"
    assert len({m["labels_of"] for m, _ in b}) > 1
PY
    done
    cat A.tns X.tns >one.tns
    dies "one.tns: only one patient (wanted two or more to exchange labels)" 'mislabel one.tns >out.tns'
}

# --- how it was prepared --------------------------------------------------------------------------

@test "infer and train: a history that was left out hides no preparation" {
    nii2slices -t A | recode -s brats2017 | tee A.raw | znorm -H | crop -H -F -s 8x8 >hidden.tns
    epochs -b 0 -n 1 hidden.tns | train -c u.yaml -o n
    [ "$(meta n steps)" = '' ]
    [ "$(meta n norm),$(meta n cropped)" = "case,-p case -s 8x8" ]
    infer -n -m n | grep ^step | diff - <(printf 'step\tznorm -p case\nstep\tcrop -p case -s 8x8\n')
    nii2slices -t C | recode -s brats2017 >raw.tns
    dies "key 'norm' differs (wanted case, got none)" 'infer -t none -m n <raw.tns >p.tns'
    dies "key 'norm' differs (wanted case, got slice)" 'znorm -p slice <raw.tns | crop -F -s 8x8 | infer -t none -m n >p.tns'
    dies "key 'cropped' differs (wanted -p case -s 8x8, got none)" 'znorm <raw.tns | infer -t none -m n >p.tns'
    dies "key 'cropped' differs (wanted -p case -s 8x8, got -p case -s 8x16)" 'znorm <raw.tns | crop -H -F -s 8x16 | infer -t none -m n >p.tns'
    dies "key 'cropped' differs (wanted -p case -s 8x8, got none)" 'znorm <raw.tns | crop -F -s 8x8 | crop -u | infer -t none -m n >p.tns'
    [ "$(crop -F -s 8x8 <raw.tns | tnsview | grep -c '^ *cropped=')" = "$(tnsview <raw.tns | grep -c ^record)" ]
    [ -z "$(crop -F -s 8x8 <raw.tns | crop -u | tnsview | grep '^ *crop')" ]
    # What is prepared alike passes, hidden or shown, in either order.
    znorm <raw.tns | crop -F -s 8x8 >shown.tns
    infer -t none -m n <shown.tns >p.tns
    crop -H -F -s 8x8 <raw.tns | znorm -H | infer -t none -H -m n | tnsview -k case | sort -u | grep -qx C
    # A model of raw data likes no other.
    dies "key 'norm' differs (wanted none, got case)" 'epochs -b 0 -n 1 A.raw | train -c u.yaml -o raw && infer -t none -m raw <C.tns >p.tns'
    # So do train's two streams, and the records of one.
    dies "raw.tns: prepared differently from the training stream: key 'norm' differs (wanted case, got none)" \
        'epochs -b 0 -n 1 A.tns | train -c u.yaml -e raw.tns -o x'
    cat C.tns shown.tns >mixed.tns
    dies "mixed.tns: record $(tnsview <C.tns | grep -c ^record): prepared differently from the first record: key 'cropped'" \
        'epochs -b 0 -n 1 A.tns | train -c u.yaml -e mixed.tns -o x'
    epochs -b 0 -F -n 1 mixed.tns >mixed.epochs
    dies "prepared differently from the first record: key 'cropped' differs" 'train -c u.yaml -o x <mixed.epochs'
    [ ! -e x ]
    train -F -c u.yaml -o x <mixed.epochs
}

@test "infer: a spacing that the model did not learn from is told once" {
    respaced() { # FROM TO SPACING...
        py "$@" <<'PY'
rs = [(dict(k), t) for k, t in records(sys.argv[1])]
for i, (k, _) in enumerate(rs):
    k["spacing"] = sys.argv[3 + i % (len(sys.argv) - 3)]
open(sys.argv[2], "wb").write(mkstream.stream([("history", h) for h in ("nii2slices -l brats -t", "recode -s brats2017", "znorm -p case")], rs))
PY
    }
    respaced A.tns t.tns "1 1 2" "1.5 1 1"
    epochs -b 0 -n 1 t.tns | train -c u.yaml -o n
    [ "$(meta n spacing)" = "1 1 1 1.5 1 2" ]
    while IFS='|' read -r said spacing; do
        respaced C.tns c.tns "$spacing"
        infer -t none -m n <c.tns >p.tns 2>err
        [ "$(grep -c "warning: .*spacing $spacing is not what the model learned from (1 1 1 1.5 1 2)" err)" = "$said" ]
    done <<'END'
0|1.2 1 1.5
0|1.57 0.96 2
1|1.6 1 1
1|1 1 2.2
1|1 0.9 1
END
}

# --- continuing -----------------------------------------------------------------------------------

# Half of a run, stopped by the end of its input: half OPTION... (-o n, from AB.epochs)
half() {
    head -c $(($(stat -Lc %s AB.epochs) * 4 / 5)) AB.epochs >cut
    run -1 train -c u.yaml -o n "$@" <cut
    [ -e n.last ]
    [ ! -e n ]
}

@test "train -r: other records, other patients are refused, and the difference is named" {
    need_release "it is the engine's"
    half
    # As long an epoch as before, whatever the phantoms' tumours.
    py <<'PY'
n = len(records("AB.tns"))
for new in "CD", "AC", "ABC":
    each = [records(p + ".tns") for p in new]
    rs = [e[i % len(e)] for i in range(n) for e in each][:n]
    open(new + ".same", "wb").write(mkstream.stream([("history", h) for h in "nii2slices -l brats -t|recode -s brats2017|znorm -p case".split("|")], rs))
PY
    dies "another training stream than that of the run so far (patient A is missing)" \
        'epochs -b 0 -n 2 -s 1 CD.same | train -r -c u.yaml -o n'
    dies "(patient B is missing)" 'epochs -b 0 -n 2 -s 1 AC.same | train -r -c u.yaml -o n'
    dies "(patient C was not in it)" 'epochs -b 0 -n 2 -s 1 ABC.same | train -r -c u.yaml -o n'
    # The same names, another voxel.
    mkdir other
    cp -rL B other/B
    py <<'PY'
import glob
(path,) = glob.glob("other/B/*_t2.nii.gz")
h, d = load(path)
d = d.copy()
d[8, 8, 6] += 1
open(path, "wb").write(gzip.compress(h + d.tobytes(order="F")))
PY
    (cat A.tns; nii2slices -t other/B | prep) >other.tns
    dies "(other records, " 'epochs -b 0 -n 2 -s 1 other.tns | train -r -c u.yaml -o n'
    train -r -c u.yaml -o n <AB.epochs
    cmp n m
}

@test "train -r: another order, share or change of the records is refused, be the history left out or not" {
    need_release "it is the engine's"
    epochs -b 0 -H -n 2 -s 1 AB.tns | augment -H -s 3 flip@.5 >hidden.epochs
    head -c $(($(stat -c %s hidden.epochs) * 4 / 5)) hidden.epochs >cut
    run -1 train -c u.yaml -o n <cut
    [ -e n.last ]
    for other in 'epochs -b 0 -H -n 2 -s 5 AB.tns | augment -H -s 3 flip@.5' 'epochs -H -n 2 -s 1 -b .5 AB.tns | augment -H -s 3 flip@.5' \
        'epochs -b 0 -H -n 2 -s 1 AB.tns | augment -H -s 4 flip@.5' \
        'epochs -b 0 -H -n 2 -s 1 AB.tns | augment -H -s 3 flip@.6' 'epochs -b 0 -H -n 2 -s 1 AB.tns | augment -H -s 3 flip@.5 noise' \
        'epochs -b 0 -H -n 2 -s 1 AB.tns' 'epochs -b 0 -H -n 2 -s 1 AB.tns | augment -H -s 3 flip@.5 | crop -u -H'; do
        dies "another training stream than that of the run so far (other records, or the same in another order, or changed otherwise)" \
            "$other | train -r -c u.yaml -o n"
    done
    # The digest does not depend on whether the history is shown, nor on where the run goes on.
    tnsview <hidden.epochs | grep digest= >hidden
    epochs -b 0 -n 2 -s 1 AB.tns | augment -s 3 flip@.5 | tnsview | grep digest= | cmp - hidden
    epochs -b 0 -H -k 5 -n 2 -s 1 AB.tns | augment -H -s 3 flip@.5 | tnsview | grep digest= | cmp - hidden
    # It is what tns.md says.
    epochs -b 0 -n 2 -s 1 AB.tns >shown.epochs
    augment -s 3 flip@.5 <shown.epochs >augmented.epochs
    py <<'PY'
header = lambda path: next(p for kind, _, p, _, _ in mkstream.parse(open(path, "rb").read()) if kind == "H")
before, after = header("shown.epochs"), header("augmented.epochs")
step = [v for k, v in after if k == "history"][-1]
assert step.startswith("augment -s 3 flip=")
text = f"{dict(before)['digest']}\n{step}".encode()
assert dict(after)["digest"] == f"{mkstream._xxh(text, len(text)):016x}"
PY
    train -r -c u.yaml -o n <hidden.epochs
    train -c u.yaml -o whole <hidden.epochs
    cmp n whole
}

@test "train -r: a checkpoint of an older version is named as that" {
    need_release "it is the engine's"
    half
    py <<'PY'
import json
b = open("n.last", "rb").read()
n = int.from_bytes(b[:8], "little")
h = json.loads(b[8:8 + n])
for key in "run.stream", "run.validation", "scans", "norm", "cropped":
    h["__metadata__"].pop(key)
h["__metadata__"]["config"] = "another: then\n"
h["__metadata__"]["xxh3"] = "0" * 16
t = json.dumps(h, separators=(",", ":")).encode()
t += b" " * (-(len(t) + 8) % 64)
f = len(t).to_bytes(8, "little") + t + b[8 + n:]
at = f.index(b'"xxh3":"') + 8
open("n.last", "wb").write(f[:at] + b"%016x" % mkstream._xxh(f, len(f)) + f[at + 16:])
PY
    dies "n.last: a checkpoint of an older version, which this one cannot continue" 'train -r -c u.yaml -o n <AB.epochs'
}

@test "train -r: another validation stream, one more or one less is refused" {
    need_release "it is the engine's"
    train -c u.yaml -e C.tns -o whole <AB.epochs
    half -e C.tns
    dies "the run so far was validated (wanted the -e that it had)" 'train -r -c u.yaml -o n <AB.epochs'
    dies "D.tns: another validation stream than that of the run so far (patient C is missing)" \
        'train -r -c u.yaml -e D.tns -o n <AB.epochs'
    cat C.tns D.tns >CD.tns
    dies "(patient D was not in it)" 'train -r -c u.yaml -e CD.tns -o n <AB.epochs'
    nii2slices C | prep >all.tns
    dies "all.tns: another validation stream than that of the run so far (other records, " \
        'train -r -c u.yaml -e all.tns -o n <AB.epochs'
    cp C.tns moved.tns
    train -r -c u.yaml -e moved.tns -o n <AB.epochs
    cmp n whole
    rm n n.*
    half
    dies "the run so far was not validated (wanted no -e, got C.tns)" 'train -r -c u.yaml -e C.tns -o n <AB.epochs'
}

@test "train -r: who was trained on before is compared, and a leak is not forgotten" {
    need_release "it is the engine's"
    half -L -e X.tns
    dies "patient A of the training stream is X of the validation stream: the same voxels" 'train -r -c u.yaml -e X.tns -o n <AB.epochs'
    train -r -L -c u.yaml -e X.tns -o n <AB.epochs
    [ "$(meta n leaky)" = yes ]
    # A run that is over reads no record, and makes of its last state what it was.
    (cat u.yaml; echo 'keep: last') >last.yaml
    train -L -c last.yaml -e X.tns -o l <AB.epochs
    cp l before
    rm l
    train -r -L -c last.yaml -e X.tns -o l <AB.epochs
    [ "$(meta l leaky)" = yes ]
    cmp l before
}

@test "train: a validation stream that changes during the run is noticed" {
    need_release "it is the engine's"
    cp -L C.tns v.tns
    mkfifo pipe
    train -c u.yaml -e v.tns -o n <pipe 2>err &
    exec 5>pipe
    head -c 100000 AB.epochs >&5
    # (After the head of the log, its first line: the first validation is over, the second waits for records.)
    until [ "$(cat n.tsv 2>/dev/null | wc -l)" -gt 1 ]; do kill -0 $! && pause; done
    cp -L D.tns v.tns
    tail -c +100001 AB.epochs >&5 || true # it may have died already
    exec 5>&-
    wait $! && false
    grep -q "v.tns: has changed since the run began" err
}
