load ../lib/common

# Networks that see volumes, and planar ones that see neighbours: what train makes of slabs.

setup() {
    cd "$BATS_TEST_TMPDIR"
    export OMP_WAIT_POLICY=passive
    need_python numpy
    blobs -p 2 -n 6 -d 16x24 >a.tns
    blobs -p 1 -n 3 -1 5 -d 16x16 -e >b.tns
    blobs -p 2 -n 5 -1 10 -d 16x16 -e >val.tns
    # Of two sizes; z: slices that a kernel sees, pool: that a pool makes one of.
    cat >two.yaml <<'E'
parameters: {inputs: 4, classes: 4, base: 4, z: 3, pool: 2, norm: 1, dropout: 0, deep_supervision: 0}
blocks:
  layer:
    parameters: [c]
    body:
      - {op: convolution, name: conv, channels: c, kernel: [z, 3, 3]}
      - {op: batch_norm, name: norm, when: norm == 1}
      - {op: instance_norm, name: norm, when: norm > 1}
      - {op: relu}
network:
  - {op: input, channels: inputs}
  - {op: layer, name: enc, c: base}
  - {op: max_pool, size: [pool, 2, 2]}
  - {op: dropout, p: dropout, when: dropout > 0}
  - {op: layer, name: bottom, c: base}
  - {op: transposed_convolution, name: up, channels: base, kernel: [pool, 2, 2], stride: [pool, 2, 2]}
  - {op: concat, in: [up, enc]}
  - {op: layer, name: dec, c: base}
  - {op: head, name: head, channels: classes}
  - {op: loss, weight: 1 - deep_supervision / 3}
  - {op: head, name: head2, in: bottom, channels: classes, when: deep_supervision > 0}
  - {op: loss, weight: deep_supervision / 3, when: deep_supervision > 0}
E
    settings >c.yaml
}

