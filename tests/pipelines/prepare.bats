# From scans as a scanner makes them to cases. Programs that convert and register are stand-ins, which say what the test says;
# what they do with real scans is not ours.
load ../lib/common

setup() {
    need_release "the tools run there in their own tests"
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
    mkdir programs
    PATH=$PWD/programs:$ROOT/pipelines:$PATH
    export REGISTER=none SPACING=4
}

# raw CASE: scans of the phantom with thick slices, under a scanner's names; T1 and T2 with another grid; FLAIR shifted by 6 mm, which its
# header does not say.
raw() {
    [ -d whole ] || phantom -n 1 -s 3 -d 60x60x40 -o whole
    CASE=$1 py <<'P'
n, out = os.listdir("whole")[0], os.environ["CASE"]
os.makedirs(out, exist_ok=True)
def grid(first, mm, shift=0):
    return [[-mm[0], 0, 0, -first[0] * 4 + shift], [0, -mm[1], 0, 236 - first[1] * 4], [0, 0, mm[2], first[2] * 3.875]]
for k, name, cut, shift in (("flair", "7_MRHR_FLAIR_AX", (2, 3, 1), 6), ("t1", "5_T1_AX", (3, 3, 1), 0), ("t1ce", "9_T1_AX_POST_GAD", (2, 2, 0), 0), ("t2", "6_T2_TSE_TRA", (4, 1, 0), 0)):
    _, d = load(f"whole/{n}/{n}_{k}.nii.gz")
    write(f"{out}/{name}.nii.gz", d[cut[0]:, cut[1]:, cut[2]:], order=os.environ.get("ORDER", "<"), affine=grid(cut, (4, 4, 3.875), shift), pixdim=(4, 4, 3.875), _148=("20s", b"SECRET^NAME"))
_, d = load(f"whole/{n}/{n}_seg.nii.gz")
write(f"{out}/old_seg.nii.gz", d[2:, 2:, 0:], affine=grid((2, 2, 0), (4, 4, 3.875)), pixdim=(4, 4, 3.875))
write(f"{out}/brain_mask.nii.gz", (d[2:, 2:, 0:] * 0 + 1).astype("u1"), affine=grid((2, 2, 0), (4, 4, 3.875)), pixdim=(4, 4, 3.875))
write(f"{out}/3_DWI_b1000.nii.gz", d[2:, 2:, 0:], affine=grid((2, 2, 0), (4, 4, 3.875)), pixdim=(4, 4, 3.875))
P
}

