load ../lib/common
load ../lib/records
load ../lib/memory

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    export OMP_WAIT_POLICY=passive
    "$PYTHON" -c 'import numpy' || return 0
    blobs -p 2 -n 4 -d 32x32 >train.tns
    for w in f32 f16 bf16; do
        printf "arch: unet\nbase: 8\nbatch: 4\nrate: 0.01\nweights: $w\n$PLAIN" >c.yaml
        epochs -b 0 -n 12 train.tns | train -c c.yaml -o $w
    done
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
    cp "$BATS_FILE_TMPDIR"/{f32,f16,bf16} .
    cp "$BATS_FILE_TMPDIR"/train.tns .
    blobs -p 2 -n 3 -1 10 -d 40x33 -r -x >new.tns
}

@test "infer: slices of any size, in order, with what they held" {
    infer -t none -P -m f32 <new.tns >p.tns
    py <<'PY'
old, new = read("new.tns"), read("p.tns")
assert len(old) == len(new) == 6 and len({t["image"].shape for _, t in old}) > 1
for (m, t), (n, u) in zip(old, new):
    assert (m["case"], m["slice"]) == (n["case"], n["slice"]) and n["scheme"] == "canonical"
    assert (t["image"] == u["image"]).all()
    h, w = t["image"].shape[1:]
    assert u["pred"].shape == (h, w) and u["pred"].dtype == np.uint8 and u["prob"].shape == (4, h, w)
    assert np.abs(u["prob"].sum(0) - 1).max() < 1e-5 and (u["prob"].argmax(0) == u["pred"]).mean() > 0.9999
assert read.header[-1].startswith("history=infer -m unet8:") and read.header[-1].endswith(" -P")
PY
}