settings() { # LINE...
    printf 'network: two.yaml\nbatch: 2\nrate: 0.01\n'
    [ $# = 0 ] || printf '%s\n' "$@"
}

meta() { # FILE KEY
    "$PYTHON" - "$@" <<'PY'
import json, struct, sys
b = open(sys.argv[1], "rb").read()
print(json.loads(b[8:8 + struct.unpack("<Q", b[:8])[0]])["__metadata__"].get(sys.argv[2], "-"))
PY
}

# Columns of two logs, seconds aside, are equal to five digits.
logs_near() {
    cat "$1" >near1 && cat "$2" >near2 # a Python that is warm has no other's descriptors
    "$PYTHON" - near1 near2 <<'PY'
import sys
a, b = ([l.split("\t")[:-1] for l in open(f)] for f in sys.argv[1:3])
assert len(a) == len(b) > 1 and a[0] == b[0]
for x, y in zip(a[1:], b[1:]):
    for name, v, w in zip(a[0], x, y):
        assert v == w or abs(float(v) - float(w)) < 1e-5 * max(1, abs(float(v))), (name, v, w)
PY
}

@test "train: a network of volumes learns from slabs and is validated on whole volumes" {
    epochs -b 0 -n 30 -s 1 -d 4 a.tns b.tns | train -v -c c.yaml -e val.tns -o m 2>err
    # 3 + 3 + 1 slabs, in batches of two at most.
    grep -q ', 120 steps of 2 slabs up to 4x16x24, ' err || { cat err; false; }
    awk -F'\t' 'NR == 2 { first = $4 } END { if (!($4 < 0.5 * first)) { print first, $4; exit 1 } }' m.tsv
    [ "$(meta m depth)" = 4 ]
    [ "$(meta m neighbours)" = - ]
}

@test "train: of volumes any number of threads gives the same model, and so does a run that paused or was cut" {
    feed() {
        epochs -n 4 -s 1 -d 4 -b 0.5 -B 2 "$@" a.tns b.tns | augment -s 1 flip noise@1 gamma@1
    }
    for o in 'accumulate: 2' $'ema: 0.9\nparameters: {norm: 2}' 'deep_supervision: true' 'dropout: 0.3' 'average: 2'; do
        settings "$o" >c.yaml
        for j in 1 2; do
            feed | train -j $j -c c.yaml -e val.tns -o m$j 2>/dev/null
        done
        cmp m1 m2
        cmp m1.last m2.last
        feed | train -x 2 -c c.yaml -e val.tns -o half 2>/dev/null
        feed -k 14 | train -r -c c.yaml -e val.tns -o half 2>/dev/null
        cmp m1 half
        rm -f m1* m2* half*
    done
    # Cut in the middle of a slab: continued, it is the model of a run left alone.
    settings >c.yaml
    feed >all.tns
    train -c c.yaml -o whole <all.tns 2>/dev/null
    head -c $(($(stat -c %s all.tns) * 5 / 9)) all.tns >cut.tns
    run -1 pipe 'train -c c.yaml -o part <cut.tns'
    [[ $output == *"cut off"* ]]
    train -r -c c.yaml -o part <all.tns 2>/dev/null
    cmp whole part
}

@test "train -i: a planar network inflated along z is what it was, in slabs that are padded and in whole volumes" {
    # Without normalisation, so that nothing hangs on what pads a batch.
    settings 'parameters: {norm: 0, z: 1, pool: 1}' >flat.yaml
    epochs -b 0 -n 6 -s 1 a.tns | train -c flat.yaml -o flat 2>/dev/null
    sed 's/^rate:.*/rate: 0/' flat.yaml >still.yaml
    sed 's/z: 1/z: 3/' still.yaml >deep.yaml
    for m in still deep; do
        # Slabs of 4 and, of one patient, of 3 slices; a planar network takes them as so many slices.
        epochs -b 0 -n 2 -s 1 -d 4 a.tns b.tns | train -v -i flat -c $m.yaml -e val.tns -o $m 2>err.$m
        grep -q 'begins from flat: 100 %' err.$m
    done
    "$PYTHON" - <<'PY'
rows = [[l.split("\t") for l in open(f"{m}.tsv")] for m in ("still", "deep")]
for a, b in zip(*rows):
    # all columns but that of the training loss: a planar batch is weighed by its slices
    assert a[0] == "epoch" or all(x == y or abs(float(x) - float(y)) < 1e-5 for x, y in zip(a[4:-1], b[4:-1])), (a, b)
PY
    # One slab a batch: the same losses, whatever pads it (pooling along z asks for multiples of 2).
    for m in still deep; do
        sed 's/^batch:.*/batch: 1/' $m.yaml >one.yaml
        epochs -b 0 -n 2 -s 1 -d 4 a.tns | train -i flat -c one.yaml -e val.tns -o one.$m 2>/dev/null
    done
    logs_near one.still.tsv one.deep.tsv
    for d in 3 4; do
        settings 'parameters: {norm: 0, z: 3, pool: 2}' | sed 's/^batch:.*/batch: 1/; s/^rate:.*/rate: 0/' >pool.yaml
        epochs -b 0 -n 1 -s 1 -d $d b.tns | train -s 3 -c pool.yaml -e b.tns -L -o pool$d 2>/dev/null
    done
    logs_near pool3.tsv pool4.tsv
}

@test "train: what a slab is padded with is not in the loss" {
    # A slab of three slices, padded to four in company and to nothing alone, of a network whose one kernel reads zeros
    # either way: the loss of both is the mean of the losses of each.
    cat >once.yaml <<'E'
parameters: {inputs: 4, classes: 4}
network:
  - {op: input, channels: inputs}
  - {op: convolution, name: conv, channels: 8, kernel: [3, 3, 3]}
  - {op: relu}
  - {op: head, name: head, channels: classes}
  - {op: loss}
E
    printf 'network: once.yaml\nbatch: 2\nrate: 0\ndice: sample\nloss: dice\n' >both.yaml
    sed 's/^batch:.*/batch: 1/' both.yaml >one.yaml
    blobs -p 1 -n 4 -1 7 -d 16x16 >four.tns
    cat four.tns b.tns >c.tns
    for s in one both; do
        epochs -b 0 -n 1 -d 4 c.tns | train -s 1 -c $s.yaml -o $s 2>/dev/null
    done
    logs_near <(cut -f 1,4- one.tsv) <(cut -f 1,4- both.tsv)
}

@test "train: slabs that are torn, and streams that are not the network's, are one line" {
    epochs -b 0 -n 1 -s 1 -d 4 a.tns >s.tns
    "$PYTHON" - <<'PY'
import struct, zlib
b, at, recs = open("s.tns", "rb").read(), 0, []
while at < len(b):
    n = 64 + struct.unpack_from("<Q", b, at + 24)[0]
    recs.append(bytearray(b[at:at + n]))
    at += n
def write(name, rows):
    out = b""
    for i, r in enumerate([recs[0]] + [recs[k] for k in rows] + [recs[-1]]):
        r = bytearray(r)
        struct.pack_into("<Q", r, 32, 0 if not i else len(rows) if i > len(rows) else i - 1)
        struct.pack_into("<I", r, 60, zlib.crc32(r[:60]))
        out += r
    open(name, "wb").write(out)
every = list(range(1, len(recs) - 1))
write("order.tns", [every[1], every[0]] + every[2:])
write("swap.tns", [every[0], every[2], every[1]] + every[3:])
write("gap.tns", every[:2] + every[3:])
write("early.tns", every[:3] + every[4:])
write("short.tns", every[:-2] + every[-1:])
write("lost.tns", every[4:])
PY
    for f in order swap gap early short lost; do
        case $f in
        order | swap | gap) want="out of order, or slices of its slab are missing (wanted slice " ;;
        early) want="slabs are missing (wanted slab 0 of epoch 0, got 1 of 0)" ;;
        short) want="a slab has lost its last slices" ;;
        lost) want="slabs are missing (wanted slab 0 of epoch 0, got 1 of " ;;
        esac
        run -1 pipe "train -c c.yaml -o $f <$f.tns"
        grep -q "$want" <<<"${lines[-1]}" || { echo "$f: $output"; false; }
        [ ! -e $f ]
    done
    printf 'arch: unet\nbase: 2\nneighbours: 1\n' >n.yaml
    printf 'arch: unet\nbase: 2\n' >p.yaml
    refused() { # WORDS CONFIG EPOCHS...
        run -1 pipe "epochs -b 0 -n 1 ${*:3} a.tns | train -c $2 -o x"
        [[ $output == "train: stdin: $1"* ]] || { echo "$output"; false; }
        [ "${#lines[@]}" = 1 ]
    }
    refused "slices by themselves; two sees volumes and wants slabs (epochs -d DEPTH)" c.yaml
    refused "slices with their neighbours; two sees volumes and wants slabs (epochs -d DEPTH)" c.yaml -N 1
    refused "slices by themselves; neighbours: wants slices with those beside them (epochs -N 1)" n.yaml
    refused "slabs; neighbours: wants slices with those beside them (epochs -N 1)" n.yaml -d 3
    refused "slices with their neighbours (epochs -N); unet sees none (wanted the setting neighbours)" p.yaml -N 1
    run -1 pipe "epochs -b 0 -n 1 -N 2 a.tns | train -c n.yaml -o x"
    [[ $output == *"other neighbours than the settings' (wanted epochs -N 1, got -N 2)"* ]]
    settings 'neighbours: 1' >both.yaml
    run -1 pipe "epochs -b 0 -n 1 -N 1 a.tns | train -c both.yaml -o x"
    [[ $output == *"neighbours are of planar networks (two.yaml sees volumes)"* ]]
    # Whom the model does not name nobody will know: a slab is of one patient and one scan.
    for k in patient=P999 fingerprint=0123456789abcdef; do
        blobs -p 1 -n 1 -1 20 -d 16x16 -k slice=0 -k slices=2 >o.tns
        blobs -p 1 -n 1 -1 20 -d 16x16 -k slice=1 -k slices=2 -k $k | cat o.tns - >t.tns
        for c in "c.yaml -d 2" "n.yaml -N 1"; do
            run -1 pipe "epochs -b 0 -n 1 ${c#* } t.tns | train -c ${c% -*} -o x"
            [[ $output == *"another ${k%=*} than its slab's (wanted "* ]]
        done
    done
    # The validation's slices are volumes too, whole ones.
    for s in 0 1 3; do
        blobs -p 1 -n 1 -1 20 -d 16x16 -k slice=$s -k slices=3 >s$s.tns
    done
    for c in "c.yaml -d 4" "n.yaml -N 1"; do
        blobs -p 1 -n 1 -1 20 -d 16x16 -k slice=2 -k slices=3 | cat s0.tns - >g.tns
        run -1 pipe "epochs -b 0 -n 1 ${c#* } a.tns | train -c ${c% -*} -e g.tns -o x"
        [[ $output == *"g.tns: record 1 (P020): a volume without gaps is wanted"*"(wanted slice 1 of 3, got 2 of 3)" ]]
        run -1 pipe "epochs -b 0 -n 1 ${c#* } a.tns | train -c ${c% -*} -e s1.tns -o x"
        [[ $output == *"s1.tns: record 0 (P020): a volume without gaps is wanted"*"(wanted slice 0 of 3, got 1 of 3)" ]]
        cat s0.tns s1.tns >g.tns
        run -1 pipe "epochs -b 0 -n 1 ${c#* } a.tns | train -c ${c% -*} -e g.tns -o x"
        [[ $output == *"g.tns: case 'P020' ends behind slice 2 of 3: a volume without gaps is wanted"* ]]
        cat s0.tns s1.tns val.tns >g.tns
        run -1 pipe "epochs -b 0 -n 1 ${c#* } a.tns | train -c ${c% -*} -e g.tns -o x"
        [[ $output == *"g.tns: case 'P020' ends behind slice 2 of 3"* ]]
        run -1 pipe "epochs -b 0 -n 1 ${c#* } a.tns | train -c ${c% -*} -e s3.tns -o x"
        [[ $output == *"s3.tns: record 0: no keys 'slice' and 'slices', or no numbers in them"* ]]
        [ ! -e x ]
    done
}

