#!/usr/bin/env bats
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
}

# dies WORDS ARGUMENT...: exit 1, one line with these words, no end record
dies() {
    local words=$1
    shift
    run -1 --separate-stderr bash -c 'nii2slices "$@" >out' _ "$@"
    [ "${#stderr_lines[@]}" = 1 ] || { echo "lines: $stderr"; return 1; }
    [[ $stderr == *"$words"* ]] || { echo "wanted '$words', got: $stderr"; return 1; }
    if [ -s out ]; then run ! pipe 'tnsview -c <out'; fi
}

@test "nii2slices: a case folder becomes its slices, with every key" {
    py <<'P'
v = case("BraTS20_Training_001")
subprocess.run("nii2slices -P BraTS20_Training_001 >out", shell=True, check=True)
rs = records()
assert len(rs) == 6
assert (whole(rs) == np.stack(v)).all() and (whole(rs, "label") == mask()).all()
m = rs[3][0]
want = {"case": "BraTS20_Training_001", "patient": "BraTS20_Training_001", "slice": "3", "slices": "6", "scheme": "raw",
        "modalities": "flair,t1,t1gd,t2", "spacing": "1 2 3"}
assert {k: m[k] for k in want} == want, m
a = np.stack(v).astype(float)
for k, f in (("mean", np.mean), ("std", np.std)):
    assert np.allclose([float(x) for x in m[k].split()], [f(c[c != 0]) for c in a], rtol=1e-13), k
used = (a != 0).any((0, 3))
x, y = np.where(used.any(1))[0], np.where(used.any(0))[0]
assert m["brain"] == f"{y[0]} {x[0]} {y[-1] - y[0] + 1} {x[-1] - x[0] + 1}", m["brain"]
assert rs[0][1]["image"].dtype == "<i2" and rs[0][1]["label"].dtype == "u1"
raw, _ = load("BraTS20_Training_001/BraTS20_Training_001_seg.nii.gz")
assert rs[0][1]["nifti"].tobytes() == raw
P
}

@test "nii2slices: the names of every year are known" {
    py <<'P'
names = {"brats18_a": ("{}_flair {}_t1 {}_t1ce {}_t2 {}_seg", ".nii"), "BraTS2021_00000": ("{}_flair {}_t1 {}_t1ce {}_t2 {}_seg", ".nii.gz"),
         "BraTS-GLI-00000-000": ("{}-t2f {}-t1n {}-t1c {}-t2w {}-seg", ".nii.gz"), "OTHER": ("{}_FLAIR {}_T1w {}_T1Gd {}_T2W {}_SEG", ".nii.gz"),
         "BraTS20_Training_355": ("{}_flair {}_t1 {}_t1ce {}_t2 W39_1998.09.19_Segm", ".nii")}
for c, (n, e) in names.items():
    v = case(c, names=n, ending=e)
    open(f"{c}/._{c}_t1.nii.gz", "w").write("what macOS leaves")
    open(f"{c}/_t2.nii.gz", "w").write("to be passed over")
    open(f"{c}/notes_t1.txt", "w").write("not NIfTI")
    subprocess.run(["nii2slices", c], stdout=open("out", "wb"), check=True)
    assert (whole(records()) == np.stack(v)).all() and (whole(records(), "label") == mask()).all(), c
P
}

@test "nii2slices: time points of BraTS 2023 are one patient" {
    py <<'P'
for c, want in (("BraTS-GLI-00005-001", "BraTS-GLI-00005"), ("BraTS2021_00003", "BraTS2021_00003"), ("BRATS_001", "BRATS_001")):
    case(c)
    subprocess.run(["nii2slices", c + "/"], stdout=open("out", "wb"), check=True)
    assert (records()[0][0]["case"], records()[0][0]["patient"]) == (c, want)
P
}

@test "nii2slices: a RAS study and an LPS study of one patient give the same records" {
    py <<'P'
case("a/P1", "LPS")
subprocess.run("nii2slices a/P1 >lps", shell=True, check=True)
drop = lambda rs: [(m, {k: v.tobytes() for k, v in t.items() if k != "nifti"}) for m, t in rs]
for codes in ("RAS", "LAS", "RPI", "PSR", "SLA"):
    case(codes + "/P1", codes, pixdim=[SPACING[next(i for i, p in enumerate(("LR", "PA", "SI")) if c in p)] for c in codes])
    subprocess.run(f"nii2slices {codes}/P1 >out", shell=True, check=True)
    assert drop(records()) == drop(records("lps")), codes
    subprocess.run(f"nii2slices -t {codes}/P1 >out", shell=True, check=True)
    assert drop(records()) == drop(records("lps")[2:4]), codes
P
}