@test "infer: the probabilities are the U-Net's, as a second implementation has them" {
    blobs -p 1 -n 1 -1 10 -d 32x48 >one.tns
    infer -t none -P -m f32 <one.tns >p.tns
    py <<'PY'
import json
b = open("f32", "rb").read()
n = 8 + struct.unpack("<Q", b[:8])[0]
at = lambda v: np.frombuffer(b[n + v["data_offsets"][0]:n + v["data_offsets"][1]], "<f4").reshape(v["shape"]).astype(float)
w = {k: at(v) for k, v in json.loads(b[8:n]).items() if k != "__metadata__"}

def layer(x, name, i):  # 3x3 convolution, normalisation with the running statistics, ReLU
    k, (h, width) = w[f"{name}.conv{i}.weight"], x.shape[1:]
    p = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    y = sum(np.einsum("oi,iyx->oyx", k[:, :, r, c], p[:, r:r + h, c:c + width]) for r in range(3) for c in range(3))
    mean, var, scale, shift = (w[f"{name}.norm{i}.{s}"][:, None, None] for s in ("running_mean", "running_var", "weight", "bias"))
    return np.maximum((y - mean) / np.sqrt(var + 1e-5) * scale + shift, 0)

block = lambda x, name: layer(layer(x, name, 1), name, 2)
x, skips = read("one.tns")[0][1]["image"].astype(float), []
for i in (1, 2, 3, 4):
    skips.append(block(x, f"enc{i}"))
    x = skips[-1].reshape(len(skips[-1]), x.shape[1] // 2, 2, x.shape[2] // 2, 2).max((2, 4))
x = block(x, "bottleneck")
for i in (4, 3, 2, 1):
    up = np.einsum("iors,iyx->oyrxs", w[f"dec{i}.up.weight"], x)
    up = up.reshape(len(up), 2 * x.shape[1], 2 * x.shape[2]) + w[f"dec{i}.up.bias"][:, None, None]
    x = block(np.concatenate([skips[i - 1], up]), f"dec{i}")
y = np.einsum("oi,iyx->oyx", w["head.weight"][:, :, 0, 0], x) + w["head.bias"][:, None, None]
p = np.exp(y - y.max(0))
p /= p.sum(0)
(keys, tensors), = read("p.tns")
assert p.min() < 0.01 and np.abs(p - tensors["prob"]).max() < 1e-5, np.abs(p - tensors["prob"]).max()
PY
}

@test "infer: neither threads nor the slices beside it change a result" {
    infer -t none -P -j 1 -m f32 <new.tns >one.tns
    infer -t none -P -j 3 -m f32 <new.tns >three.tns
    cmp one.tns three.tns
    blobs -p 4 -n 9 -1 10 -d 32x32 >many.tns
    infer -t none -m f32 <many.tns >m.tns
    blobs -p 1 -n 9 -1 13 -d 32x32 >last.tns
    infer -t none -m f32 <last.tns >l.tns
    py <<'PY'
assert all((a["pred"] == b["pred"]).all() for (_, a), (_, b) in zip(read("m.tns")[-9:], read("l.tns")))
PY
}

@test "infer: says whether the network was trained on the patient" {
    blobs -p 4 -n 1 >four.tns
    infer -t none -m f32 <four.tns >p.tns
    py <<'PY'
assert [m["trained"] for m, _ in read("p.tns")] == ["yes", "yes", "no", "no"]
PY
}

@test "infer: modalities in another order are brought into the network's, the stream stays" {
    blobs -p 1 -n 2 -1 10 >a.tns
    blobs -p 1 -n 2 -1 10 -m t2,t1gd,flair,t1 >b.tns
    infer -t none -P -m f32 <a.tns >pa.tns
    infer -t none -P -m f32 <b.tns >pb.tns
    py <<'PY'
for (m, a), (n, b) in zip(read("pa.tns"), read("pb.tns")):
    order = [n["modalities"].split(",").index(x) for x in m["modalities"].split(",")]
    assert order == [2, 3, 1, 0] and (a["image"] == b["image"][order]).all() and (a["prob"] == b["prob"]).all()
PY
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 1 -l "znorm -p case" -m flair,t1,t2 >three.tns
    run -1 pipe 'infer -t none -F -m f32 <three.tns >p.tns'
    [[ $output == *"wrong modalities (wanted flair,t1,t1gd,t2, got flair,t1,t2)"* ]]
}

@test "infer: a stream prepared differently is refused, the difference is named, -F notes it" {
    for lines in "-l nii2slices|key 'norm' differs (wanted case, got none)" \
        "-l nii2slices -k norm=slice|key 'norm' differs (wanted case, got slice)" \
        "-l nii2slices -k norm=case -k 'crop=0 0 32 32 32 32' -k 'cropped=-p case -m 16'|key 'cropped' differs (wanted none, got -p case -m 16)" \
        "-l nii2slices -k norm=case -k 'crop=0 0 32 32 32 32'|key 'cropped' differs (wanted none, got unknown)" \
        "-l 'znorm -p case' -k norm=case -l 'denoise 3'|'denoise 3' is one step too many" \
        "|no history"; do
        eval "'$PYTHON' '$ROOT/tests/lib/blobs.py' -p 1 -n 1 -1 10 ${lines%%|*}" >d.tns
        run -1 pipe 'infer -t none -m f32 <d.tns >p.tns'
        [[ $output == *"${lines##*|}"* ]] || { echo "$output" >&2; return 1; }
        infer -t none -F -m f32 <d.tns >p.tns
        py <<'PY'
read("p.tns")
assert read.header[-1].endswith(" -F"), read.header
PY
    done
    # What leaves the images alone may differ: all slices, another recode, a crop that was undone.
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 1 -1 10 -l "nii2slices -t" -l "recode -s msd" -l "znorm -p case" \
        -l "crop -p case -m 16" -l "crop -u" -k norm=case >d.tns
    infer -t none -m f32 <d.tns >p.tns
    blobs -p 1 -n 1 -1 10 -k scheme=brats2017 >d.tns
    run -1 pipe 'infer -t none -m f32 <d.tns >p.tns'
    [[ $output == *"another label scheme than the model's (wanted canonical, got brats2017: recode)"* ]]
    infer -t none -F -m f32 <d.tns >p.tns
    py <<'PY'
((keys, tensors),) = read("p.tns")
assert keys["scheme"] == "canonical" and "pred" in tensors and "label" not in tensors
PY
}

@test "infer: -n prints what a stream for the model has to be, a line for each step" {
    infer -n -m f32 >said
    [ "$(grep -P '^step\t' said)" = $'step\tznorm -p case' ]
    [ "$(grep -cP '^(arch\tunet|parameters\tbase=8|modalities\tflair,t1,t1gd,t2|scheme\tcanonical|leaky\tno|prepared\tknown)$' said)" = 6 ]
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 4 -d 32x32 >raw.tns
    printf 'arch: unet\nbase: 4\n' >c.yaml
    epochs -b 0 -H -n 1 raw.tns | train -c c.yaml -o m
    infer -n -m m >said
    grep -qP '^prepared\tunknown$' said
    ! grep -qP '^step' said || false
    # A text of the model cannot make a line of its own.
    "$PYTHON" - <<'PY'
import json, struct
b = open("f32", "rb").read()
n = struct.unpack("<Q", b[:8])[0]
h = json.loads(b[8:8 + n])
h["__metadata__"]["generator"] = "x\nstep\trm -r"
h["__metadata__"].pop("xxh3")
t = json.dumps(h).encode()
t += b" " * (-len(t) % 64 + 56)
open("evil", "wb").write(struct.pack("<Q", len(t)) + t + b[8 + n:])
PY
    run -1 pipe 'infer -n -m evil >said'
    [ "$output" = "infer: evil: the model's metadata has no sound 'generator'" ]
    [ ! -s said ]
}

@test "infer: a model without history says nothing, so it is refused too" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 2 >plain.tns
    printf 'arch: unet\nbase: 4\nbatch: 2\n' >c.yaml
    epochs -b 0 -H -n 1 plain.tns | train -c c.yaml -o m
    run -1 pipe 'infer -t none -m m <new.tns >p.tns'
    [[ $output == *"does not say how its data was prepared"* ]]
    infer -t none -F -m m <new.tns >p.tns
}

