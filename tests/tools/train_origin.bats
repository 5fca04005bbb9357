#!/usr/bin/env bats
# Runs that begin from a model (-i), and runs that are given more passes than they had.
load ../lib/common

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    "$PYTHON" -c 'import numpy' 2>/dev/null || return 0
    blobs -p 3 -n 4 -d 32x32 >train.tns
    blobs -p 2 -n 4 -d 32x32 -1 20 >site.tns
    blobs -p 2 -n 3 -1 10 -d 32x48 -e >val.tns
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    export OMP_WAIT_POLICY=passive
    need_python numpy
    cp "$BATS_FILE_TMPDIR"/*.tns .
    printf 'arch: unet\nbase: 2\nbatch: 5\nrate: 0.01\n' >c.yaml
    sed 's/0.01/1e-30/' c.yaml >still.yaml # a rate at which no weight moves
}

# Python with two functions: meta(file), tensors(file).
models() {
    "$PYTHON" -c 'import json, struct, sys
import numpy as np
def head(f):
    b = open(f, "rb").read()
    n = 8 + struct.unpack("<Q", b[:8])[0]
    return json.loads(b[8:n]), b[n:]
def meta(f):
    return head(f)[0]["__metadata__"]
def tensors(f):
    h, b = head(f)
    return {k: np.frombuffer(b[slice(*v["data_offsets"])], "<f4").reshape(v["shape"]) for k, v in h.items() if k != "__metadata__"}
exec(sys.stdin.read())' "$@"
}

pretrain() { # MODEL [STREAM [SETTINGS]]
    epochs -b 0 -n 2 "${2-train.tns}" | train -c "${3-c.yaml}" -o "$1" 2>/dev/null
}

@test "train -i: the run begins with the weights of the model, and is not that of a run begun anew" {
    pretrain a
    epochs -b 0 -n 1 site.tns | train -i a -c still.yaml -o b 2>err
    grep -qx "train: begins from a: 100 % of the weights" err
    models <<'PY'
a, b = tensors("a"), tensors("b")
assert a.keys() == b.keys()
for k in a:
    if "running" not in k:
        assert (a[k] == b[k]).all(), k
PY
    # What it begins with it is better for: the loss of the first pass.
    for i in "" "-i a"; do
        epochs -b 0 -n 1 site.tns | train $i -c c.yaml -o "n$i" 2>/dev/null
    done
    [ "$(awk 'NR == 2 { print $4 }' "n-i a.tsv" n.tsv | sort -g | head -n 1)" = "$(awk 'NR == 2 { print $4 }' "n-i a.tsv")" ]
}

@test "train -i: checkpoints and models of 16 bits are taken too; a file that is no model is a line" {
    (cat c.yaml; echo 'weights: bf16') >h.yaml
    pretrain h train.tns h.yaml
    epochs -b 0 -n 1 site.tns | train -i h -c still.yaml -o b 2>err
    grep -qx "train: begins from h: 100 % of the weights" err
    mkdir elsewhere # a folder that nothing else of the run lies in
    mv h.last elsewhere
    epochs -b 0 -n 1 site.tns | train -i elsewhere/h.last -c still.yaml -o c 2>err
    grep -qx "train: begins from elsewhere/h.last: 100 % of the weights" err
    run -1 --separate-stderr pipe 'epochs -b 0 -n 1 site.tns | train -i c.yaml -c c.yaml -o n'
    [ "$stderr" = "train: -i: c.yaml: not a safetensors file" ]
    run -1 --separate-stderr pipe 'epochs -b 0 -n 1 site.tns | train -i none -c c.yaml -o n'
    [ "$stderr" = "train: -i: none: No such file or directory" ]
    [ ! -e n ]
    [ ! -e n.last ]
}

@test "train -i: modalities are matched by their names, whatever their order; a new one begins at 0" {
    pretrain a
    blobs -p 2 -n 4 -d 32x32 -1 20 -m t2,flair,t1gd >three.tns
    printf 'channels: 3\n' | cat still.yaml - >three.yaml
    epochs -b 0 -n 1 three.tns | train -i a -c three.yaml -o b 2>err
    grep -qx "train: begins from a: 100 % of the weights; of it, modalities that do not come: t1" err
    sed 's/1e-30/0.01/' three.yaml >lively.yaml
    pretrain c three.tns lively.yaml
    epochs -b 0 -n 1 site.tns | train -v -i c -c still.yaml -o d 2>err
    grep -qE "^train: begins from c: 99\.[0-9]* % of the weights; modalities that it did not know: t1; in part: enc1.conv1.weight$" err
    grep -qx "train: -i: parameter 'enc1.conv1.weight': it knows 3 of 4 channels of the image" err
    models <<'PY'
a, b, c, d = (tensors(f)["enc1.conv1.weight"] for f in "abcd")
flair, t1, t1gd, t2 = 0, 1, 2, 3
assert (b == a[:, [t2, flair, t1gd]]).all()
assert (d[:, [t2, flair, t1gd]] == c).all() and abs(d[:, t1]).max() < 1e-20 and abs(c).min() > 0
PY
}

@test "train -i: outputs are matched by label, and regions by name; the rest is as initialised and named" {
    (cat c.yaml; echo 'regions: none') >k.yaml
    pretrain a train.tns k.yaml
    blobs -p 2 -n 4 -d 32x32 -1 20 -c >five.tns
    (cat still.yaml; printf 'classes: 5\nregions: none\n') >five.yaml
    epochs -b 0 -n 1 five.tns | train -c five.yaml -o anew 2>/dev/null
    epochs -b 0 -n 1 five.tns | train -i a -c five.yaml -o b 2>err
    grep -qE "^train: begins from a: 99\.[0-9]* % of the weights; in part: head.weight, head.bias$" err
    (cat still.yaml; echo 'regions: wt=1,2,3;tc=1,3;et=3') >r.yaml
    epochs -b 0 -n 1 site.tns | train -i a -c r.yaml -o r 2>err
    grep -qE "^train: begins from a: 99\.[0-9]* % of the weights; as initialised: head.weight, head.bias$" err
    (cat still.yaml; echo 'regions: et=3:3;core=1,3:1;wt=1,2,3:2') >s.yaml
    epochs -b 0 -n 1 site.tns | train -c s.yaml -o fresh 2>/dev/null
    epochs -b 0 -n 1 site.tns | train -i r -c s.yaml -o s 2>err
    grep -qE "in part: head.weight, head.bias$" err
    models <<'PY'
for k in "head.weight", "head.bias":
    a, b, anew, r, s, fresh = (tensors(f)[k] for f in ("a", "b", "anew", "r", "s", "fresh"))
    assert (b[:4] == a).all() and (b[4] == anew[4]).all(), k
    assert (s[0] == r[2]).all() and (s[2] == r[0]).all() and (s[1] == fresh[1]).all(), k
PY
}

@test "train -i: planar kernels are the middle slices of a network that has depth" {
    cat >flat.yaml <<'E'
parameters: {inputs: 4, classes: 4, depth: 1}
network:
  - {op: input, channels: inputs}
  - {op: convolution, name: one, channels: 8, kernel: [depth, 3, 3]}
  - {op: relu}
  - {op: convolution, name: two, channels: 8, kernel: [depth, 3, 3]}
  - {op: relu}
  - {op: head, name: head, channels: classes}
  - {op: loss}
E
    printf 'network: flat.yaml\nbatch: 5\nrate: 0.01\n' >flat
    printf 'network: flat.yaml\nbatch: 5\nrate: 1e-30\nparameters: {depth: 3}\n' >deep
    pretrain a train.tns flat
    epochs -b 0 -n 1 -d 2 site.tns | train -i a -c deep -o b 2>err
    grep -qx "train: begins from a: 100 % of the weights" err
    models <<'PY'
a, b = tensors("a"), tensors("b")
for k in "one.weight", "two.weight":
    assert b[k].shape[2] == 3 and (b[k][:, :, 1] == a[k]).all() and abs(b[k][:, :, ::2]).max() < 1e-20
PY
}

@test "train -i: a model of another network is refused in one line, and nothing is left" {
    pretrain a
    sed 's/base: 2/base: 4/' c.yaml >wide.yaml
    run -1 --separate-stderr pipe 'epochs -b 0 -n 1 site.tns | train -i a -c wide.yaml -o b'
    [[ ${stderr_lines[-1]} =~ ^"train: -i: a: another network than unet: of the weights 0.0"[0-9]*" % fit by name and shape (wanted half of them)"$ ]]
    [ ! -e b ]
    [ ! -e b.last ]
    # The same with gates: all but the gates is taken.
    sed 's/unet/attention/' still.yaml >gates.yaml
    epochs -b 0 -n 1 site.tns | train -i a -c gates.yaml -o c 2>err
    grep -qE "% of the weights; as initialised: .*\.\.\.$" err
    epochs -b 0 -n 1 site.tns | train -i c -c still.yaml -o d 2>err
    grep -qE "100 % of the weights; of it, left out: .*\.\.\.$" err
}

@test "train -i: a stream that was prepared otherwise is refused; -F lets it pass" {
    pretrain a
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 2 -n 4 -1 20 -l nii2slices >raw.tns
    run -1 --separate-stderr pipe 'epochs -b 0 -n 1 raw.tns | train -i a -c c.yaml -o b'
    [ "$stderr" = "train: stdin: prepared differently from what -i's model learned from: key 'norm' differs (wanted case, got none); -F lets that pass" ]
    epochs -b 0 -n 1 raw.tns | train -F -i a -c c.yaml -o b 2>/dev/null
    blobs -p 2 -n 4 -1 20 -l 'blur' >step.tns
    run -1 --separate-stderr pipe 'epochs -b 0 -n 1 step.tns | train -i a -c c.yaml -o c'
    [ "$stderr" = "train: stdin: prepared differently from what -i's model learned from: 'blur' is one step too many; -F lets that pass" ]
}

@test "train -i: whom the model learned from the new one names too, so that a leak through it is seen" {
    pretrain a
    epochs -b 0 -n 1 site.tns | train -i a -c c.yaml -o b 2>/dev/null
    epochs -b 0 -n 1 val.tns | train -i b -c c.yaml -o c 2>/dev/null
    models <<'PY'
a, b, c = meta("a"), meta("b"), meta("c")
first, second, third = ["P000", "P001", "P002"], ["P020", "P021"], ["P010", "P011"]
assert a["patients"].split() == first and "begun" not in a and "inherited" not in a
assert b["patients"].split() == first + second and b["inherited"].split() == first
assert c["patients"].split() == sorted(first + second + third) and c["inherited"].split() == first + second
assert set(a["scans"].split("\n")) < set(b["scans"].split("\n")) < set(c["scans"].split("\n"))
assert b["begun"] == a["xxh3"] + " a" and c["begun"] == b["xxh3"] + " b\n" + b["begun"], c["begun"]
PY
    infer -n -m c | grep "^begun" | sed 's/[0-9a-f]* //' >said
    printf 'begun\tb\nbegun\ta\n' | cmp - said
    # By the voxels, when he is called otherwise.
    "$PYTHON" - <<'PY'
import struct, zlib
from pathlib import Path
b = bytearray(Path("train.tns").read_bytes())
at = 0
while at < len(b):
    n, size = struct.unpack_from("<I", b, at + 12)[0], struct.unpack_from("<Q", b, at + 24)[0]
    tensors = struct.unpack_from("<I", b, at + 16)[0]
    b[at + 64:at + 64 + n] = bytes(b[at + 64:at + 64 + n]).replace(b"patient=P", b"patient=Q").replace(b"case=P", b"case=Q")
    end = at + 64 + (n + 63) // 64 * 64 + 128 * tensors
    struct.pack_into("<I", b, at + 20, zlib.crc32(b[at + 64:end]))
    struct.pack_into("<I", b, at + 60, zlib.crc32(b[at:at + 60]))
    at += 64 + size
Path("renamed.tns").write_bytes(b)
PY
    for m in b c; do
        infer -t none -m $m <renamed.tns 2>/dev/null | tnsview -k case,trained,trained_as | sort -u >got
        printf 'Q00%d\tyes\tP00%d\n' 0 0 1 1 2 2 | cmp - got
        infer -t none -m $m <renamed.tns 2>/dev/null | dice -d none -j | grep -qF '"trained": 3'
    done
    for s in train renamed; do
        run -1 --separate-stderr pipe "epochs -b 0 -n 1 site.tns | train -i b -c c.yaml -e $s.tns -o n"
        [[ $stderr = "train: patient P000 of the training of -i's model is "[PQ]"000 of the validation stream: the same "*" (and 2 more); -L lets that pass, and the model says so" ]]
        [ ! -e n.last ]
    done
    # Let pass, it is said for ever: of the model, and of what begins from it.
    epochs -b 0 -n 1 site.tns | train -L -i b -c c.yaml -e train.tns -o l 2>/dev/null
    epochs -b 0 -n 1 site.tns | train -i l -c c.yaml -o n 2>/dev/null
    models <<'PY'
assert [meta(f)["leaky"] for f in "bln"] == ["no", "yes", "yes"]
PY
}

@test "train -i: killed and continued, the model is that of a run left alone; -r holds it to its -i" {
    pretrain a
    pretrain other site.tns
    epochs -b 0 -n 3 site.tns >e.tns
    train -i a -c c.yaml -e val.tns -o whole <e.tns 2>/dev/null
    head -c $(($(stat -c %s e.tns) * 5 / 6)) e.tns >cut.tns
    run -1 train -r -i a -c c.yaml -e val.tns -o m <cut.tns
    cp m.last before
    run -1 --separate-stderr train -r -c c.yaml -e val.tns -o m <e.tns
    [ "$stderr" = "train: -r: the run so far began from a (wanted the -i that it had)" ]
    run -1 --separate-stderr train -r -i other -c c.yaml -e val.tns -o m <e.tns
    [[ $stderr = "train: -r: other: another model than the run so far began from (wanted checksum "*", got "*")" ]]
    cmp m.last before
    cp a moved # the same model, under another name
    train -r -i moved -c c.yaml -e val.tns -o m <e.tns 2>/dev/null
    cmp m whole
    cmp m.last whole.last
    train -r -i a -c c.yaml -e val.tns -o m <e.tns
    cmp m whole
    run -1 --separate-stderr pipe 'epochs -b 0 -n 2 train.tns | train -r -i other -c c.yaml -o a'
    [ "$stderr" = "train: -r: the run so far began from no model (wanted no -i, got other)" ]
}

@test "train -i: takes no more memory than it planned, nor than its ceiling" {
    need_release "it needs more memory"
    need_command time
    sed 's/base: 2/base: 16/' c.yaml >w.yaml
    pretrain a train.tns w.yaml
    epochs -b 0 -n 1 site.tns >e.tns
    least=$(train -M 1K -i a -c w.yaml -o z <e.tns 2>&1 | sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p')
    # It is the least of all, however small a ceiling asked for it, and not lessened by the file's size.
    [ "$(train -M "$((least - 1))M" -i a -c w.yaml -o z <e.tns 2>&1 | sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p')" = "$least" ]
    (cat w.yaml; printf 'optimiser: sgd\nmomentum: 0\n') >lean.yaml # which has nothing beside the weights
    while read -r m from settings; do
        rm -f z z.*
        command time -q -o peak -f %M train -M $m -i $from -c $settings -o z <e.tns 2>said
        plan=$(sed -n 's/.* threads*, \([0-9]*\) MiB$/\1/p' said)
        [ "$(cat peak)" -le $((plan * 1024)) ]
    done <<<"64G a w.yaml
${least}M a w.yaml
64G a lean.yaml
64G a.last lean.yaml"
}

@test "train -r: a finished run goes on for more passes; with a constant rate it is that of one run of all" {
    for run in 0.01 "0.01 -e val.tns" "1e-4 -e val.tns"; do
        read -r rate e <<<"$run"
        printf "arch: unet\nbase: 2\nbatch: 5\nrate: $rate\nschedule: constant\n$PLAIN" >q.yaml
        rm -f m m.* whole whole.*
        epochs -b 0 -n 5 -s 1 train.tns | train -c q.yaml $e -o whole 2>/dev/null
        epochs -b 0 -n 2 -s 1 train.tns | train -c q.yaml $e -o m 2>/dev/null
        epochs -b 0 -n 5 -s 1 train.tns | train -r -c q.yaml $e -o m 2>err
        run -1 grep -q warning err
        cmp whole m
        cmp whole.last m.last
        diff <(cut -f 1-19 whole.tsv) <(cut -f 1-19 m.tsv)
        echo 'print(meta("m").get("epoch", "none"))' | models >>best
    done
    # The best epoch was one of those that came later, and one of the first two.
    awk '$1 != "none" { $1 < 2 ? early++ : late++ } END { exit !(early && late) }' best
    run -1 --separate-stderr pipe 'epochs -b 0 -n 4 -s 1 train.tns | train -r -c q.yaml -e val.tns -o m'
    [ "$stderr" = "train: -r: fewer passes than those of the run so far (wanted at least 5, got 4)" ]
    cmp whole m
}

@test "train -r: more passes under a schedule that knows its end make another model, which says so" {
    epochs -b 0 -n 3 -s 1 train.tns | train -c c.yaml -o whole 2>/dev/null
    epochs -b 0 -n 2 -s 1 train.tns | train -c c.yaml -o m 2>/dev/null
    epochs -b 0 -n 3 -s 1 train.tns | train -r -c c.yaml -o m 2>err
    grep -qx "train: warning: -r: 3 passes instead of 2: what has been was made for 2, and the model is not that of one run of 3" err
    # The rate of the third pass is that of the long run.
    [ "$(cut -f 3 whole.tsv | tail -n 1)" = "$(cut -f 3 m.tsv | tail -n 1)" ]
    run -1 cmp -s whole m
    epochs -b 0 -n 4 -s 1 train.tns | train -r -c c.yaml -o m 2>/dev/null
    epochs -b 0 -n 4 -s 1 train.tns | train -r -c c.yaml -o m 2>err # is over
    [ ! -s err ]
    models <<'PY'
assert "continued" not in meta("whole") and meta("m")["continued"] == "2 3" and meta("m")["epochs"] == "4"
PY
}

@test "train -r: of more passes the last ones are averaged, not those that were the last; ema goes on" {
    for setting in "average: 2" "ema: 0.9"; do
        printf 'arch: unet\nbase: 2\nbatch: 5\nrate: 0.01\nschedule: constant\n%s\n' "$setting" >q.yaml
        rm -f m m.* whole whole.*
        epochs -b 0 -n 5 -s 1 train.tns | train -c q.yaml -o whole 2>/dev/null
        epochs -b 0 -n 2 -s 1 train.tns | train -c q.yaml -o m 2>/dev/null
        epochs -b 0 -n 5 -s 1 train.tns | train -r -c q.yaml -o m 2>err
        models <<'PY'
whole, m = tensors("whole"), tensors("m")
assert all((whole[k] == m[k]).all() for k in whole)
PY
    done
    cmp whole m
    run -1 grep -q warning err
}

@test "train -r: a run that fails while it is given more passes has its model as it was, and goes on" {
    (cat c.yaml; echo 'schedule: constant') >k.yaml
    epochs -b 0 -n 5 -s 1 train.tns >five.tns
    train -c k.yaml -e val.tns -o whole <five.tns 2>/dev/null
    epochs -b 0 -n 2 -s 1 train.tns | train -c k.yaml -e val.tns -o m 2>/dev/null
    cp m before
    for part in 5 7 9; do
        head -c $(($(stat -c %s five.tns) * part / 10)) five.tns >cut.tns
        run -1 train -r -c k.yaml -e val.tns -o m <cut.tns
        cmp m before
    done
    run -1 train -c k.yaml -e val.tns -o m <five.tns
    [[ $output = *"m.last: a run that is not finished (-r continues it; remove it to begin anew)" ]]
    train -r -c k.yaml -e val.tns -o m <five.tns 2>/dev/null
    cmp m whole
}

@test "train -r: a run whose best weights are gone is told so at once" {
    printf "arch: unet\nbase: 4\nbatch: 5\nrate: 1e-30\nschedule: constant\n$PLAIN" >k.yaml
    epochs -b 0 -n 2 -s 1 train.tns | train -c k.yaml -e val.tns -o m 2>/dev/null
    cp m kept
    rm m
    run -1 --separate-stderr pipe 'epochs -b 0 -n 4 -s 1 train.tns | train -r -c k.yaml -e val.tns -o m'
    [ "$stderr" = "train: -r: the best weights so far are gone: m: No such file or directory" ]
    pretrain m2
    cp m2 m
    run -1 --separate-stderr pipe 'epochs -b 0 -n 4 -s 1 train.tns | train -r -c k.yaml -e val.tns -o m'
    [ "$stderr" = "train: m: is not of this run, whose best weights so far are gone" ]
    cp kept m
    epochs -b 0 -n 4 -s 1 train.tns | train -r -c k.yaml -e val.tns -o m 2>/dev/null
}