@test "nii2slices: -t writes the slices with tumour, with the statistics of all" {
    py <<'P'
case("P1"); case("P2", seg=mask() * 0); case("P3", seg=mask(first=0, last=6))
subprocess.run("nii2slices P1 P2 P3 >all; nii2slices -t P1 P2 P3 >out", shell=True, check=True)
key = lambda rs: [(m["case"], m["slice"], m["mean"], m["brain"], t["image"].tobytes(), t["label"].tobytes()) for m, t in rs]
assert key(records()) == [k for k, (m, t) in zip(key(records("all")), records("all")) if t["label"].any()]
assert [m["slice"] for m, _ in records() if m["case"] == "P1"] == ["2", "3"]
P
}

@test "nii2slices: without a segmentation there is no label, and -t is an error before any record" {
    py <<'P'
case("P1"); case("P2", seg=False)
P
    nii2slices -P P2 >out
    py <<'P'
assert all("label" not in t and "scheme" not in m for m, t in records()) and len(records()) == 6
assert records()[0][1]["nifti"].tobytes() == load("P2/P2_flair.nii.gz")[0]
P
    dies "P2: no segmentation" -t P1 P2
    [ "$(wc -c <out)" = 8 ]
}

@test "nii2slices: -L leaves segmentations alone, whatever is in them" {
    phantom -n 1 -d 24x20x8 -s 1 -o a
    cp -r a bare
    rm bare/*/*_seg.nii.gz
    echo nonsense >"$(echo a/*/*_seg.nii.gz)"
    run -1 pipe 'nii2slices a/* >x.tns'
    nii2slices -L a/* >left.tns
    nii2slices bare/* >none.tns
    cmp <(tnsview <left.tns | grep -v history) <(tnsview <none.tns | grep -v history)
    run ! grep -q label <(tnsview -n 1 <left.tns)
    run -2 nii2slices -t -L a/*
}

@test "nii2slices: a case that lacks a modality or has it twice is refused by name, before any record" {
    py <<'P'
case("P1"); case("P2"); case("P3")
os.remove("P2/P2_t1ce.nii.gz"); os.remove("P2/P2_t2.nii.gz")
open("P3/P3-t2w.nii", "w").write("a second one")
P
    dies "P2: no file for t1gd, t2" P1 P2
    [ "$(wc -c <out)" = 8 ]
    dies "P2: no file for t1gd, t2 (wanted *_t1ce, *_t2; found P2_flair.nii.gz, P2_seg.nii.gz, P2_t1.nii.gz)" P2
    mkdir empty
    dies "empty: no file for flair, t1, t1gd, t2 (wanted *_flair, *_t1, *_t1ce, *_t2; found no NIfTI file)" empty
    dies "two files for t2: P3-t2w.nii and P3_t2.nii.gz" P1 P3
    [ "$(wc -c <out)" = 8 ]
    dies "named twice" P1 ./P1
    dies "no such folder" P1 nowhere
    [ "$(wc -c <out)" = 8 ]
}

@test "nii2slices: a file that no rule takes is named once for its case, be it the mask" {
    py <<'P'
case("P1"); case("P2"); case("P3")
os.rename("P1/P1_seg.nii.gz", "P1/P1_mask.nii.gz")
write("P1/P1_adc.nii", head()); write("P2/P2_adc.nii", head())
P
    run -0 --separate-stderr pipe 'nii2slices P1 P2 P3 >out'
    [ "${#stderr_lines[@]}" = 2 ]
    [[ ${stderr_lines[0]} == *"warning: P1: passed over: P1_adc.nii, P1_mask.nii.gz ("*"-m"* ]]
    [[ ${stderr_lines[1]} == *"warning: P2: passed over: P2_adc.nii ("* ]]
    dies "P1: no segmentation (option -t needs one; passed over: P1_adc.nii, P1_mask.nii.gz)" -t P1
    py <<'P'
for i in range(300): write(f"P2/P2_{i:03}_{'x' * 150}.nii", head((1, 1, 1)))
r = subprocess.run("nii2slices P2 >out", shell=True, check=True, stderr=subprocess.PIPE, text=True)
assert len(r.stderr.splitlines()) == 1 and len(r.stderr) < 700 and "P2_001" in r.stderr and ", ... (" in r.stderr, r.stderr
P
}

@test "nii2slices: -m names the files of a folder, some or all, by patterns" {
    py <<'P'
v = case("P1", names="10_T1_AX 11_MRHR_T2_AX 13_T1_POST_GAD 21_FLAIR_AX Tumour+outline")
case("P2", names="{}_flair {}_t1 scan7 {}_t2 {}_seg") # one name of four is its own
stream = lambda line: subprocess.run(f"nii2slices {line} >out", shell=True, stderr=subprocess.PIPE, text=True)
for m in ("-m 'flair=*FLAIR*,t1=10_*,t1gd=*gad*,t2=*_T2_*,seg=Tumour*'", "-m 't1c=*POST*' -m T2F=21_* -m t1w=10*,t2w=11_*.nii.gz -m segm=*+*"):
    r = stream(f"{m} P1")
    assert r.returncode == 0 and not r.stderr, r.stderr
    assert (whole(records()) == np.stack([v[3], v[0], v[2], v[1]])).all() and (whole(records(), "label") == mask()).all()
assert stream("-m t1gd=scan7.* P2").returncode == 0 and (whole(records()) == np.stack([head(seed=i) for i in range(4)])).all()
assert records()[0][1]["label"].any() or records()[3][1]["label"].any()
# A name that is given is not looked for under the usual words, and has to be there.
r = stream("-m flair=*_t1.* -m t1=*_flair.* -m t1gd=scan* P2")
assert r.returncode == 0 and (whole(records())[0] == head(seed=1)).all() and (whole(records())[1] == head(seed=0)).all()
P
    dies "no file for seg (wanted outline*; found" -m 'flair=21*,t1=10*,t1gd=13*,t2=11*,seg=outline*' P1
    dies "two files for t1: 10_T1_AX.nii.gz and 13_T1_POST_GAD.nii.gz" -m 'flair=21*,t1=*T1*,t1gd=x,t2=11*' P1
    dies "13_T1_POST_GAD.nii.gz is both t1 and t1gd" -m 'flair=21*,t1=*T1*,t1gd=13*,t2=11*' P1
    for wrong in flair flair= adc=x 'flair=a,flair=b' 'flair=a,t2f=b' =x ,; do
        run -2 nii2slices -m "$wrong" P1
    done
    run -2 nii2slices -l file -m flair=x P1/10_T1_AX.nii.gz
}

@test "nii2slices: volumes on different grids are refused by name" {
    py <<'P'
case("P1"); case("P2"); case("P3")
data, affine = turned(head((8, 7, 5)), "LPS")
write("P1/P1_t2.nii.gz", data, affine=affine)
data, affine = turned(head(), "LPS"); affine[0, 3] += 0.01
write("P2/P2_t1.nii.gz", data, affine=affine)
affine[0, 3] += 0.0005 - 0.01
write("P3/P3_t1.nii.gz", data, affine=affine)
P
    dies "P1_t2.nii.gz: not on the grid of P1/P1_seg.nii.gz (8x7x6 voxels against 8x7x5)" P1
    dies "P2_t1.nii.gz: not on the grid" P2
    nii2slices P3 | tnsview -c
}

@test "nii2slices: a label that is no whole number from 0 to 255 is refused with file and slice" {
    py <<'P'
for n, bad in (("P1", 1.5), ("P2", 256), ("P3", -1), ("P5", 3.9999998), ("P6", 2.0000002)):
    s = mask().astype("f4"); s[3, 3, 3] = bad
    case(n, seg=s)
case("P4", seg=mask().astype("f8"))
P
    dies "P1_seg.nii.gz: slice 3: label value 1.5" P1
    dies "P2_seg.nii.gz: slice 3: label value 256" P2
    dies "P3_seg.nii.gz: slice 3: label value -1" P3
    dies "P5_seg.nii.gz: slice 3: label value 3.9999998 (wanted whole numbers" P5
    dies "P6_seg.nii.gz: slice 3: label value 2.0000002 (wanted whole numbers" P6
    nii2slices P4 >out
    py <<'P'
assert (whole(records(), "label") == mask()).all()
P
}

@test "nii2slices: lesions have the size that the header's unit says, so an empty prediction earns nothing" {
    py <<'P'
data, affine = turned(head(), "LPS")
seg = np.zeros_like(data); seg[2:6, 2:5, 1:5] = 1 # 48 voxels of 1x2x3 mm: 288 mm3
case("mm", seg=seg)
case("m")
for n, v in (*zip(("flair", "t1", "t1ce", "t2"), [head(seed=i) for i in range(4)]), ("seg", seg)):
    write(f"m/m_{n}.nii.gz", v, affine=np.diag([1e-3] * 3 + [1]) @ affine, pixdim=[s / 1000 for s in SPACING], _123=("B", 1))
for c in ("mm", "m"):
    subprocess.run(f"nii2slices {c} | recode -s brats2017 >out", shell=True, check=True)
    open("scored", "wb").write(mkstream.stream([], [(m, {**t, "pred": 0 * t["label"]}) for m, t in records()]))
    rows = [l.split("\t") for l in subprocess.run("dice <scored", shell=True, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines() if not l.startswith("#")]
    row = next(dict(zip(rows[0], r)) for r in rows if r[1] == c and "WT" in r)
    assert float(row["label_mm3"]) == 288 and float(row["lesion_dice"]) == 0 and row["missed"] == "1", (c, row)
P
}

@test "nii2slices: one float volume makes the image float, exactly" {
    py <<'P'
v = [head(seed=i) for i in range(4)]
v[2] = v[2].astype("f4") / 3
case("P1", volumes=v)
subprocess.run("nii2slices P1 >out", shell=True, check=True)
assert records()[0][1]["image"].dtype == "<f4" and (whole(records()) == np.stack([a.astype("f4") for a in v])).all()
P
}

@test "nii2slices: a damaged file late in the stream ends it without an end record" {
    py <<'P'
case("P1"); case("P2")
b = open("P2/P2_t1.nii.gz", "rb").read()
open("P2/P2_t1.nii.gz", "wb").write(b[:-20])
P
    dies "P2/P2_t1.nii.gz: cut" P1 P2
    run -1 pipe 'nii2slices P1 P2 2>/dev/null | recode -s brats2017 >out2'
}

@test "nii2slices: the Decathlon's 4D files, channels by name and not by place" {
    py <<'P'
import json
os.makedirs("D/imagesTr"); os.makedirs("D/labelsTr"); os.makedirs("D/imagesTs")
names = ["T2w", "FLAIR", "t1gd", "T1w"]
json.dump({"name": "x", "modality": {str(i): n for i, n in enumerate(names)}, "labels": {"0": "background"},
           "training": [{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}], "test": []}, open("D/dataset.json", "w"), indent=1)
v = [head(seed=i) for i in range(4)]
for c in ("BRATS_002", "BRATS_001"):
    data, affine = turned(np.stack(v, -1)[..., 0], "RAS")
    write(f"D/imagesTr/{c}.nii.gz", np.stack([turned(a, "RAS")[0] for a in v], -1), affine=affine)
    write(f"D/labelsTr/{c}.nii.gz", turned(mask(), "RAS")[0], affine=affine)
    write(f"D/imagesTs/{c[:-1]}9.nii.gz", np.stack([turned(a, "RAS")[0] for a in v], -1), affine=affine)
    open(f"D/imagesTr/._{c}.nii.gz", "w").write("macOS")
for t in ("", "-t"):
    subprocess.run(f"nii2slices {t} -l msd D >out", shell=True, check=True)
    n = 2 if t else 6
    assert [m["case"] for m, _ in records()] == ["BRATS_001"] * n + ["BRATS_002"] * n
    got = whole(records()[:n])
    part = slice(2, 4) if t else slice(None)
    assert (got == np.stack([v[1], v[3], v[2], v[0]])[..., part]).all()
    assert (whole(records()[:n], "label") == mask()[..., part]).all()
subprocess.run("nii2slices -l msd D/imagesTr/BRATS_002 >out", shell=True, check=True)
assert {m["case"] for m, _ in records()} == {"BRATS_002"}
subprocess.run("nii2slices -l msd D/imagesTs >out", shell=True, check=True)
assert {m["case"] for m, _ in records()} == {"BRATS_009"} and "label" not in records()[0][1]
json.dump({"modality": {"0": "FLAIR", "1": "T1w", "2": "CT", "3": "T2w"}}, open("D/dataset.json", "w"))
P
    dies "channel 2: unknown modality 'CT'" -l msd D
    for twice in T2w T2F; do # the same word, another word for the same
        echo '{"modality": {"0": "T2w", "1": "FLAIR", "2": "'$twice'", "3": "T1w"}}' >D/dataset.json
        dies "channels $([ $twice = T2w ] && echo 0 and 2 are both t2 || echo 1 and 2 are both flair)" -l msd D
    done
    echo '{"modality": {"0": "FLAIR"' >D/dataset.json
    dies "no valid JSON" -l msd D
    rm D/dataset.json
    mkfifo D/dataset.json
    dies "dataset.json: is a pipe or a device (wanted a regular file)" -l msd D
    rm D/dataset.json
    dies "dataset.json" -l msd D
}

@test "nii2slices: an nnU-Net data set" {
    py <<'P'
import json
os.makedirs("N/imagesTr"); os.makedirs("N/labelsTr")
json.dump({"channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}, "file_ending": ".nii", "numTraining": 1}, open("N/dataset.json", "w"))
v = [head(seed=i) for i in range(4)]
for i in range(4):
    data, affine = turned(v[i], "LPS")
    write(f"N/imagesTr/P1_000{i}.nii", data, affine=affine)
write("N/labelsTr/P1.nii", mask(), affine=affine)
subprocess.run("nii2slices -l nnunet N >out", shell=True, check=True)
assert (whole(records()) == np.stack([v[3], v[0], v[1], v[2]])).all() and (whole(records(), "label") == mask()).all()
os.remove("N/imagesTr/P1_0002.nii")
P
    dies "P1_0002.nii: no such file (case P1, t2)" -l nnunet N
}

@test "nii2slices: dataset.json is read as Python writes it, and refused where JSON is broken" {
    py <<'P'
import json
os.makedirs("D/imagesTr")
v = head()
write("D/imagesTr/P1.nii.gz", np.stack([v] * 4, -1), affine=np.diag([-1, -1, 1, 1]), pixdim=(1, 1, 1))
channels = '"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}'
def run(text):
    open("D/dataset.json", "wb").write(text if isinstance(text, bytes) else text.encode())
    r = subprocess.run("nii2slices -l msd D >out", shell=True, stderr=subprocess.PIPE, text=True)
    assert r.returncode in (0, 1) and len(r.stderr.splitlines()) == r.returncode, (text, r.stderr)
    return r
d = {"name": "\U0001f9e0 brain", "a\U0001f9e0b": 1, "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, "numTraining": 1,
     "n": [None, True, False, -1.5e-7, 0, [], {}, {"x": [1, {"modality": {"0": "CT"}}]}], "file_ending": ".nii.gz", "tab": "\t\"\\\u00e9\u4e2d"}
for text in (json.dumps(d), json.dumps(d, ensure_ascii=False), json.dumps(d, indent=4), json.dumps(d) + "\n", json.dumps(d).replace("FLAIR", "\\u0046LAIR")):
    assert run(text).returncode == 0, text
    assert len(records()) == 6
for bad in ("", " ", "{", "[]", "x", "{" + channels, "{" + channels + ",}", "{" + channels + "} x", "{" + channels + '}{"a": 1}', '{"a": tru, ' + channels + "}",
            '{"a": 01, ' + channels + "}", '{"a": 1., ' + channels + "}", '{"a": .5, ' + channels + "}", '{"a": +1, ' + channels + "}", '{"a": 1e, ' + channels + "}",
            '{"a": NaN, ' + channels + "}", "{'a': 1, " + channels + "}", '{"a": "\\ud83e", ' + channels + "}", '{"a": "\\udde0\\ud83e", ' + channels + "}",
            '{"a": "\\x41", ' + channels + "}", '{"a": "line\nfeed", ' + channels + "}", '{"a" 1, ' + channels + "}", '{"a": [1 2], ' + channels + "}", '{"a": [1,], ' + channels + "}",
            b'{"a": "\xff", ' + channels.encode() + b"}", b'{"a": "\xed\xa0\x80", ' + channels.encode() + b"}", '{"a": ' + "[" * 100 + "]" * 100 + ", " + channels + "}",
            "{" + channels + ", " + channels + "}", '{"a": {"b": 1, "\\u0062": 2}, ' + channels + "}", '{"a": "\\u0000", ' + channels + "}",
            '{"modality": {"0": 1}}', '{"modality": {"0": "FLAIR"', '{"labels": {"a": "b"', '{"file_ending": 3, ' + channels + "}"):
    r = run(bad)
    assert r.returncode == 1 and "D/dataset.json: no valid JSON: " in r.stderr, (bad, r.stderr)
assert "nested too deep" in run('{"a": ' + "[" * 100).stderr
assert "too large" in run('{"a": "' + "x" * (4 << 20) + '", ' + channels + "}").stderr
P
}

@test "nii2slices: what dataset.json calls the numbers of a label goes along, and recode heeds it" {
    py <<'P'
import json
os.makedirs("D/imagesTr"); os.makedirs("D/labelsTr"); os.makedirs("D/imagesTs")
for where in ("Tr/P1", "Ts/P2"):
    write(f"D/images{where}.nii.gz", np.stack([turned(head(seed=i), "LPS")[0] for i in range(4)], -1), affine=turned(head(), "LPS")[1])
write("D/labelsTr/P1.nii.gz", np.minimum(mask(), 3), affine=turned(mask(), "LPS")[1])
def labels(what, where="Tr"):
    json.dump({"channel_names": {"0": "FLAIR", "1": "T1", "2": "T1Gd", "3": "T2"}, **({} if what is None else {"labels": what})}, open("D/dataset.json", "w"))
    subprocess.run(f"nii2slices -l msd D/images{where} >out", shell=True, check=True)
    return records()[0][0].get("labels")
assert labels(None) is None and labels({}) is None
msd = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"} # as the Decathlon has it
assert labels(msd) == "0 background, 1 edema, 2 non-enhancing tumor, 3 enhancing tumour"
assert labels(msd, "Ts") is None # no label, no names of its numbers
assert labels({"background": 0, "edema": 1, "core, necrotic\n": 2}) == "0 background, 1 edema, 2 core  necrotic " # as nnU-Net has it
# Regions: each names the number that no smaller region has, if that is one.
assert labels({"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}) == "0 background, 1 whole tumor, 2 tumor core, 3 enhancing tumor"
assert labels({"whole tumor": [1, 2, 3], "tumor core": [2, 3]}) == "1 whole tumor"
assert labels({"far": 256, "near": 255, "no": -1, "none": None, "list": [], "true": [True, 7], "deep": {"1": "x"}}) == "255 near, 7 true"
assert labels({"pair": [1, 2]}) is None
assert labels({"\u4e2d" * 30: 1, "x" + "\u4e2d" * 30: 2}) == "1 " + "\u4e2d" * 21 + ", 2 x" + "\u4e2d" * 20 # 63 bytes, whole characters
labels(msd)
assert subprocess.run("recode -s msd <out >good", shell=True).returncode == 0
r = subprocess.run("recode -s brats2023 <out >bad", shell=True, stderr=subprocess.PIPE, text=True)
assert r.returncode == 1 and "the data set calls 1 'edema'" in r.stderr, r.stderr
P
}

@test "nii2slices: the same bytes with one thread and with four, and twice" {
    phantom -n 5 -d 40x40x24 -o cases
    nii2slices -j 1 cases/* >one
    for _ in 1 2 3; do
        nii2slices -j 4 cases/* >four
        cmp one four
    done
}

@test "nii2slices: wrong usage gives 2, a full disk and a terminal's lack of one give 1" {
    phantom -d 16x16x8 -o cases
    run -2 --separate-stderr nii2slices
    [ -z "$output" ]
    run -2 nii2slices -l dicom cases/*
    run -2 nii2slices -j 0 cases/*
    run -1 bash -c 'nii2slices cases/* >/dev/full'
    run -0 nii2slices -h
}

@test "nii2slices: less than 8 MiB for floats of 4x240x240, in order and across" {
    need_release "memory"
    need_command time
    py <<'P'
v = [np.where(head((240, 240, 12), seed=i) > 60, np.float32(i + 0.5), np.float32(0)) for i in range(4)]
case("P1", volumes=v, seg=mask((240, 240, 12)))
case("P2", volumes=v, seg=mask((240, 240, 12)))
case("P3", "RPI", volumes=v, seg=mask((240, 240, 12)))
P
    for c in "P1 P2" P3; do
        # shellcheck disable=SC2086
        kib=$(peak_kib nii2slices $c)
        [ "$kib" -lt 8192 ] || { echo "$c: $kib KiB"; return 1; }
    done
}

@test "nii2slices: memory grows with the slice as its page says, at three sizes" {
    need_release "memory"
    need_command time
    for side in 160 320 640; do
        phantom -n 2 -s 1 -d ${side}x${side}x8 -o s$side
        for j in 1 4; do
            kib=$(peak_kib nii2slices -j $j s$side/*)
            # slices of 4 channels of 2 bytes and a label; planes of 2 bytes
            most=$((6144 + side * side * (9 + 2 * j) / 1024))
            [ "$kib" -le $most ] || { echo "$side, $j threads: $kib KiB (wanted at most $most)"; return 1; }
        done
    done
}

@test "nii2slices: every voxel of real cases as nibabel has it" {
    need_data
    need_python nibabel
    py <<'P'
import glob, nibabel as nib
segmentations = sorted(glob.glob(os.environ["DATA"] + "/brats/*/*_seg.nii.gz"))[:3]
assert segmentations
for seg in segmentations:
    d = os.path.dirname(seg)
    subprocess.run(["nii2slices", d], stdout=open("out", "wb"), check=True)
    rs = records()
    want = [np.asanyarray(nib.load(seg.replace("_seg", "_" + m)).dataobj) for m in ("flair", "t1", "t1ce", "t2")]
    assert (whole(rs) == np.stack(want)).all() and (whole(rs, "label") == np.asanyarray(nib.load(seg).dataobj)).all(), d