@test "infer: f16 and bf16 weights are half as large and nearly as good" {
    [ "$(stat -c %s f16)" -lt $(($(stat -c %s f32) * 55 / 100)) ]
    for w in f32 f16 bf16; do infer -t none -P -m $w <new.tns >$w.tns; done
    py <<'PY'
full = read("f32.tns")
for w, bits in (("f16", 11), ("bf16", 8)):
    worst = max(np.abs(a["prob"] - b["prob"]).max() for (_, a), (_, b) in zip(full, read(w + ".tns")))
    # Weights keep that many bits; twenty layers may carry the error some ten times further.
    assert 0 < worst < 20 * 2.0 ** -bits, (w, worst)
PY
}

@test "infer: -b is nearly as good, whatever the weights are and the level, in no more than it planned" {
    need_command time
    blobs -p 1 -n 6 -d 160x144 -x >large.tns
    infer -t none -P -m f32 <new.tns >exact.tns
    for w in f32 f16 bf16; do infer -b -t none -P -j 1 -m $w <new.tns >$w.tns; done
    infer -b -t none -P -j 3 -m f32 <new.tns >three.tns
    cmp f32.tns three.tns
    KR_ISA=plain infer -b -t none -P -m f32 <new.tns >plain.tns
    infer -b -m f32 -m f16 <new.tns >two.tns
    kept large.tns -b -j 2 -m f32
    kept large.tns -b -j 1 -m f16
    [ ! -s over ] || { cat over; return 1; }
    py <<'PY'
full = read("exact.tns")
for name in "f32", "f16", "bf16", "plain":
    some = read(name + ".tns")
    worst = max(np.abs(a["prob"] - b["prob"]).max() for (_, a), (_, b) in zip(full, some))
    same = np.mean([(a["pred"] == b["pred"]).mean() for (_, a), (_, b) in zip(full, some)])
    # Maps and weights keep 8 bits; twenty layers may carry the error some ten times further.
    assert 0 < worst < 20 * 2.0 ** -8 and same > 0.99, (name, worst, same)
assert " -b" in read.header[-1]
PY
}