@test "train: neighbours are as channels that somebody put there by hand" {
    for f in a val; do
        "$PYTHON" "$ROOT/tests/lib/beside.py" 1 <$f.tns >${f}12.tns
    done
    for n in 1 12; do
        printf 'arch: unet\nbase: 2\nbatch: 3\nrate: 0.01\n' >n$n.yaml
    done
    echo 'neighbours: 1' >>n1.yaml
    echo 'channels: 12' >>n12.yaml
    epochs -n 3 -s 2 -N 1 -b 0.5 a.tns | train -c n1.yaml -e val.tns -o m1
    epochs -n 3 -s 2 -b 0.5 a12.tns | train -c n12.yaml -e val12.tns -o m12
    diff <(cut -f 1-19 m1.tsv) <(cut -f 1-19 m12.tsv)
    "$PYTHON" - <<'PY'
import json, struct
def tensors(path):
    b = open(path, "rb").read()
    n = struct.unpack("<Q", b[:8])[0]
    head = json.loads(b[8:8 + n])
    return {k: b[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]] for k, v in head.items() if k != "__metadata__"}
assert tensors("m1") == tensors("m12")
PY
    [ "$(meta m1 neighbours)" = 1 ]
    [ "$(meta m1 modalities)" = flair,t1,t1gd,t2 ]
    # A planar network as its beginning: what it knows of a slice is taken, neighbours weigh nothing at first.
    printf 'arch: unet\nbase: 2\nbatch: 3\nrate: 0.01\n' >p.yaml
    epochs -b 0 -n 2 a.tns | train -c p.yaml -o p 2>/dev/null
    sed 's/^rate:.*/rate: 0/' n1.yaml >still.yaml
    sed 's/^rate:.*/rate: 0/' p.yaml >pstill.yaml
    epochs -b 0 -n 1 -N 1 a.tns | train -i p -c still.yaml -e val.tns -o q 2>err
    grep -q 'begins from p: 9[0-9.]* % of the weights; in part: enc1.conv1.weight$' err || { cat err; false; }
    epochs -b 0 -n 1 a.tns | train -i p -c pstill.yaml -e val.tns -o r 2>/dev/null
    logs_near q.tsv r.tsv
}

@test "train: of volumes takes no more than it planned, nor than its ceiling" {
    need_release memory
    need_command time
    blobs -p 2 -n 12 -d 96x96 >big.tns
    blobs -p 1 -n 10 -1 9 -d 96x96 >bigval.tns
    settings 'base: 16' >c.yaml
    epochs -b 0 -n 1 -d 8 big.tns >e.tns
    planned() { sed -n 's/.*, \([0-9]*\) MiB$/\1/p' err; }
    kept() { # ARG...
        kib=$(peak_kib sh -c 'exec train "$@" -c c.yaml -e bigval.tns -o m <e.tns 2>err' train "$@") || { cat err; false; }
        [ "$kib" -le $(($(planned) * 1024)) ] || { echo "$* took $kib KiB, planned $(planned) MiB"; false; }
        rm -f m m.*
    }
    kept
    most=$(planned)
    kept -M $((most - 4))M
    [ "$(planned)" -le $((most - 4)) ]
    run -1 pipe 'train -M 12M -c c.yaml -e bigval.tns -o m <e.tns'
    [[ $output == *"at least"*"MiB"* ]]
}