@test "prepare: names tell the sequences, the table says so, and what it says from then on holds" {
    raw in/A
    prepare -o out in/A 2>said
    cut -f 2,3 out/sequences.tsv | diff - <(printf '%s\t%s\n' file sequence 3_DWI_b1000.nii.gz - 5_T1_AX.nii.gz t1 6_T2_TSE_TRA.nii.gz t2 7_MRHR_FLAIR_AX.nii.gz flair \
        9_T1_AX_POST_GAD.nii.gz t1gd brain_mask.nii.gz - old_seg.nii.gz seg)
    [ "$(cd out/A && ls *.gz *.tsv | tr '\n' ' ')" = "A_flair.nii.gz A_seg.nii.gz A_t1.nii.gz A_t1gd.nii.gz A_t2.nii.gz prepared.tsv " ]
    nii2slices out/A | tnsview -k spacing,modalities | sort -u | diff - <(printf '4 4 4\tflair,t1,t1gd,t2\n')
    [ "$(ls out/A/registration*.png | wc -l)" = 3 ]
    # Nothing has changed: nothing is done. Another T1 by the table: it is.
    cksum out/A/* >before
    prepare -o out in/A >said 2>&1
    cksum out/A/* | cmp - before
    run ! grep 'A: out' said
    # Scans of the other byte order are the same scans.
    ORDER='>' raw other/A
    prepare -o turned other/A 2>said
    grep -qx 'prepare: A: flair has slices 4 mm apart' said
    diff out/sequences.tsv turned/sequences.tsv
    py <<'P'
for s in "flair", "t1", "t1gd", "t2":
    assert (load(f"out/A/A_{s}.nii.gz")[1] == load(f"turned/A/A_{s}.nii.gz")[1]).all()
P
    sed -i 's/^\(A.5_T1_AX.*\)t1.name/\1-\tuser/; s/^\(A.3_DWI.*\)-.name/\1t1\tuser/' out/sequences.tsv
    cp out/sequences.tsv mine
    prepare -o out in/A 2>said
    cmp mine out/sequences.tsv
    run ! cmp <(cksum out/A/A_t1.nii.gz) <(grep A_t1.nii before)
    # The same through make, and as a stream.
    make -s -C "$ROOT" -f pipelines/Makefile prepare RAW="$PWD/in" DATA="$PWD/made" 2>said
    prepare in/A 2>said | slices2nii -c -n image -o piped
    cmp piped/A/A_flair.nii.gz made/A/A_flair.nii.gz
}

# Names and what dcm2niix says, and what they are.
@test "prepare: sequences are known by names of many places, and by echo, inversion and contrast where names say nothing" {
    phantom -n 1 -d 24x24x12 -o whole
    mkdir -p in/A
    while IFS='|' read -r want file json; do
        ln whole/*/*_t1.nii.gz "in/A/$file.nii.gz"
        [ -z "$json" ] || printf '{\n\t"Modality": "MR",\n%s\n}\n' "$(tr ';' '\n' <<<"$json")" >"in/A/$file.json"
        printf '%s\t%s\n' "$file.nii.gz" "$want"
    done >want <<'LIST'
t1gd|BraTS20_1_t1ce
t1|BraTS-GLI-1-t1n
flair|BraTS-GLI-1-t2f
t2|BraTS-GLI-1-t2w
t1gd|sub-01_ce-gadolinium_T1w
t1|sub-01_T1w
flair|sub-01_FLAIR
t1gd|t1_mprage_sag_p2_iso_+C
t1gd|12_MPRAGE_KM
t1|4_t1_mprage_pre_contrast
t1|8_T1_FLAIR_AX
flair|301_dark-fluid_tra
t2|t2_tse_tra_512
-|t2star_heme
-|ep2d_diff_3scan_trace
-|localizer
-|AXIAL_SWI
-|T1_brainmask
flair|s7|"EchoTime": 0.12,;"InversionTime": 2.5,
t2|s8|"EchoTime": 0.1,
t1|s9|"EchoTime": 0.01,
t1gd|s10|"EchoTime": 0.01,;"ContrastBolusAgent": "10cc Magnevist",
t1gd|s11|"SeriesDescription": "AX T1 SE",;"ContrastBolusAgent": "GADAVIST",
flair|s12|"SeriesDescription": "FLAIR longTR"
-|s13
LIST
    run -1 prepare -o out in/A
    sort want | diff - <(tail -n +2 out/sequences.tsv | cut -f 2,3 | sort)
    [[ $output = *"prepare: A: 5 candidates for flair: "*"(set it right in out/sequences.tsv"* ]]
}

@test "prepare: what is missing, double or no scan is one line that names it, and the other cases are done" {
    fails
    run -2 make -s -C "$ROOT" -f pipelines/Makefile prepare RAW="$PWD/it's none" DATA="$PWD/out"
    [[ ${lines[0]} == "prepare: RAW, DATA: (wanted "*", got '$PWD/it's none' and '$PWD/out')" ]]
    raw in/A
    cp -r in/A in/B
    rm in/B/6_T2_TSE_TRA.nii.gz
    cp -r in/A in/C
    cp in/C/5_T1_AX.nii.gz in/C/6_T1_TRA.nii.gz
    mkdir in/D
    one() { # PATTERN ARGS...
        status=0
        prepare "${@:2}" >log 2>said || status=$?
        [ "$(grep -vE 'no ATLAS|mm apart' said | grep -vc 'cases are not')" = 1 ] && grep -q "^prepare: $1" said && [ $status != 0 ] || { echo "$*: $status $(cat said)"; return 1; }
    }
    one 'B: no t2 among .*7_MRHR_FLAIR_AX.nii.gz as flair' -o out in/B
    one 'C: 2 candidates for t1: 5_T1_AX.nii.gz, 6_T1_TRA.nii.gz (set it right in out/sequences.tsv' -o out in/A in/C
    [ -f out/A/prepared.tsv ]
    [ ! -e out/B ]
    [ ! -e out/C ]
    cp out/sequences.tsv table
    sed -i 's/^\(A.5_T1_AX.nii.gz.\)t1/\1t9/' out/sequences.tsv
    one "A: out/sequences.tsv: unknown sequence 't9'" -o out in/A
    grep -v '^A' table >out/sequences.tsv
    LACK=t1,t2 prepare -o out in/B 2>said
    [ "$(cd out/B && ls *.gz *.tsv | tr '\n' ' ')" = "B_flair.nii.gz B_seg.nii.gz B_t1.nii.gz B_t1gd.nii.gz prepared.tsv " ]
    rm -r out/B
    MASK='*nonesuch*' one "A: MASK: wanted one file '\*nonesuch\*'" -o out in/A
    command -v niimath >/dev/null || REGISTER=niimath one 'REGISTER: niimath is not installed' -o out in/A
    REGISTER=ants one 'REGISTER: (wanted' -o out in/A
    ATLAS=nonesuch one "ATLAS: 'nonesuch' is no file" -o out in/A
    KERNEL=nearest one 'KERNEL: (wanted' -o out in/A
    printf '#!/bin/sh\nexit 1\n' >programs/dcm2niix
    chmod +x programs/dcm2niix
    one 'D: dcm2niix finds no scans' -o out in/D
    [ -z "$(find out -name '.prepare*')" ]
}