@test "infer: segments stay segments, marks pass, no records are no error" {
    cat new.tns new.tns >two.tns
    infer -t none -m f32 <two.tns >p.tns
    infer -t none -m f32 <new.tns >one
    n=$(wc -c <one)
    [ "$(wc -c <p.tns)" = $((2 * n)) ]
    cmp -n $((n - 64)) one p.tns # whose first segment says that more follows
    tail -c "$n" p.tns | cmp - one
    epochs -b 0 -n 2 train.tns | infer -t none -m f32 >e.tns
    py <<'PY'
marks = [i for i, (m, t) in enumerate(read("e.tns")) if "mark" in m]
assert marks == [8, 17]
PY
    blobs -p 0 >none.tns
    infer -t none -m f32 <none.tns >p.tns
    py <<'PY'
assert read("p.tns") == [] and read.header[-1].startswith("history=infer")
PY
}

@test "infer: a model that is cut, changed, newer or none is refused" {
    try() { # MESSAGE
        run -1 pipe 'infer -t none -m bad <new.tns >p.tns'
        [[ $output == *"infer: bad: $1"* ]] || { echo "$output" >&2; return 1; }
    }
    head -c 30000 f32 >bad
    try ""
    : >bad
    try ""
    cp f32 bad
    printf 'x' | dd of=bad bs=1 seek=50000 conv=notrunc 2>/dev/null
    try "checksum differs"
    sed 's/"model":"2"/"model":"3"/' f32 >bad
    try "checksum differs"
    "$PYTHON" - <<'PY'
import json, struct
b = open("f32", "rb").read()
n = struct.unpack("<Q", b[:8])[0]
h = json.loads(b[8:8 + n])
def write(meta):
    h["__metadata__"] = meta
    t = json.dumps(h).encode()
    t += b" " * (-len(t) % 64 + 56)
    open("bad", "wb").write(struct.pack("<Q", len(t)) + t + b[8 + n:])
import sys
meta = {k: v for k, v in h["__metadata__"].items() if k != "xxh3"}
write(dict(meta, model="3"))
open("newer", "wb").write(open("bad", "rb").read())
write({})
PY
    try "tensors, but no model of ours"
    mv newer bad
    try "a model of a newer version (wanted 2, got 3)"
    mv bad gone
    try "No such file"
}

@test "infer: a model from before records said how they were prepared goes by its steps" {
    "$PYTHON" - <<'PY'
import json, struct
b = open("f32", "rb").read()
n, = struct.unpack("<Q", b[:8])
h = json.loads(b[8:8 + n])
for key in "xxh3", "norm", "cropped", "spacing", "scans":
    del h["__metadata__"][key]
t = json.dumps(h).encode()
t += b" " * (-len(t) % 64 + 56)
open("old", "wb").write(struct.pack("<Q", len(t)) + t + b[8 + n:])
PY
    infer -t none -H -P -m f32 <new.tns >a.tns
    infer -t none -H -P -m old <new.tns >b.tns
    infer -n -m old | grep ^step >steps
    infer -n -m f32 | grep ^step | cmp - steps
    cmp a.tns b.tns
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 2 -1 10 -l nii2slices -l "znorm -p case" >raw.tns
    run -1 --separate-stderr pipe 'infer -t none -m old <raw.tns >out'
    [[ $stderr = *"infer: stdin: record 0 ("*"key 'norm' differs (wanted case, got none)"* ]]
}

# spoil VALUE [DTYPE] [KEY] <STREAM: one voxel of the third record, in channel 1, row 5, column 7, holds the value;
# the key is left out.
spoil() {
    PYTHONPATH=$ROOT/tests/lib PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -c '
import sys, numpy as np
from mkstream import parse, stream
parts = [(k, m, dict(t)) for k, _, m, t, _ in parse(sys.stdin.buffer.read())]
image = parts[3][2]["image"].astype(sys.argv[2])
with np.errstate(all="ignore"): image[1, 5, 7] = float(sys.argv[1])
parts[3][2]["image"] = image
sys.stdout.buffer.write(stream(parts[0][1], [([p for p in m if p[0] != sys.argv[3]], t) for k, m, t in parts if k == "R"]))' "$1" "${2-f4}" "${3-}"
}

