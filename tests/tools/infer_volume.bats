# infer with a network that sees volumes: a case is a stream of slices, and so is what comes out.
load ../lib/common
load ../lib/records
load ../lib/memory

# learn MODEL [OPTION...]: two passes over train.tns, so that nothing is certain yet.
learn() {
    printf '%s\n' "network: $1.yaml" 'batch: 2' 'rate: 0.01' 'regions: none' 'ema: 0' >c.yaml
    epochs -b 0 -n 2 "${@:2}" train.tns | train -c c.yaml -o "$1"
}

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    "$PYTHON" -c 'import numpy' || return 0
    cat >flat.yaml <<'YAML'
parameters: {inputs: 4, classes: 4}
network:
  - {op: input, channels: inputs}
  - {op: convolution, name: a, channels: 4, kernel: 3, bias: false}
  - {op: batch_norm, name: n}
  - {op: relu, name: skip}
  - {op: max_pool, size: 2}
  - {op: convolution, name: b, channels: 8, kernel: 3}
  - {op: relu}
  - {op: transposed_convolution, name: up, channels: 4, kernel: 2, stride: 2}
  - {op: concat, in: [skip, up]}
  - {op: convolution, name: c, channels: 4, kernel: 3}
  - {op: head, name: head, channels: classes}
  - {op: loss}