@test "prepare: a program that registers is asked for T1, T2 and FLAIR on the T1 with contrast agent, and for that on the atlas" {
    raw in/A
    cat >programs/elastix <<'S'
#!/bin/sh
while [ $# -gt 0 ]; do case $1 in -f) f=$2 ;; -m) m=$2 ;; -out) o=$2 ;; -p) p=$2 ;; esac; shift 2; done
echo "${f##*_} ${m##*_} $(sed -n 's/^(Transform "\(.*\)")/\1/p' "$p")" >>log
# In elastix's axes x runs to the left: what the header puts 6 mm to the right lies there.
case $m in *flair*) t='-6 0 0' ;; *) t='0 0 0' ;; esac
if grep -q Euler "$p"; then k=Euler n="0 0 0 $t"; else k=Affine n="1 0 0 0 1 0 0 0 1 $t"; fi
printf '(Transform "%sTransform")\n(TransformParameters %s)\n(CenterOfRotationPoint 1 2 3)\n(InitialTransformParametersFileName "NoInitialTransform")\n' $k "$n" >"$o/TransformParameters.0.txt"
S
    cat >programs/niimath <<'S'
#!/bin/sh
echo "$3 $1" | sed 's/[^ ]*_//g' >>log
case $1 in *flair*) t=6 ;; *) t=0 ;; esac
printf '{"fixed": "%s", "fixed_to_moving": [[1,0,0,%s],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}' "$3" $t >"$5"
S
    chmod +x programs/*
    cp whole/*/*_t1.nii.gz programs/atlas_head.nii.gz
    ATLAS=programs/atlas_head.nii.gz REGISTER=elastix prepare -o out in/A 2>said
    diff log - <<'L'
t1gd.nii.gz flair.nii.gz EulerTransform
t1gd.nii.gz t1.nii.gz EulerTransform
t1gd.nii.gz t2.nii.gz EulerTransform
head.nii.gz t1gd.nii.gz AffineTransform
L
    rm log
    ATLAS=programs/atlas_head.nii.gz REGISTER=niimath prepare -o other in/A 2>said
    cut -d ' ' -f 2 log | tr '\n' ' ' | grep -qx 'flair.nii.gz t1.nii.gz t2.nii.gz t1gd.nii.gz '
    # The grid is the phantom's own, so the scans are, too, where they were not cut off.
    py <<'P'
n = os.listdir("whole")[0]
for k, was, cut in ("flair", "flair", (2, 3, 1)), ("t1", "t1", (3, 3, 1)), ("t1gd", "t1ce", (2, 2, 0)), ("t2", "t2", (4, 1, 0)), ("seg", "seg", (2, 2, 0)):
    _, want = load(f"whole/{n}/{n}_{was}.nii.gz")
    for d in "out", "other":
        _, got = load(f"{d}/A/A_{k}.nii.gz")
        x, y, z = cut
        assert (got[x:, y:, z:] == want[x:, y:, z:]).all(), (d, k)