@test "infer, train, augment, znorm: an image with a value that nobody can work with is refused" {
    epochs -b 0 -n 1 train.tns >e.tns
    printf 'arch: unet\nbase: 4\nbatch: 2\n' >c.yaml
    for v in "nan f4" "inf f4" "-inf f2" "3e38 f4" "-1e300 f8" "nan f2"; do
        for tool in "infer -t none -m f32" "znorm -p slice"; do
            # shellcheck disable=SC2086
            spoil $v "$([[ $tool != znorm* ]] || echo norm)" <train.tns >bad.tns
            run -1 --separate-stderr pipe "$tool <bad.tns >out"
            [[ $stderr = "${tool%% *}: stdin: record 2 (P000 slice 2): image: channel 1, row 5, column 7: (wanted at most 1e+18 in size, got "*")" ]] || { echo "$stderr"; false; }
            run -1 tnsview -c <out
        done
    done
    for v in nan 3e38; do
        spoil $v <e.tns >bad.tns
        for tool in "augment noise" "train -c c.yaml -o m"; do
            run -1 --separate-stderr pipe "$tool <bad.tns >out"
            [[ $stderr = *"${tool%% *}: stdin: record 2 ("*"): image: channel 1, row 5, column 7: "* ]] || { echo "$stderr"; false; }
        done
        blobs -p 1 -n 3 -1 10 | spoil $v >val.tns
        run -1 --separate-stderr pipe 'train -c c.yaml -e val.tns -o m <e.tns'
        [[ $stderr = *"train: val.tns: record 2: image: channel 1, row 5, column 7: "* ]]
        [ ! -e m ]
        rm -f m.*
    done
    spoil 1e18 f4 norm <train.tns >edge.tns # the largest that passes
    znorm -p slice <edge.tns >out
}

@test "infer: a head that fills its slices, and spacing it did not learn from, are warned of once a case" {
    warns() { # HOW MANY LINES OF WHAT, and the stream's options
        blobs -p 2 -n 3 -1 10 "${@:3}" >w.tns
        run -0 --separate-stderr pipe 'infer -t none -F -m f32 <w.tns >out'
        [ "$(grep -c "warning: .*$2" <<<"$stderr")" = "$1" ] && [ "$(grep -c . <<<"$stderr")" = "$1" ] || { echo "$*: $stderr"; false; }
    }
    warns 2 "what is not zero fills the slice (32x31 of 32x32)" -k "brain=0 0 32 31"
    warns 2 "(40x39 of 40x40)" -k "brain=0 1 40 39" -k "crop=4 4 32 32 40 40"
    warns 0 "" -k "brain=3 0 26 32"                                # one side alone
    warns 0 "" -k "brain=4 4 32 32" -k "crop=4 4 32 32 40 40"    # a brain fills what was cut to it
    warns 0 "" -k "brain=0 0 0 0"
    warns 2 "spacing 1 1 5 is not what the model learned from" -k "spacing=1 1 5"
}

@test "infer: a skull that is on where the model learned without, or off, is refused; what may be another is said once a case; a kernel is nothing" {
    made() { # STEPS: f32, as if it had learned from scans made so, in `made`
        "$PYTHON" - "$1" <<'PY'
import json, struct, sys
b = open("f32", "rb").read()
n, = struct.unpack("<Q", b[:8])
h = json.loads(b[8:8 + n])
del h["__metadata__"]["xxh3"]
h["__metadata__"]["steps"] = sys.argv[1] + h["__metadata__"]["steps"]
t = json.dumps(h).encode()
t += b" " * (-len(t) % 64 + 56)
open("made", "wb").write(struct.pack("<Q", len(t)) + t + b[8 + n:])
PY
    }
    says() { # STATUS WARNINGS OF WHAT LINE...
        local status=$1 n=$2 what=$3 l=()
        shift 3
        for line in "$@"; do l+=(-l "$line"); done
        blobs -p 2 -n 2 -1 10 "${l[@]}" -l "znorm -p case" >w.tns
        run "-$status" --separate-stderr pipe 'infer -t none -m made <w.tns >out'
        [ "$(grep -c "infer: .*$what" <<<"$stderr")" = "$n" ] && [ "$(grep -c . <<<"$stderr")" = "$n" ] || { echo "$*: $stderr"; false; }
    }
    local atlas='regrid -g 240x240x155 -n linear' field='regrid -g scan -s 1 -n linear'
    made "$atlas -k"$'\n'
    says 0 0 '' "$atlas -k" nii2slices
    says 0 0 '' 'regrid -g 240x240x155 -n lanczos' 'strip -m mindgrab:0123456789abcdef'
    says 0 2 "warning: .*in the scan's own field" "$field -k"
    says 1 1 'the skull is on (wanted it off' "$atlas"
    made "$atlas"$'\n'
    says 1 1 'the skull is off (wanted it on' "$atlas" 'strip -k'
    made ''
    says 0 2 'warning: .*nothing took the skull off' "$field" 'strip -l -k'
}