P
}

@test "nii2slices: -a lets scans be missing: background, and the record says which; never all" {
    py <<'P'
v = case("P1"); case("P2")
os.remove("P1/P1_t1ce.nii.gz"); os.remove("P1/P1_t1.nii.gz")
def run(line, code=0):
    p = subprocess.run(line, shell=True, stderr=subprocess.PIPE, text=True)
    assert p.returncode == code, (line, p.stderr)
    return p.stderr
said = run("nii2slices -a t1c,t1,t2 P1 P2 >out")
assert said == "nii2slices: warning: P1: no file for t1,t1gd, which is background then\n", said
rs = records()
for m, t in rs:
    p1 = m["case"] == "P1"
    assert m.get("missing") == ("t1,t1gd" if p1 else None) and m["modalities"] == "flair,t1,t1gd,t2" and t["image"].dtype == "<i2"
want = np.stack(v); want[1:3] = 0
assert (whole(rs[:6]) == want).all() and (whole(rs[6:]) == np.stack(v)).all()
m = rs[0][0]
assert m["fingerprint"].split(",")[1:3] == ["0" * 16] * 2 and m["mean"].split()[1:3] == ["0", "0"]
for line, words in (("-a t1 P1", "no file for t1gd ("), ("P1", "no file for t1, t1gd ("), ("-a any none", "no file for flair, t1, t1gd, t2")):
    os.makedirs("none", exist_ok=True)
    assert words in run(f"nii2slices {line} >out", 1)
P
    for wrong in adc '' t1, any,t1; do run -2 nii2slices -a "$wrong" P1; done
    run -2 nii2slices -l file -a t1 P1/P1_t2.nii.gz
}