P
    printf '#!/bin/sh\necho "Error: no memory"\nexit 1\n' >programs/elastix
    REGISTER=elastix run -1 prepare -o third in/A
    [[ $output = *"prepare: A: elastix cannot register flair-to-t1gd: Error: no memory"* ]]
}

@test "prepare: DICOM goes through dcm2niix, and nothing that tells whom it shows is left of it" {
    raw scans
    mkdir -p in/A
    echo dicom >in/A/IM1
    cat >programs/dcm2niix <<S
#!/bin/sh
echo "\$*" | grep -q -- '-ba y' || exit 1
while [ \$# -gt 1 ]; do [ "\$1" != -o ] || o=\$2; shift; done
for f in $PWD/scans/[5-9]*; do
    n=\${f##*/}
    cp "\$f" "\$o/1.2.SECRET.3+SECRETID+_+\$n"
    printf '{\n\t"PatientName": "SECRET^JANE",\n\t"SeriesDescription": "%s"\n}\n' "\${n%.nii.gz}" >"\$o/1.2.SECRET.3+SECRETID+_+\${n%.nii.gz}.json"
done
[ ! -e two ] || cp $PWD/scans/5* "\$o/1.2.4+SECRETID+_+5_T1.nii.gz"
[ ! -e gap ] || cp $PWD/scans/5* "\$o/1.2.SECRET.3+SECRETID+_+5_T1_Eq_1.nii.gz"
S
    chmod +x programs/dcm2niix
    prepare -o out in/A 2>said
    cut -f 2,3 out/sequences.tsv | grep -qx "9_T1_AX_POST_GAD.nii.gz${IFS:1:1}t1gd"
    gunzip -kr out
    run grep -raE 'SECRET|534543524554' out said
    [ -z "$output" ]
    prepare -o 'one+two' in/A 2>said
    run grep -raE 'SECRET' one+two said
    [ -z "$output" ]
    touch two
    run -1 prepare -o other in/A
    [[ $output = *"prepare: A: DICOM of several studies in one folder"* ]]
    rm two
    touch gap
    run -1 prepare -o other in/A
    [[ $output = *"prepare: A: dcm2niix: slices of 5_T1_Eq_1.nii.gz are missing"* ]]
}

@test "prepare: DICOM as it is made, through the real dcm2niix: planes that differ, a localiser, frames in one file, missing slices and frames, two patients" {
    need_command dcm2niix
    need_python pydicom
    phantom -n 1 -s 3 -d 60x60x40 -o whole
    py <<'P'
import pydicom
from dicoms import *
n = os.listdir("whole")[0]
vol = {k: load(f"whole/{n}/{n}_{k}.nii.gz")[1] for k in ("flair", "t1", "t1ce", "t2")}
mm, first = (4, 4, 3.875), np.array((0.0, -236, 0))  # the phantom's place, in DICOM's axes
top = first + (0, 0, mm[2] * 39)
def four(case, who="A", uid=True, **gad):
    b, f = study(who), f"in/{case}"
    if not uid:
        b.StudyInstanceUID = b.FrameOfReferenceUID = ""
    series(f, b, 5, "AX T1 SECRET", vol["t1"], first, mm)
    series(f, b, 6, "SAG T2", vol["t2"].transpose(1, 2, 0)[:, ::-1], top, (mm[1], mm[2], mm[0]), "sag")
    series(f, b, 7, "COR FLAIR", vol["flair"].transpose(0, 2, 1)[:, ::-1], top, (mm[0], mm[2], mm[1]), "cor")
    series(f, b, 9, "AX T1 POST", vol["t1ce"], first, mm, **gad)
four("plain")
series("in/plain", study(), 1, "LOC", vol["t1"][:, :40, :9], first, (4, 4, 10), planes=["ax"] * 3 + ["sag"] * 3 + ["cor"] * 3)
series("in/plain", study(), 2, "SCOUT", vol["t1"][:, :40, :20], first, (4, 4, 10), drop=(3, 9))
four("frames", frames=True)
four("gap", drop=(11, 12, 20))
four("two")
series("in/two/other", study("B"), 5, "AX T1", vol["t1"], first, mm)
# Frames that are missing; an end that the scanner counted, and one that the other T1 tells of; series of two patients without a study's number.
four("lacks", frames=True, drop=(11, 12, 20))
four("end", drop=range(30, 40), ImagesInAcquisition=40)
four("short")
os.system("rm in/short/IM05003* in/short/IM06* in/short/IM07*")
# One whose images begin with the third; one that was cut as it was sent, and one of more frames than its header says.
four("late", drop=(0, 1))
os.system("rm in/late/IM05* in/late/IM06* in/late/IM07*")
four("cut", frames=True)
b = open("in/cut/IM090000", "rb").read()
open("in/cut/IM090000", "wb").write(b[:-20000])
four("more", frames=True)
d = pydicom.dcmread("in/more/IM090000")
d.NumberOfFrames = 36
d.save_as("in/more/IM090000")
four("mixed", uid=False)
os.system("rm in/mixed/IM05*")
b = study("B")
b.StudyInstanceUID = b.FrameOfReferenceUID = ""
series("in/mixed", b, 5, "AX T1", vol["t1"], first, mm)
P
    prepare -o out in/plain in/frames 2>said
    run ! grep -c 'are some missing' said
    grep -vE 'LOC|SCOUT' out/sequences.tsv | cut -f 2,3 | sort -u >told
    LACK=t2,flair prepare -o out in/short 2>short
    grep -qx 'prepare: short: t1 has 30 slices where t1gd, of the same kind, has 40: are some missing?' short
    LACK=t2,flair,t1 prepare -o out in/late 2>>short
    grep -qx 'prepare: late: the first image of t1gd is number 3: were others not sent?' short
    grep -qxF 'late: the first image of t1gd is number 3: were others not sent?' <(sed 's/^prepare: //' out/late/warnings.txt)
    grep -qx 'warning.late: the first image of t1gd is number 3: were others not sent?' out/late/prepared.tsv
    run -1 prepare -o out in/gap in/two in/lacks in/end in/mixed in/cut in/more
    [[ $output = *"prepare: cut: dcm2niix: 'in/cut/IM090000' is cut: it has not all of its image"*"prepare: more: dcm2niix: slices of 9_"*" are missing"* ]]
    [[ $output = *"prepare: gap: dcm2niix: slices of 9_AX_T1_POST_Eq"*" are missing, or not one"*"prepare: two: DICOM of several studies in one folder"* ]]
    [[ $output = *"prepare: lacks: dcm2niix: slices of 9_AX_T1_POST.nii.gz are missing"*"prepare: end: dcm2niix: slices of 9_"*"prepare: mixed: DICOM of several"* ]]
    cat told |
        diff - <(printf '%s\t%s\n' 5_AX_T1.nii.gz t1 6_SAG_T2.nii.gz t2 7_COR_FLAIR.nii.gz flair 9_AX_T1_POST.nii.gz t1gd file sequence)
    # Between its slices a scan is what lies half way: ours are 4 mm apart, the phantom's 3.875.
    py <<'P'
n = os.listdir("whole")[0]
for case in "plain", "frames":
    for k, was in ("flair", "flair"), ("t1", "t1"), ("t1gd", "t1ce"), ("t2", "t2"):
        _, want = load(f"whole/{n}/{n}_{was}.nii.gz")
        h, got = load(f"out/{case}/{case}_{k}.nii.gz")
        z = (struct.unpack_from("<12f", h, 280)[11] + 4 * np.arange(got.shape[2])) / 3.875
        ok = (z >= 0) & (z <= 39)
        lo = np.minimum(np.floor(z[ok]).astype(int), 38)
        middle = want[:, :, lo] * (1 - z[ok] + lo) + want[:, :, lo + 1] * (z[ok] - lo)
        inside = np.minimum(want[:, :, lo], want[:, :, lo + 1]) > 0  # air stays air
        assert ok.sum() > 36 and np.abs(got[:, :, ok] - middle)[inside].max() <= 1, (case, k)
P
    gunzip -r out
    run grep -rlaE 'SECRET|19010203|19991231' out said short
    [ -z "$output" ]
}

@test "prepare: a mask takes the skull off, or a filter that is named; predict then puts labels on the T1 as it came" {
    raw in/A
    MASK='brain_*' prepare -o masked in/A 2>said
    STRIP='znorm -p case' prepare -o filtered in/A 2>said
    [ "$(nii2slices masked/A | tnsview -k mean | sort -u)" != "$(nii2slices filtered/A | tnsview -k mean | sort -u)" ]
    [ "$(sed -n 's/^brain.//p' masked/A/prepared.tsv filtered/A/prepared.tsv | tr '\n' ' ')" = "a mask znorm " ]
    [ "$(cd masked/A && ls mask*.png | tr '\n' ' ')" = "mask-axial.png mask-coronal.png mask-sagittal.png " ]
    prepare -o out in/A 2>said
    printf 'arch: unet\nbase: 2\n' >c.yaml
    nii2slices -t out/A | recode -s brats2017 | znorm | crop -s 64x64 >t.tns
    epochs -b 0 -n 1 t.tns | train -c c.yaml -o model 2>/dev/null
    mkdir data
    mv out/A data/
    ln -s "$PWD/data/A/registration$(ls data/A | sed -n 's/^registration//p' | head -n 1)" data/A/mask-link.png
    cp c.yaml data/A/mask-text.png
    make -s -C "$ROOT" -f pipelines/Makefile predict DATA="$PWD/data" MODEL="$PWD/model" OUT="$PWD/study" JOBS=1 >log 2>&1
    # Of what lies there pictures are taken, and neither links nor what is called so.
    [ "$(ls study/predict/quality/A)" = "$(cd data/A && ls registration*.png)" ]
    py <<'P'
(h, d), (was, raw) = load("study/predict/originals/A_pred.nii.gz"), load("in/A/9_T1_AX_POST_GAD.nii.gz")
assert d.shape == raw.shape and h[252:328] == was[252:328] and b"SECRET" not in h
_, p = load("study/predict/segmentations/A_pred.nii.gz")
assert abs((p > 0).sum() * 64 - (d > 0).sum() * 62) <= 0.2 * 64 * (p > 0).sum()
P
    # DICOM SEG of a case that came as DICOM, when it is asked for; the program gets that series alone.
    mkdir dicom
    printf '%s\t9\n' "$PWD/dicom" >data/A/dicom.tsv
    cat >programs/dcm2niix <<'S'
#!/bin/sh
while [ $# -gt 1 ]; do [ "$1" != -o ] || o=$2; shift; done
mkdir "$o/8" "$o/9" && touch "$o/8/1.1_1" "$o/9/1.2_1" "$o/9/1.2_2" && { [ ! -e "$BATS_TEST_TMPDIR/double" ] || touch "$o/9/1.3_1"; }
S
    cat >programs/itkimage2segimage <<'S'
#!/bin/sh
cd "$BATS_TEST_TMPDIR"
[ ! -e broken ] || { echo "Error: no such geometry"; exit 1; }
while [ $# -gt 1 ]; do case $1 in --inputImageList) i=$2 ;; --inputDICOMDirectory) d=$2 ;; --inputMetadata) m=$2 ;; --outputDICOM) o=$2 ;; esac; shift 2; done
ls "$d" >seen; cp "$m" meta.json; cp "$i" "$o"
S
    chmod +x programs/*
    segs() { make -s -C "$ROOT" -f pipelines/Makefile predict DATA="$PWD/data" MODEL="$PWD/model" OUT="$PWD/study" JOBS=1 SEG=1 >log 2>&1; }
    [ ! -e study/predict/dicom ]
    py <<'P'
h, d = load("study/predict/originals/A_pred.nii.gz")
d = np.zeros_like(d)
d[3:5, 3:5, 3] = 1
d[5, 5, 5] = 4
write("study/predict/originals/A_pred.nii.gz", d, head=bytes(h[:348]))
P
    segs
    cmp study/predict/originals/A_pred.nii.gz study/predict/dicom/A.dcm
    [ "$(tr '\n' ' ' <seen)" = "1.2_1 1.2_2 " ]
    jq -r '.segmentAttributes[0][] | [.labelID, .SegmentedPropertyTypeCodeSequence.CodeValue, (.recommendedDisplayRGBValue | tostring)] | @tsv' meta.json |
        diff - <(printf '%s\t%s\t%s\n' 1 6574001 '[213,94,0]' 4 108369006 '[240,228,66]')
    # The codes mean what they say by somebody else's dictionary.
    ! "$PYTHON" -c 'import pydicom.sr.codedict' 2>/dev/null || py <<'P'
import json, pydicom.sr._concepts_dict as known
said = {c: m for by in known.concepts["SCT"].values() for c, (m, _) in by.items() if m[0].isupper()}
codes = [s[k] for s in json.load(open("meta.json"))["segmentAttributes"][0] for k in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence")]
assert len(codes) == 4 and all(said[c["CodeValue"]] == c["CodeMeaning"] and c["CodingSchemeDesignator"] == "SCT" for c in codes), codes
P
    touch double
    run ! segs
    grep -q '^predict: SEG: A: 2 series are numbered 9' log
    mv double broken
    run ! segs
    grep -q '^predict: SEG: A: itkimage2segimage makes none of the series: Error: no such geometry$' log
    [ -z "$(ls study/predict/dicom)" ]
    rm data/A/dicom.tsv
    run ! segs
    grep -q "^predict: SEG: no case in '.*' came as DICOM" log
    rm data/A/prepared.tsv
    # OUT may be a folder by its relative name, too.
    plain=$(realpath --relative-to="$ROOT" "$PWD")/plain
    make -s -C "$ROOT" -f pipelines/Makefile predict DATA="$PWD/data" MODEL="$PWD/model" OUT="$plain" JOBS=1 >log 2>&1
    [ -f plain/predict/segmentations/A_pred.nii.gz ]
    [ ! -e plain/predict/originals ]
}

@test "prepare: names that are one number are of two cases, and nothing in a name is a command, a number or a pattern" {
    raw in/10
    cp -r in/10 in/1e1
    mv in/1e1/5_T1_AX.nii.gz in/1e1/5_T1.nii.gz
    prepare -o out in/10 in/1e1 2>said
    [ "$(awk -F '\t' '{ n[$1 ""]++ } END { print n["10"], n["1e1"] }' out/sequences.tsv)" = "7 7" ]
    # A table that somebody's editor left without its last line feed.
    printf %s "$(cat out/sequences.tsv)" >cut && mv cut out/sequences.tsv
    printf '#!/bin/sh\nprintf "1 0 0 0\\n0 1 0 0\\n0 0 1 0\\n" >"$5"\n' >programs/niimath
    chmod +x programs/niimath
    mv in/1e1 'in/a\nb&$(touch pwned) *'
    REGISTER=niimath prepare -o out 'in/a\nb&$(touch pwned) *' 2>said
    [ -f 'out/a\nb&$(touch pwned) */prepared.tsv' ]
    [ "$(awk -F "\t" '$2 == "5_T1.nii.gz" { print $3 }' out/sequences.tsv | sort -u)" = t1 ]
    mv in/10 in/whole # as files of its own are called
    MASK='5_*' prepare -o out in/whole 2>said
    [ -f out/whole/mask-axial.png ]
    mkdir in/D
    printf '#!/bin/sh\necho "Error: a scan in $PWD"\nexit 1\n' >programs/dcm2niix
    chmod +x programs/dcm2niix
    run -1 prepare -o 'a|touch pwned; a|e;#' in/D
    [[ $output = *'prepare: D: dcm2niix finds no scans: Error: a scan in '* ]]
    [ ! -e pwned ]
}

@test "prepare: what is not its own is not replaced, one run works on a folder, and what a killed one left goes" {
    raw in/A
    cksum in/A/* >before
    run -1 prepare -o in in/A
    [[ $output = *"prepare: A: 'in/A' was not prepared here (wanted DATA= apart from the raw cases)"* ]]
    cksum in/A/* | cmp - before
    mkdir -p out/.prepare.abcdef/A
    run -1 flock out prepare -o out in/A
    [[ $output = *"prepare: another run works on 'out'"* ]]
    [ -d out/.prepare.abcdef ]
    prepare -o out in/A 2>said
    [ -z "$(find out -name '.prepare*')" ]
    run -1 prepare -o out out/A
    [ -f out/A/prepared.tsv ]
    # A disk that is full is told of, where a tool's own words have no room either.
    mkdir small
    if mount -t tmpfs -o size=64k none small 2>/dev/null; then
        run -1 prepare -o small in/A
        umount small
        [[ $output = *"prepare: A: not prepared: 'small' is full, or cannot be written"* ]]
    fi
    # A stream that could not be finished is no success.
    head -c 3000 in/A/5_T1_AX.nii.gz >cut && mv cut in/A/5_T1_AX.nii.gz
    run -1 --separate-stderr prepare in/A
}