YAML
    sed 's/kernel: 3/kernel: [3, 3, 3]/' flat.yaml >deep.yaml
    sed '/name: c/d' deep.yaml >short.yaml
    sed 's/batch_norm/instance_norm/' deep.yaml >whole.yaml
    blobs -p 2 -n 4 >train.tns
    learn flat
    learn deep -d 4
    learn short -d 4
    learn whole -d 4
    blobs -p 3 -n 7 -1 10 -d 24x33 >new.tns
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
    cp "$BATS_FILE_TMPDIR"/* .
}

# picked SLICES <STREAM: those records, by their numbers, in that order.
picked() {
    PYTHONPATH=$ROOT/tests/lib PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -c '
import sys
from mkstream import parse, stream
parts = [(k, m, t) for k, _, m, t, _ in parse(sys.stdin.buffer.read())]
records = [(m, t) for k, m, t in parts if k == "R"]
sys.stdout.buffer.write(stream(parts[0][1], [records[int(i)] for i in sys.argv[1].split(",")]))' "$1"
}

# mirrored <STREAM: every image mirrored along a row.
mirrored() {
    PYTHONPATH=$ROOT/tests/lib PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -c '
import sys, numpy as np
from mkstream import parse, stream
parts = [(k, m, dict(t)) for k, _, m, t, _ in parse(sys.stdin.buffer.read())]
for k, _, t in parts:
    if k == "R":
        t["image"] = np.ascontiguousarray(t["image"][..., ::-1])
sys.stdout.buffer.write(stream(parts[0][1], [(m, t) for k, m, t in parts if k == "R"]))'
}

@test "infer: the probabilities are the volume's, as a second implementation has them" {
    for m in deep whole; do
        infer -t none -P -m $m <new.tns >p.tns
        second $m
    done
}

second() { # MODEL: p.tns is what it makes of new.tns
    py "$1" <<'PY'
import json, sys
b = open(sys.argv[1], "rb").read()
n = 8 + struct.unpack("<Q", b[:8])[0]
at = lambda v: np.frombuffer(b[n + v["data_offsets"][0]:n + v["data_offsets"][1]], "<f4").reshape(v["shape"]).astype(float)
w = {k: at(v) for k, v in json.loads(b[8:n]).items() if k != "__metadata__"}

def conv(x, name):
    k, (d, h, width) = w[f"{name}.weight"], x.shape[1:]
    p = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1)))
    y = sum(np.einsum("oi,izyx->ozyx", k[:, :, a, r, c], p[:, a:a + d, r:r + h, c:c + width])
            for a in range(3) for r in range(3) for c in range(3))
    return y + w[f"{name}.bias"][:, None, None, None] if f"{name}.bias" in w else y

assert np.abs(w["a.weight"][:, :, 0]).max() > 0.01
old, new = read("new.tns"), read("p.tns")
assert [(m["case"], m["slice"]) for m, _ in old] == [(m["case"], m["slice"]) for m, _ in new]
for case in sorted({m["case"] for m, _ in old}):
    x = np.stack([t["image"] for m, t in old if m["case"] == case], 1).astype(float)
    x = np.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))  # 33 columns, of which 2 makes 34
    a, axes = conv(x, "a"), (1, 2, 3)
    scale, shift = (w[f"n.{s}"][:, None, None, None] for s in ("weight", "bias"))
    if "n.running_mean" in w:
        mean, var = (w[f"n.running_{s}"][:, None, None, None] for s in ("mean", "var"))
    else:
        mean, var = a.mean(axes, keepdims=True), a.var(axes, keepdims=True)
    skip = np.maximum((a - mean) / np.sqrt(var + 1e-5) * scale + shift, 0)
    c, d, h, width = skip.shape
    low = np.maximum(conv(skip.reshape(c, d, h // 2, 2, width // 2, 2).max((3, 5)), "b"), 0)
    up = np.einsum("iors,izyx->ozyrxs", w["up.weight"], low).reshape(4, d, h, width) + w["up.bias"][:, None, None, None]
    y = conv(np.concatenate([skip, up]), "c")
    y = np.einsum("oi,izyx->ozyx", w["head.weight"][:, :, 0, 0], y) + w["head.bias"][:, None, None, None]
    q = np.exp(y - y.max(0))
    q = (q / q.sum(0))[..., :33]
    got = np.stack([t["prob"] for m, t in new if m["case"] == case], 1)
    assert got.shape == q.shape and np.abs(q - got).max() < 1e-5, np.abs(q - got).max()
PY
}

@test "infer: neither threads, nor a ceiling, nor the cases beside it change a volume's result" {
    infer -t none -P -j 1 -m deep <new.tns >one.tns
    infer -t none -P -j 3 -m deep <new.tns >three.tns
    cmp one.tns three.tns
    infer -t none -v -m deep <new.tns 2>free.txt >all.tns
    tight=$(sed -n 's/.* \([0-9]*\)\.[0-9] MiB$/\1/p' free.txt)
    infer -t none -v -M "${tight}M" -m deep <new.tns 2>tight.txt >tight.tns
    grep -q '8 at once of 24x34, each 6 slices later' free.txt
    run ! grep -q '8 at once' tight.txt
    cmp all.tns tight.tns
    infer -v -m deep <new.tns 2>free.txt >four.tns
    grep -q '8 at once of 24x34, cases in a temporary file, 4 views' free.txt
    infer -t none -P -j 1 -v -m whole <new.tns 2>free.txt >one.tns
    infer -t none -P -j 2 -m whole <new.tns >three.tns
    grep -q '8 at once of 24x34, cases of 7 slices' free.txt
    cmp one.tns three.tns
    picked 7,8,9,10,11,12,13 <new.tns | infer -t none -m deep >alone.tns
    py <<'PY'
all, alone = read("all.tns"), read("alone.tns")
assert len(all) == 21 and all[7][0]["case"] == alone[0][0]["case"]
assert [(t["pred"].tobytes(), m["slice"]) for m, t in all[7:14]] == [(t["pred"].tobytes(), m["slice"]) for m, t in alone]
PY
    # a case of one slice, and one of fewer than the lag, in a row
    { blobs -p 1 -n 2 -1 21; blobs -p 1 -n 40 -1 22; blobs -p 1 -n 1 -1 20; } >short.tns
    for m in deep whole; do
        infer -t none -m $m <short.tns >p.tns
        py <<'PY'
assert [m["slice"] for m, _ in read("p.tns")] == [m["slice"] for m, _ in read("short.tns")]
PY
    done
}

@test "infer: what a stream of volumes takes is as planned, and fits the least ceiling that it names" {
    need_release "memory is measured"
    kept new.tns -m deep
    kept new.tns -P -t x -m deep -m flat
    kept new.tns -t x -m whole -m deep -m whole
    [ ! -e over ] || { cat over; return 1; }
    run -1 pipe 'infer -t none -M 5M -m deep <new.tns >p.tns'
    [[ $output == *"does not fit in 5 MiB (at least "* ]]
}

@test "infer: -b of volumes is nearly as good, as a stream and as a whole, whatever threads and ceiling" {
    need_command time
    for model in deep whole; do
        infer -t none -P -m $model <new.tns >exact.tns
        infer -b -t none -P -j 1 -m $model <new.tns >one.tns
        infer -b -t none -P -j 3 -m $model <new.tns >three.tns
        cmp one.tns three.tns
        kept new.tns -b -j 2 -m $model
        py <<'PY'
worst = max(np.abs(a["prob"] - b["prob"]).max() for (_, a), (_, b) in zip(read("exact.tns"), read("one.tns")))
assert 0 < worst < 10 * 2.0 ** -8, worst
PY
    done
    infer -b -t xy -m deep <new.tns >views.tns
    [ ! -s over ] || { cat over; return 1; }
}

@test "infer: mirrors and several models of volumes, planar ones among them, are averaged" {
    for m in deep short flat whole; do infer -t none -P -m $m <new.tns >$m.tns; done
    infer -t none -P -u -m deep -m short -m flat -m whole <new.tns >three.tns
    infer -P -t x -m deep <new.tns >x.tns
    py <<'PY'
one = [read(f"{m}.tns") for m in ("deep", "short", "flat", "whole")]
for i, (m, t) in enumerate(read("three.tns")):
    want = sum(o[i][1]["prob"] for o in one) / np.float32(4)
    assert (want == t["prob"]).all() and t["disagreement"].max() > 0
PY
    mirrored <new.tns | infer -t none -P -m deep >m.tns
    py <<'PY'
for (_, a), (_, b), (_, c) in zip(read("deep.tns"), read("m.tns"), read("x.tns")):
    assert np.abs((a["prob"] + b["prob"][..., ::-1]) / 2 - c["prob"]).max() < 1e-6
PY
}

@test "infer: a case waits in TMPDIR for its views, and no memory depends on its depth; where it cannot, the line says so" {
    mkdir there
    TMPDIR=$PWD/there infer -m deep <new.tns >p.tns
    [ -z "$(ls -A there)" ]
    run -1 pipe "TMPDIR=$PWD/none infer -m deep <new.tns >p.tns"
    [[ $output == "infer: $PWD/none: temporary file: No such file or directory" ]]
    TMPDIR=$PWD/none infer -m flat <new.tns >p.tns
    TMPDIR=$PWD/none infer -t none -m deep <new.tns >p.tns
    need_release "memory is measured"
    for n in 20 200; do
        blobs -p 1 -n $n -1 10 -d 24x33 >deep.tns
        command time -q -f %M -o took infer -m deep <deep.tns >p.tns
        kib+=("$(cat took)")
    done
    [ "${kib[1]}" -lt $((kib[0] + 512)) ] || { echo "KiB: ${kib[*]}" >&2; return 1; }
}

@test "infer: a case that is not whole, or not in order, is refused with the reason" {
    for case in "1,2,3,4,5,6|slice 1): the network sees beside a slice*(wanted 0 of 7, got 1 of 7)" \
        "0,1,3|slice 3): *(wanted 2 of 7, got 3 of 7)" \
        "0,1,1|slice 1): *(wanted 2 of 7, got 1 of 7)" \
        "0,1,2,3,4,5|the case ends behind slice 6 of 7" \
        "0,1,7|the case ends behind slice 2 of 7"; do
        picked "${case%%|*}" <new.tns >some.tns
        run -1 pipe 'infer -t none -m deep <some.tns >p.tns'
        [[ $output == infer:*${case##*|}* && $(wc -l <<<"$output") == 1 ]] || { echo "$output" >&2; return 1; }
        run -1 pipe 'dice <p.tns'
        infer -t none -m flat <some.tns >p.tns
    done
}

@test "infer: a stream that breaks off is an error, and what comes out of it does not pass for whole" {
    head -c $(($(stat -c %s new.tns) * 3 / 4)) new.tns >cut.tns
    run -1 pipe 'infer -t none -m deep <cut.tns >p.tns'
    run -1 pipe 'dice <p.tns'
    [[ $output == *"ended before the end record"* || $output == *"cut off"* ]]
}

@test "infer -n: says how many slices later a prediction comes, if the network sees volumes" {
    infer -t none -n -m deep | grep -qx $'lag\t6'
    infer -n -m deep | grep -qx $'lag\tcase'
    infer -n -m whole -m deep | grep -qx $'lag\tcase'
    infer -n -m flat >flat.txt
    run ! grep '^lag' flat.txt
}

@test "infer: -t z averages with what is found from the last slice to the first, of streams, of wholes and of neighbours" {
    # upside down: each case's slices in the reverse order, as slices 0, 1, ...
    upside_down() {
        PYTHONPATH=$ROOT/tests/lib PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -c '
import sys
from mkstream import parse, stream
parts = [(k, m, dict(t)) for k, _, m, t, _ in parse(sys.stdin.buffer.read())]
records, cases = [(dict(m), t) for k, m, t in parts if k == "R"], {}
for m, t in records:
    cases.setdefault(m["case"], []).append((m, t))
sys.stdout.buffer.write(stream(parts[0][1], [({**m, "slice": i}, t) for c in cases.values() for i, (m, t) in enumerate(reversed(c))]))'
    }
    printf '%s\n' 'network: flat.yaml' 'batch: 2' 'rate: 0.01' 'regions: none' 'ema: 0' 'neighbours: 1' >c.yaml
    epochs -b 0 -n 2 -N 1 train.tns | train -c c.yaml -o beside
    upside_down <new.tns >down.tns
    { cat new.tns; blobs -p 1 -n 12 -1 31 -d 24x33; } >more.tns # a deeper case is planned for anew
    for m in deep whole beside flat; do
        infer -t none -P -m $m <new.tns >up.p
        infer -t none -P -m $m <down.tns | upside_down >down.p
        [ $m != flat ] || { run -1 pipe 'infer -t z -m flat <new.tns >z.p'; [[ $output == *"infer: -t: z is for networks that see beside a slice, and flat sees none" ]]; continue; }
        infer -t z -P -j 1 -m $m <new.tns >z.p
        infer -t z -P -j 3 -m $m <more.tns >more.p
        py <<'PY'
a, b, z, more = (read(f) for f in ("up.p", "down.p", "z.p", "more.p"))
assert len(a) == len(z) == 21 and len(more) == 33
for (m, p), (n, q), (o, r), (_, s) in zip(a, b, z, more):
    assert m["slice"] == o["slice"] and m["case"] == n["case"] == o["case"]
    assert np.abs((p["prob"] + q["prob"]) / 2 - r["prob"]).max() < 1e-6 and (r["prob"] == s["prob"]).all()
assert any(np.abs(p["prob"] - r["prob"]).max() > 1e-4 for (_, p), (_, r) in zip(a, z))
assert read.header[-1].endswith(" -t z -P")
PY
    done
    # Of more slices than a case can have, nothing is planned.
    "$PYTHON" -c 'import sys
sys.path.insert(0, sys.argv[1] + "/tests/lib")
from mkstream import parse, stream
parts = [(k, m, dict(t)) for k, _, m, t, _ in parse(open("new.tns", "rb").read())]
open("long.tns", "wb").write(stream(parts[0][1], [({**dict(m), "slices": 2147483647}, t) for k, m, t in parts if k == "R"]))' "$ROOT"
    run -1 pipe "infer -t z -m whole <long.tns >long.p"
    [[ $output == *"slices: too many to hold a case (wanted at most 8192, got 2147483647)" ]]
    # With other axes and models, and what they disagree about: as each of them alone.
    for m in deep beside; do
        for t in none x; do
            infer -t $t -P -m $m <new.tns >$m.$t.up
            infer -t $t -P -m $m <down.tns | upside_down >$m.$t.down
        done
    done
    infer -t zx -P -u -m deep -m beside <new.tns >all.p
    infer -t zx -u -m deep -m beside <new.tns >plain.p
    py <<'PY'
alone = [[read(f"{m}.x.{w}") for w in ("up", "down")] for m in ("deep", "beside")]
h = lambda p: -(p * np.log(np.maximum(p, 1e-12))).sum(0) / np.log(len(p))
for i, ((_, t), (_, plain)) in enumerate(zip(read("all.p"), read("plain.p"))):
    each = [sum(r[i][1]["prob"].astype(float) for r in m) / 2 for m in alone]
    mean = sum(each) / 2
    assert np.abs(mean - t["prob"]).max() < 1e-5
    assert np.abs(np.maximum(h(mean) - sum(map(h, each)) / 2, 0) - t["disagreement"]).max() < 1e-4
    assert (t["pred"] == plain["pred"]).all() and (t["entropy"] == plain["entropy"]).all()
PY
    if [ "${CONFIG:-release}" = release ]; then kept more.tns -t xyz -u -m deep -m whole -m beside; fi
    [ ! -e over ] || { cat over; return 1; }
}