# edit TENSOR INDEX VALUE: f32's parameter changed, at -1 all of it, and the checksum left out, in `bad`.
edit() {
    "$PYTHON" - "$@" <<'PY'
import json, struct, sys
b = bytearray(open("f32", "rb").read())
n = struct.unpack("<Q", b[:8])[0]
h = json.loads(b[8:8 + n])
name = next(k for k in h if k.endswith(sys.argv[1]))
first, end = h[name]["data_offsets"]
for at in range(first, end, 4) if sys.argv[2] == "-1" else [first + 4 * int(sys.argv[2])]:
    struct.pack_into("<f", b, 8 + n + at, float(sys.argv[3]))
del h["__metadata__"]["xxh3"]
t = json.dumps(h).encode()
t += b" " * (-len(t) % 64 + 56)
open("bad", "wb").write(struct.pack("<Q", len(t)) + t + b[8 + n:])
print(name)
PY
}

@test "infer: a model with a weight that is no number, or a variance below 0, is refused by name" {
    for e in "conv1.weight 3 nan" "head.weight 0 inf" "head.bias 1 -inf" "running_mean 2 nan" "running_var 1 -0.5"; do
        # shellcheck disable=SC2086
        name=$(edit $e)
        set -- $e
        run -1 --separate-stderr pipe 'infer -t none -P -m bad <new.tns >out'
        [[ $stderr = "infer: bad: parameter '$name': element $2: (wanted a finite number"*", got $3)" ]] || { echo "$name: $stderr"; false; }
        run -1 tnsview -c <out
    done
    edit running_var 1 0
    infer -t none -m bad <new.tns >out
}

@test "infer: what a network makes no number of is refused, not background" {
    edit head.weight -1 3e38 # finite, but what it gives is not
    run -1 --separate-stderr pipe 'infer -t none -m bad <new.tns >out'
    [[ $stderr = "infer: stdin: case P01"?" slice "?": the network's output is not finite" ]]
    run -1 tnsview -c <out
}

@test "infer: takes no more than it planned, nor than its ceiling, and refuses with the least that would do" {
    need_release "it needs more memory"
    need_command time
    bases=4 sizes=160x144 threads="1 5" slices=10
    [ -z "${LONG-}" ] || { bases="4 8 16" sizes="48x48 192x160 240x240" threads="1 2 3 4 5" slices=16; }
    for arch in unet attention residual; do
        for base in $bases; do
            printf 'arch: %s\nbase: %s\nbatch: 1\n' $arch "$base" >c.yaml
            blobs -p 1 -n 1 -d 16x16 >one.tns
            epochs -b 0 -n 1 one.tns | train -c c.yaml -o $arch$base
        done
    done
    for size in $sizes; do
        blobs -p 1 -n "$slices" -d "$size" -x >s.tns
        for arch in unet attention residual; do
            for base in $bases; do
                for j in $threads; do
                    [ "$j" = 1 ] || kept s.tns -j "$j" -m $arch"$base"
                    [ "$j" != 1 ] || kept s.tns -j "$j" -P -m $arch"$base"
                done
            done
        done
    done
    [ ! -s over ] || { cat over; return 1; }
}

@test "infer: whom the model names, and a large header, are planned for" {
    need_release "it needs more memory"
    need_command time
    need_python numpy
    many() { "$PYTHON" "$ROOT/tests/lib/many.py" "$@"; }
    printf 'arch: unet\nbase: 1\nbatch: 25\n' >c.yaml
    many 2000 200 0 >a
    many 20 12 9000 >s
    many 20 12 9000 900000 >h
    cat s h s h >sh
    many 20 12 0 >few
    epochs -b 0 -n 1 a | train -c c.yaml -o m
    epochs -b 0 -n 1 few | train -c c.yaml -o n
    kept s -m m
    kept a -m m
    kept h -m n
    kept sh -m n
    [ ! -s over ] || { cat over; return 1; }
    run -1 pipe 'infer -t none -F -M 5M -m m <s >p.tns'
    [[ $output =~ "m: with 2000 scans it takes at least "[0-9]+" MiB (wanted within -M)" ]]
}

