# infer with mirrors (-t), several models (-m -m) and how sure they are (-u).
load ../lib/common
load ../lib/records
load ../lib/memory

# learn MODEL SETTINGS...: two passes over train.tns, so that nothing is certain yet.
learn() {
    printf '%s\n' "${@:2}" 'batch: 4' 'rate: 0.01' 'ema: 0' >c.yaml
    grep -q '^regions:' c.yaml || echo 'regions: none' >>c.yaml
    epochs -b 0 -n 2 "${from:-train.tns}" | train ${force-} -c c.yaml -o "$1"
}

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    "$PYTHON" -c 'import numpy' || return 0
    # Sides that 3 divides, beside those that 16 does.
    cat >three.yaml <<'YAML'
parameters: {inputs: 4, classes: 4}
network:
  - {op: input, channels: inputs}
  - {op: convolution, name: one, channels: 8, kernel: 3}
  - {op: relu, name: skip}
  - {op: max_pool, size: 3}
  - {op: convolution, name: two, channels: 8, kernel: 3}
  - {op: relu}
  - {op: nearest, name: up, factor: 3}
  - {op: concat, in: [skip, up]}
  - {op: head, name: head, channels: classes}
  - {op: loss}
YAML
    blobs -p 2 -n 4 >train.tns
    blobs -p 2 -n 4 -1 2 -m t2,t1gd,flair,t1 >other.tns
    learn one 'arch: unet' 'base: 2' 'seed: 1'
    learn two 'arch: attention' 'base: 2' 'seed: 2'
    from=other.tns learn three 'network: three.yaml'
    learn regions1 'arch: unet' 'base: 2' 'seed: 1' 'regions: wt=1,2,3;tc=1,3;et=3'
    learn regions2 'arch: unet' 'base: 2' 'seed: 2' 'regions: wt=1,2,3;tc=1,3;et=3'
    blobs -p 2 -n 3 -1 10 -d 40x33 -r >new.tns
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
    cp "$BATS_FILE_TMPDIR"/* .
}

# mirrored x|y|xy <STREAM: every image mirrored, by another implementation of the stream.
mirrored() {
    PYTHONPATH=$ROOT/tests/lib PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -c '
import sys, numpy as np
from mkstream import parse, stream
parts = [(k, m, dict(t)) for k, _, m, t, _ in parse(sys.stdin.buffer.read())]
for k, _, t in parts:
    if k == "R":
        y, x = ("y" in sys.argv[1]), ("x" in sys.argv[1])
        t["image"] = np.ascontiguousarray(t["image"][:, ::-1 if y else 1, ::-1 if x else 1])
sys.stdout.buffer.write(stream(parts[0][1], [(m, t) for k, m, t in parts if k == "R"]))' "$1"
}

@test "infer -t: the average of what it makes of mirrored slices, mirrored back" {
    for m in one three; do
        infer -t none -P -m $m <new.tns >as.tns
        for t in x y xy; do mirrored $t <new.tns | infer -t none -P -m $m >$t.tns; done
        for t in x y xy yx; do infer -P -t $t -m $m <new.tns >t$t.tns; done
        cmp txy.tns tyx.tns
        py <<'PY'
back = {"as": (1, 1), "x": (1, -1), "y": (-1, 1), "xy": (-1, -1)}
def of(view):
    y, x = back[view]
    return [t["prob"].astype(float)[:, ::y, ::x] for _, t in read(view + ".tns")]
sizes = set()
for t, views in ("x", ["as", "x"]), ("y", ["as", "y"]), ("xy", ["as", "x", "y", "xy"]):
    want = [sum(p) / len(views) for p in zip(*map(of, views))]
    apart = [abs(a - b).max() for a, b in zip(of("as"), of(t))]
    assert min(apart) > 1e-4, "a mirror changes nothing"
    got = [u for _, u in read(f"t{t}.tns")]
    for p, u in zip(want, got):
        sizes.add(u["pred"].shape)
        assert abs(p - u["prob"]).max() < 1e-6 and (u["pred"] == u["prob"].argmax(0)).all()
    assert read.header[-1].endswith(f" -t {t} -P")
assert len(sizes) > 3
PY
    done
}

@test "infer: several models average what each of them makes alone, in its own order of modalities and its own padding" {
    for m in one two three; do infer -t none -P -m $m <new.tns >$m.tns; done
    infer -t none -P -m one -m two -m three <new.tns >all.tns
    infer -t none -P -m one -m one <new.tns >twice.tns
    infer -t none -m one -m two -m three <new.tns >plain.tns
    py <<'PY'
alone = [read(m + ".tns") for m in ("one", "two", "three")]
names = [read.header[-1].split()[2] for m in ("one", "two", "three") if read(m + ".tns")]
got, plain, twice = read("all.tns"), read("plain.tns"), read("twice.tns")
assert all(abs(a[i][1]["prob"] - b[i][1]["prob"]).max() > 1e-3 for a in alone for b in alone if a is not b for i in range(6))
for i, (keys, t) in enumerate(got):
    want = sum(a[i][1]["prob"].astype(float) for a in alone) / 3
    assert abs(want - t["prob"]).max() < 1e-6
    assert (t["pred"] == t["prob"].argmax(0)).all() and (t["pred"] == plain[i][1]["pred"]).all() and "prob" not in plain[i][1]
    assert abs(twice[i][1]["prob"] - alone[0][i][1]["prob"]).max() < 1e-7
    assert (twice[i][1]["pred"] == alone[0][i][1]["pred"]).all()
read("all.tns")
assert read.header[-1] == "history=infer -m " + " -m ".join(names) + " -P", read.header[-1]
PY
    # Regions: the label of each that is likelier than not, one over the other.
    for m in 1 2; do infer -t none -P -m regions$m <new.tns >$m.tns; done
    infer -t none -P -m regions1 -m regions2 <new.tns >all.tns
    py <<'PY'
for (_, a), (_, b), (keys, t) in zip(read("1.tns"), read("2.tns"), read("all.tns")):
    p = (a["prob"].astype(float) + b["prob"]) / 2
    assert abs(p - t["prob"]).max() < 1e-6 and keys["regions"] == "wt=1,2,3;tc=1,3;et=3"
    want = np.zeros(t["pred"].shape, "u1")
    for k, label in enumerate((2, 1, 3)):
        want[t["prob"][k] > 0.5] = label
    assert (want == t["pred"]).all()
PY
}

@test "infer -u: entropy and disagreement are what their definitions make of the probabilities" {
    for models in "one two three" "regions1 regions2"; do
        for m in $models; do infer -P -t x -m $m <new.tns >$m.tns; done
        # shellcheck disable=SC2046
        infer -P -u -t x $(printf ' -m %s' $models) <new.tns >all.tns
        infer -u -t x $(printf ' -m %s' $models) <new.tns >plain.tns
        py $models <<'PY'
from math import log
regions = sys.argv[1].startswith("regions")
def entropy(p):  # 0 to 1
    h = lambda *q: -sum(x * log(x) for x in q if x > 0)
    return sum(h(x, 1 - x) for x in p) / len(p) / log(2) if regions else h(*p) / log(len(p))
alone, plain = [read(m + ".tns") for m in sys.argv[1:]], read("plain.tns")
greatest = [0, 0]
for i, (_, t) in enumerate(read("all.tns")):
    e, d = t["entropy"], t["disagreement"]
    assert e.dtype == d.dtype == np.float32 and e.shape == d.shape == t["pred"].shape
    assert 0 <= min(e.min(), d.min()) and max(e.max(), d.max()) <= 1
    assert (plain[i][1]["entropy"] == e).all() and (plain[i][1]["disagreement"] == d).all() and "prob" not in plain[i][1]
    for y, x in np.ndindex(*e.shape):
        members = [a[i][1]["prob"][:, y, x].tolist() for a in alone]
        mean = [sum(p) / len(p) for p in zip(*members)]
        whole = entropy(mean)
        apart = max(0, whole - sum(map(entropy, members)) / len(members))
        assert abs(e[y, x] - whole) < 3e-6 and abs(d[y, x] - apart) < 3e-6, (i, y, x, e[y, x], whole, d[y, x], apart)
        greatest = [max(greatest[0], whole), max(greatest[1], apart)]
assert greatest[0] > 0.5 and greatest[1] > 0.01, greatest
PY
    done
    # One model cannot disagree; whoever predicts again leaves nothing of an earlier prediction.
    infer -t none -m one <new.tns >plain.tns
    infer -t none -u -m one <new.tns >sure.tns
    infer -t none -P -u -m one -m two <new.tns | infer -t none -m one >again.tns
    py <<'PY'
for (_, a), (_, b), (_, c) in zip(read("plain.tns"), read("sure.tns"), read("again.tns")):
    assert set(b) - set(a) == {"entropy"} and (a["pred"] == b["pred"]).all()
    assert set(c) == set(a) and (c["pred"] == a["pred"]).all()
PY
}

@test "infer: averages are the same bytes for any threads, ceiling and company" {
    need_release "the engine takes its time"
    args="-P -u -t xy -m one -m three"
    infer $args -j 2 <new.tns >want.tns
    least new.tns $args
    for j in 1 2 3; do
        for m in "" "-M ${least}M" "-M $((least + 1))M"; do
            infer $args -j $j $m <new.tns >got.tns || infer $args -j $j -M "$((least + 2))M" <new.tns >got.tns
            cmp want.tns got.tns
        done
    done
    for i in 0 1; do
        blobs -p 1 -n 3 -1 $((10 + i)) -d 40x33 -r | infer $args >alone$i.tns
    done
    py <<'PY'
for (_, a), (_, b) in zip(read("alone0.tns") + read("alone1.tns"), read("want.tns")):
    assert all((a[k] == b[k]).all() for k in ("pred", "prob", "entropy", "disagreement"))
PY
}

@test "infer: with mirrors and several models it takes no more than it planned, nor than its ceiling" {
    need_release "it needs more memory"
    need_command time
    learn four 'arch: unet' 'base: 4'
    blobs -p 1 -n 9 -d 160x144 -x >s.tns
    kept s.tns -j 1 -t xy -m four
    kept s.tns -j 3 -u -m four -m one -m three
    kept s.tns -j 2 -P -u -t x -m three -m four
    # Where the weights are most of it, each model has its own; the maps lie in one memory.
    blobs -p 1 -n 1 -d 16x16 >few.tns
    from=few.tns learn wide 'arch: unet' 'base: 16'
    kept few.tns -j 1 -m wide -m wide -m wide
    # What comes before there is a network may be the most of it.
    cat >tiny.yaml <<'YAML'
network: [{op: input, channels: 4}, {op: head, name: head, channels: 4}, {op: loss}]
YAML
    from=few.tns learn tiny 'network: tiny.yaml'
    kept few.tns -j 1 -m tiny
    kept few.tns -j 1 -m tiny -m wide
    weights=$(($(stat -c %s wide) >> 20))
    least few.tns -j 1 -m wide
    alone=$least
    least few.tns -j 1 -m wide -m wide -m wide
    [ "$least" -ge $((alone + 2 * weights - 1)) ] && [ "$least" -le $((alone + 2 * weights + 4)) ] || { echo "$least MiB beside $alone"; false; }
    # OpenBLAS is there once, however many of them multiply matrices.
    from=few.tns learn products 'network: transunet' 'base: 2'
    kept few.tns -j 2 -m products -m products -m products
    least few.tns -j 2 -m products
    alone=$least
    least few.tns -j 2 -m products -m products -m products
    [ "$least" -le $((alone + 3)) ] || { echo "$least MiB beside $alone"; false; }
    [ ! -s over ] || { cat over; return 1; }
}

@test "infer: models of other contracts do not average, and the line says what differs between which two" {
    refused() { # WHAT MODEL
        run -1 --separate-stderr pipe "infer -t none -m one -m two -m $2 <new.tns >p.tns"
        [ "$stderr" = "infer: $2: $1" ] || { echo "$stderr"; false; }
        run -1 tnsview -c <p.tns
        run -1 --separate-stderr infer -n -m one -m $2
        [ "$stderr" = "infer: $2: $1" ]
    }
    another="another contract than that of one: "
    blobs -p 2 -n 2 -m flair,t1,t2 >d.tns
    from=d.tns learn less 'arch: unet' 'base: 1' 'channels: 3'
    refused "${another}wrong modalities (wanted flair,t1,t1gd,t2, got flair,t1,t2)" less
    blobs -p 2 -n 2 -k scheme=brats2023 >d.tns
    force=-F from=d.tns learn scheme 'arch: unet' 'base: 1'
    refused "${another}scheme (wanted canonical, got brats2023)" scheme
    blobs -p 2 -n 2 -c >d.tns
    from=d.tns learn five 'arch: unet' 'base: 1' 'classes: 5'
    refused "${another}classes (wanted 4, got 5)" five
    refused "${another}regions (wanted none, got wt=1,2,3;tc=1,3;et=3)" regions1
    blobs -p 2 -n 2 -k norm=slice >d.tns
    from=d.tns learn slice 'arch: unet' 'base: 1'
    why="prepared differently from one: key 'norm' differs (wanted case, got slice); -F lets that pass"
    refused "$why" slice
    infer -t none -F -m one -m slice <new.tns >p.tns
    run -1 --separate-stderr pipe "infer -t none -F -m one -m scheme <new.tns >p.tns"
    [ "$stderr" = "infer: scheme: ${another}scheme (wanted canonical, got brats2023)" ]
    for t in w xx xyx ""; do
        run -2 --separate-stderr pipe "infer -t '$t' -m one <new.tns >p.tns"
        [[ $stderr = "infer: -t: (wanted some of x, y and z, or none, got '$t')"* ]]
    done
}

@test "infer: of several models a patient was trained on whom any knows, under the name that it gave him" {
    blobs -p 5 -n 1 >five.tns
    PYTHONPATH=$ROOT/tests/lib PYTHONDONTWRITEBYTECODE=1 "$PYTHON" - >renamed.tns <<'PY'
import sys
from mkstream import parse, stream
parts = list(parse(open("other.tns", "rb").read())) # of whom only `three` knows
renamed = lambda m: [(k, "X" if (k, v) == ("patient", "P002") else v) for k, v in m]
sys.stdout.buffer.write(stream(parts[0][2], [(renamed(m), t) for k, _, m, t, _ in parts if k == "R"]))
PY
    infer -t none -m one -m three <five.tns >five
    run -0 --separate-stderr pipe "infer -t none -m one -m three <renamed.tns >renamed"
    [[ $stderr = *"patient X of the stream is P002 of the model's training"* ]]
    py <<'PY'
assert [m["trained"] for m, _ in read("five")] == ["yes", "yes", "yes", "yes", "no"]
assert {(m["patient"], m["trained"], m.get("trained_as")) for m, _ in read("renamed")} == {("X", "yes", "P002"), ("P003", "yes", None)}
PY
}

@test "infer -n: of several models it prints what holds for all" {
    infer -n -m one >alone
    infer -n -m one -m two -m three >all
    infer -n -m one -m one | uniq | cmp - alone
    [ "$(cut -f 1 all | uniq | tr '\n' ' ')" = "modalities scheme generator leaky prepared spacing patients step " ]
    [ "$(grep -c '^spacing' all)" = 3 ] # each says its own
    grep -vE '^(arch|parameters|network)' alone | cmp - <(uniq all)
}

@test "infer: which of several models was cut while it is in use is said" {
    need_release "the sanitizers have a word to say of signals"
    for which in one two three; do
        mkfifo pipe
        cp one two three ..
        infer -t none -m one -m two -m three <pipe >out 2>err &
        pid=$!
        exec 9>pipe
        until grep -q "$PWD/three" /proc/$pid/maps; do kill -0 $pid; done
        truncate -s 0 $which
        cat new.tns >&9 || true
        exec 9>&-
        status=0
        wait $pid || status=$?
        rm pipe
        [ $status = 1 ] && [ "$(wc -l <err)" = 1 ] || { echo "status $status, says $(cat err)"; false; }
        grep -q "^infer: $which: " err
        cp ../one ../two ../three .
    done
}