@test "nii2slices: a data set as BIDS lays it: sessions, contrast agent, labels of derivatives" {
    py <<'P'
import shutil
def run(line, code=0):
    p = subprocess.run(line, shell=True, stderr=subprocess.PIPE, text=True)
    assert p.returncode == code, (line, p.stderr)
    return p.stderr
volumes = {}
def session(sub, ses, seed, names="{0}_FLAIR {0}_T1w {0}_ce-gadolinium_T1w {0}_T2w"):
    name = sub + (f"_{ses}" if ses else "")
    where = f"B/{sub}/" + (f"{ses}/" if ses else "") + "anat"
    v = case("x", volumes=[head(seed=seed + i) for i in range(4)])
    os.makedirs(where)
    for f, n in zip(("flair", "t1", "t1ce", "t2"), names.format(name).split()):
        shutil.move(f"x/x_{f}.nii.gz", f"{where}/{n}.nii.gz")
    volumes[name] = np.stack(v)
    return where
def label(who, sub, ses, name, seg):
    d = f"B/derivatives/{who}/{sub}/{ses}/anat"
    os.makedirs(d, exist_ok=True)
    write(f"{d}/{name}.nii.gz", seg, affine=turned(head(), "LPS")[1])
session("sub-01", "ses-a", 0); session("sub-01", "ses-b", 10, "{0}_run-1_FLAIR {0}_acq-se_T1w {0}_acq-se_ce-GD_T1w {0}_T2w"); session("sub-02", None, 20)
os.makedirs("B/sub-03/ses-a/func"); os.makedirs("B/sub-04"); os.makedirs("B/sourcedata")
label("manual", "sub-01", "ses-b", "sub-01_ses-b_desc-tumor_dseg", mask())
label("gliopipe", "sub-01", "ses-b", "sub-01_ses-b_dseg", 0 * mask())
label("manual", "sub-02", "", "sub-02_label-tumour_mask", mask())
assert run("nii2slices -l bids B >out") == ""
rs = records()
assert [rs[i][0]["case"] for i in (0, 6, 12)] == ["sub-01_ses-a", "sub-01_ses-b", "sub-02"] and len(rs) == 18
assert [rs[i][0]["patient"] for i in (0, 6, 12)] == ["sub-01", "sub-01", "sub-02"] # time points of one patient
for i, c in enumerate(volumes):
    assert (whole(rs[6 * i:6 * i + 6]) == volumes[c]).all(), c
assert "label" not in rs[0][1] and "label" not in rs[12][1] and (whole(rs[6:12], "label") == mask()).all()
# A subject, a session, with anat or without, from where one stands; -m for other labels.
for line, want in (("B/sub-01", "ab"), ("B/sub-01/", "ab"), ("B/sub-01/ses-b", "b"), ("B/sub-01/ses-b/anat", "b"), ("B/sub-02/anat", "2")):
    run(f"nii2slices -l bids {line} >out")
    assert "".join(dict.fromkeys(m["case"][-1] for m, _ in records())) == want, line
run("cd B/sub-01/ses-a && nii2slices -l bids . >../../../out")
assert {m["case"] for m, _ in records()} == {"sub-01_ses-a"}
run("nii2slices -t -l bids -m 'seg=*_mask.*' B/sub-02 >out")
assert len(records()) == 2 and records()[0][1]["label"].any()
# By the folder itself the names are the same.
run("nii2slices B/sub-01/ses-b/anat >out")
assert records()[0][0]["case"] == "sub-01_ses-b" and (whole(records()) == volumes["sub-01_ses-b"]).all()
label("second", "sub-01", "ses-b", "sub-01_ses-b_dseg", mask())
assert "sub-01_ses-b_dseg.nii.gz is a second label of sub-01_ses-b" in run("nii2slices -l bids B >out", 1)
assert "no scans here as BIDS lays them" in run("nii2slices -l bids B/sub-04 >out", 1)
os.remove("B/sub-02/anat/sub-02_T2w.nii.gz")
assert "no file for t2" in run("nii2slices -l bids B/sub-02 >out", 1)
run("nii2slices -a t2 -l bids B/sub-02 >out")
assert {m["missing"] for m, _ in records()} == {"t2"}
write("B/sub-02/anat/sub-02_run-2_T1w.nii.gz", head(), affine=turned(head(), "LPS")[1])
assert "two files for t1: sub-02_T1w.nii.gz and sub-02_run-2_T1w.nii.gz" in run("nii2slices -a t2 -l bids B/sub-02 >out", 1)
P
}