@test "infer: other tensors, other types and records that grow are planned for, or named" {
    need_release "it needs more memory"
    need_command time
    need_python numpy
    "$PYTHON" - "$ROOT/tests/lib" <<'P'
import sys
sys.path.insert(0, sys.argv[1])
from mkstream import np, stream, study
more = np.full((64, 96, 80), 0.5, "f4") # 1.9 MB, 16 times the image
def write(name, change, **how):
    records = [(m, change(t, m["slice"])) for m, t in study(cases=1, slices=9, h=96, w=80, extra=0, kind=1, scheme="canonical", **how)]
    open(name, "wb").write(stream({"history": "made"}, records, 1))
write("plain", lambda t, z: t)
write("behind", lambda t, z: {**t, "foreign": more})
write("late", lambda t, z: {**t, "foreign": more} if z > 5 else t)
write("before", lambda t, z: {"foreign": more[:8], **t})
write("again", lambda t, z: {**t, "prob": more[:4]}, pred=1)
write("doubles", lambda t, z: t, dtype="f8")
write("wider", lambda t, z: {**t, "image": t["image"].astype("f8" if z > 3 else "i2")})
P
    printf 'arch: unet\nbase: 4\nbatch: 1\n' >c.yaml
    blobs -p 1 -n 1 -d 16x16 >one.tns
    epochs -b 0 -n 1 one.tns | train -c c.yaml -o m
    for s in behind late before again doubles wider; do
        kept $s -m m
        kept $s -P -m m
    done
    kept behind -P -u -t x -m m -m m # in turn
    kept again -u -t xy -m m
    [ ! -s over ] || { cat over; return 1; }
    # What stands behind the image takes no memory at all.
    least plain -m m
    plain=$least
    least behind -m m
    [ "$least" = "$plain" ]
    run -1 pipe 'infer -t none -F -M 8M -m m <before >p.tns'
    [[ $output =~ "tensor 'foreign' stands before the image" ]]
    # A bit of what passes in pieces is flipped: no end record.
    "$PYTHON" -c 'b = bytearray(open("behind", "rb").read()); b[-100000] ^= 1; open("bad", "wb").write(b)'
    run -1 pipe 'infer -t none -F -M 14M -m m <bad >p.tns'
    [[ $output =~ "record 8: corrupt: the check of tensor 'foreign' does not match" ]]
    run -1 pipe 'tnsview -c <p.tns'
}

@test "infer: a model that is cut or written over while it is in use is an error of one line" {
    need_release "the sanitizers have a word to say of signals"
    opened() { # infer, $pid, has the model open and waits for what comes through descriptor 9
        cp f32 model
        mkfifo pipe
        infer -t none -m model <pipe >out 2>err &
        pid=$!
        exec 9>pipe
        # Be it that the checksum is still being taken.
        until grep -q "$PWD/model" /proc/$pid/maps; do kill -0 $pid; done
    }
    changed() { # COMMAND, meanwhile
        opened
        "$@"
        cat new.tns >&9 || true
        exec 9>&-
        status=0
        wait $pid || status=$?
        rm pipe
        [ $status = 1 ] && [ "$(wc -l <err)" = 1 ] || { echo "status $status, says $(cat err)"; false; }
        grep -q "^infer: model: " err
        run ! tnsview -c <out
    }
    changed truncate -s 0 model
    changed truncate -s 5000 model
    changed cp bf16 model
    changed dd if=/dev/zero of=model bs=64 seek=100 count=1 conv=notrunc status=none
    # One that takes its place is another file.
    cp bf16 new
    infer -t none -m f32 <new.tns >want
    opened
    mv new model
    cat new.tns >&9
    exec 9>&-
    wait $pid
    cmp want out
}
