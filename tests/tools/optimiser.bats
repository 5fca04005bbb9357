# What train makes of gradients and weights: steps, averages, deep supervision.
load ../lib/common
load ../lib/records

setup() {
    cd "$BATS_TEST_TMPDIR"
    export OMP_WAIT_POLICY=passive
    need_python numpy
    blobs -p 3 -n 4 -d 32x32 >train.tns
    blobs -p 2 -n 3 -1 10 -d 32x48 -e >val.tns
}

# Python from standard input, where tensors(FILE) are those of a model or a MODEL.last, by name.
weights() {
    PYTHONPATH="$ROOT/tests/lib" "$PYTHON" -c 'import json, struct, sys, numpy as np
def header(name):
    b = open(name, "rb").read()
    n = struct.unpack("<Q", b[:8])[0]
    return json.loads(b[8:8 + n]), b[8 + n:]
def tensors(name):
    h, b = header(name)
    h.pop("__metadata__")
    return {k: np.frombuffer(b[slice(*v["data_offsets"])], "f4").reshape(v["shape"]).astype("f8") for k, v in h.items()}
def model(t):
    return {k: v for k, v in t.items() if ":" not in k}
def trained(t):  # the weights that are trained, whether an average stands in their place or not
    return {k: t.get("w:" + k, v) for k, v in model(t).items()}
def furthest(a, b):
    assert a.keys() == b.keys() and len(a)
    return max(np.abs(a[k] - b[k]).max() / (np.abs(b[k]).max() + 1e-3) for k in a)
exec(sys.stdin.read())' "$@"
}

# paced NAME N: a run of N passes that stops behind each of them; NAME.K is what it was behind the K-th.
paced() {
    for k in $(seq "$2"); do
        train -r -x "$k" -c "$1.yaml" -e val.tns -o "$1" <e.tns
        cp "$1.last" "$1.$k"
    done
}

@test "optimiser: ema is the moving average of the weights after each step, running statistics among them" {
    # A step to a pass, so that each MODEL.last is one; 0.3 caps what the first steps keep from the third on.
    printf 'arch: unet\nbase: 2\nbatch: 12\nrate: 0.03\nema: 0\n' >none.yaml
    sed 's/^ema:.*/ema: 0.3/' none.yaml >ema.yaml
    epochs -b 0 -n 6 -s 1 train.tns >e.tns
    paced none 6
    paced ema 6
    weights <<'PY'
kept = lambda t: min(0.3, (1 + t) / (10 + t))
for k in range(1, 7):
    now, last = tensors(f"none.{k}"), tensors(f"ema.{k}")
    assert all((trained(last)[n] == v).all() for n, v in model(now).items()), "the average changes the training"
    average = model(now) if k == 1 else {n: kept(k - 1) * a + (1 - kept(k - 1)) * now[n] for n, a in average.items()}
    assert furthest(model(last), average) < 1e-6, (k, furthest(model(last), average))
assert "enc1.norm1.running_mean" in average and furthest(average, model(now)) > 1e-3
assert furthest(tensors("ema"), average) < 1e-6 and furthest(tensors("none"), model(now)) == 0
PY
}

@test "optimiser: average is the mean of the weights after each of the last passes" {
    printf 'arch: unet\nbase: 2\nbatch: 4\nrate: 0.03\nema: 0\n' >none.yaml
    sed 's/^ema:.*/average: 3/' none.yaml >mean.yaml
    epochs -b 0 -n 5 -s 1 train.tns >e.tns
    paced none 5
    paced mean 5
    weights <<'PY'
each = [model(tensors(f"none.{k}")) for k in range(1, 6)]
for k in range(1, 6):
    last = tensors(f"mean.{k}")
    assert all((trained(last)[n] == v).all() for n, v in each[k - 1].items()), "the average changes the training"
    of = each[2:k] or each[k - 1:k]
    mean = {n: sum(e[n] for e in of) / len(of) for n in of[0]}
    assert furthest(model(last), mean) < 1e-6, (k, furthest(model(last), mean))
    assert (k < 3) == (not any(n.startswith("w:") for n in last))
assert len(of) == 3 and furthest(tensors("mean"), mean) < 1e-6 and furthest(mean, each[-1]) > 1e-3
PY
}

@test "optimiser: what is validated, and what the model holds, is the average" {
    n=0
    for how in 'ema: 0.9' 'average: 4'; do
        for keep in last best; do
            printf 'arch: unet\nbase: 4\nbatch: 4\nrate: 0.02\nloss: ce\nregions: none\n%s\nkeep: %s\n' "$how" $keep >c.yaml
            epochs -b 0 -n 6 -s 1 train.tns | train -c c.yaml -e val.tns -o m$n
            infer -t none -P -m m$n <val.tns >p.tns
            # The cross-entropy of the model's probabilities is what the log says of its epoch.
            py m$n <<'PY'
import json, struct
b = open(sys.argv[1], "rb").read()
epoch = json.loads(b[8:8 + struct.unpack("<Q", b[:8])[0]])["__metadata__"]["epoch"]
log = [l.rstrip("\n").split("\t") for l in open(sys.argv[1] + ".tsv")]
said = float(next(l for l in log if l[0] == epoch)[log[0].index("val_loss")])
p = [-np.log(np.take_along_axis(t["prob"], t["label"][None].astype(int), 0)).mean() for _, t in read("p.tns")]
assert abs(np.mean(p) - said) < 1e-4 * said, (np.mean(p), said)
PY
            n=$((n + 1))
        done
    done
    [ $n = 4 ]
}

# A network without batch normalisation, whose dropout asks which sample of the step it is.
instances() {
    cat <<'Y'
parameters: {inputs: 4, classes: 4}
network:
  - {op: input, channels: inputs}
  - {op: convolution, name: a, channels: 8, kernel: 3}
  - {op: instance_norm, name: norm}
  - {op: leaky_relu}
  - {op: dropout, p: 0.3}
  - {op: convolution, name: b, channels: 8, kernel: 3}
  - {op: relu}
  - {op: head, name: head, channels: classes}
  - {op: loss}
Y
}

@test "optimiser: batches that are accumulated make the step of one as large" {
    instances >mine.yaml
    # Eleven slices: a batch of them all, or of four, four and three, each of which counts by its slices.
    blobs -p 1 -n 11 -d 32x32 >odd.tns
    epochs -b 0 -n 4 -s 1 odd.tns >e.tns
    for how in 'optimiser: sgd\nmomentum: 0.9' 'optimiser: sgd\nmomentum: 0.9\nclip: 0.05' 'optimiser: adamw\ndecay: 0.1'; do
        printf "network: mine.yaml\nrate: 0.05\ndice: sample\n$how\n" >c.yaml
        (cat c.yaml; echo 'batch: 11') >large.yaml
        (cat c.yaml; printf 'batch: 4\naccumulate: 3\n') >small.yaml
        (cat c.yaml; echo 'batch: 4') >alone.yaml
        rm -f large.last small.last alone.last large small alone
        for n in large small alone; do
            train -j 1 -c $n.yaml -o $n <e.tns
        done
        weights <<'PY'
large, small, alone = (tensors(n) for n in ("large", "small", "alone"))
assert furthest(small, large) < 1e-3 * furthest(alone, large), (furthest(small, large), furthest(alone, large))
PY
        paste <(cut -f 2,4 large.tsv) <(cut -f 2,4 small.tsv) | awk 'NR > 1 && ($1 != $3 || ($2 - $4) ^ 2 > 1e-9) { print; bad = 1 } END { exit bad }'
    done
    # What an epoch leaves over makes a step of its own: of six batches four, then two.
    epochs -b 0 -n 4 -s 1 train.tns >e.tns
    (cat c.yaml; printf 'batch: 2\naccumulate: 4\n') >rest.yaml
    train -c rest.yaml -o rest <e.tns 2>said
    [ "$(cut -f 2 rest.tsv | xargs)" = "step 2 4 6 8" ]
    grep -q ' 8 steps of 8 slices up to ' said
    # It is the same for any number of threads.
    train -j 3 -c rest.yaml -o again <e.tns
    cmp rest again
}

@test "optimiser: with precision bf16 steps are nearly those of f32, the same bytes for any threads" {
    for precision in f32 bf16; do
        printf '%s\n' 'arch: attention' 'base: 8' 'batch: 4' 'optimiser: sgd' 'momentum: 0' 'rate: 0.05' 'ema: 0' "precision: $precision" >$precision.yaml
        epochs -b 0 -n 1 train.tns | train -j 2 -c $precision.yaml -o $precision
    done
    epochs -b 0 -n 1 train.tns | train -j 1 -c bf16.yaml -o one
    cmp bf16 one
    sed 's/rate: .*/rate: 0/' f32.yaml >zero.yaml
    epochs -b 0 -n 1 train.tns | train -c zero.yaml -o zero
    weights <<'PY'
zero, first, other = (trained(model(tensors(m))) for m in ("zero", "f32", "bf16"))
for k in "head.weight", "dec1.conv2.weight", "dec1.conv1.weight":  # below, of four pixels, it is noise in 8 bits
    step, apart = (np.linalg.norm(first[k] - x[k]) for x in (zero, other))
    assert 0 < apart < 0.2 * step, (k, apart, step)
PY
    epochs -b 0 -n 2 train.tns | train -c bf16.yaml -r -o one
}

@test "optimiser: an average and a gradient that is added up are planned for" {
    printf 'arch: unet\nbase: 16\nbatch: 2\nsize: 64x64\noptimiser: sgd\nmomentum: 0\nema: 0\n' >c.yaml
    mib() { train -n -c "${2-c.yaml}" </dev/null | sed -n "s/.*$1 \([0-9.]*\).*/\1/p"; }
    weights=$(mib parameters)
    [ "$(mib gradients)" = 0.0 ]
    for how in 'ema: 0.99' 'average: 3'; do
        sed "s/^ema:.*/$how/" c.yaml >a.yaml
        # Once more as much, to a rounding.
        awk -v a="$weights" -v b="$(mib parameters a.yaml)" 'BEGIN { exit !((b - 2 * a) ^ 2 <= 0.15 ^ 2) }'
    done
    for clip in 0 1; do
        printf 'accumulate: 2\nclip: %s\n' $clip >>c.yaml
        awk -v a="$weights" -v b="$(mib gradients)" 'BEGIN { exit !(a > 7 && a - b >= 0 && a - b < 0.2) }'
        sed -i '$d' c.yaml
        sed -i '$d' c.yaml
    done
}

@test "optimiser: deep supervision is heads at the lower resolutions, of weights 1, 1/2, 1/4, and a setting" {
    epochs -b 0 -n 3 -s 1 train.tns >e.tns
    for a in unet attention residual; do
        # Without it the network is the one that the text is without those lines, ...
        sed '/when: deep_supervision/d; s/, deep_supervision: 0//; s/weight: 1 - .* 7}/weight: 1}/' "$ROOT/pipelines/networks/$a.yaml" >plain.yaml
        (! grep -q deep plain.yaml) && sed -i '$d' plain.yaml && echo '  - {op: loss}' >>plain.yaml
        # ... with it the one whose text has them in numbers.
        sed '$d' plain.yaml >deep.yaml
        cat >>deep.yaml <<'Y'
  - {op: loss, weight: 4 / 7}
  - {op: head, name: head2, in: dec2, channels: classes}
  - {op: loss, weight: 2 / 7}
  - {op: head, name: head3, in: dec3, channels: classes}
  - {op: loss, weight: 1 / 7}
Y
        for n in plain deep; do
            printf "network: $n.yaml\nbase: 2\nbatch: 4\n$PLAIN" >$n.c.yaml
            train -c $n.c.yaml -o $n <e.tns
        done
        for n in false true; do
            printf "network: $a\nbase: 2\nbatch: 4\ndeep_supervision: $n\n$PLAIN" >$n.c.yaml
            train -c $n.c.yaml -o $n <e.tns
        done
        printf "network: $a\nbase: 2\nbatch: 4\n$PLAIN" >unsaid.c.yaml
        train -c unsaid.c.yaml -o unsaid <e.tns
        weights <<'PY'
bytes = lambda n: {k: v.tobytes() for k, v in tensors(n).items()}
assert bytes("plain") == bytes("false") == bytes("unsaid")
assert bytes("deep") == bytes("true") and {"head2.weight", "head3.weight"} <= bytes("true").keys()
assert tensors("true")["head.weight"].tobytes() != tensors("false")["head.weight"].tobytes()
assert header("unsaid")[0]["__metadata__"]["parameters"] == "base=2"
PY
        rm -f plain* deep* true* false* unsaid*
    done
    # nnU-Net's network has it unless it is told not to.
    for n in true false; do
        printf "network: nnunet2d\nbase: 2\nsize: 64x64\ndeep_supervision: $n\n" >c.yaml
        train -n -c c.yaml </dev/null | grep -c ' head ' >>heads
    done
    [ "$(xargs <heads)" = "4 1" ]
}

@test "optimiser: the heads of deep supervision take no part in use" {
    printf "network: unet\nbase: 2\nbatch: 4\ndeep_supervision: true\n" >c.yaml
    epochs -b 0 -n 1 train.tns | train -c c.yaml -o m
    infer -t none -P -H -m m <val.tns >now.tns
    # Other weights there, as large as they come: nobody notices.
    weights <<'PY'
h, b = header("m")
b = bytearray(b)
h["__metadata__"].pop("xxh3")
spoilt = [v["data_offsets"] for k, v in h.items() if k.startswith(("head2.", "head3."))]
for at, end in spoilt:
    b[at:end] = struct.pack("<f", 1e38) * ((end - at) // 4)
assert len(spoilt) == 4
t = json.dumps(h).encode()
t += b" " * (-len(t) % 64 + 56)
open("bad", "wb").write(struct.pack("<Q", len(t)) + t + b)
PY
    infer -t none -P -H -m bad <val.tns | cmp - now.tns
}

@test "optimiser: the recipes of SGD and AdamW are stable at batches of 2 to 16" {
    phantom -n 2 -d 32x32x16 -s 3 -o raw
    nii2slices -t raw/*/ | recode -s brats2017 | znorm >p.tns
    n=0
    while read -r recipe; do
        for batch in 2 4 16; do
            printf "network: unet\nbase: 4\nbatch: $batch\nregions: none\n$recipe\n" >c.yaml
            epochs -b 0 -n $((2 * batch + 4)) -s $batch p.tns | train -c c.yaml -o r$n.$batch
            # Some forty steps; finite at each pass, never above the first, at last well below it.
            awk -F'\t' -v what="$recipe batch $batch" 'NR == 2 { first = $4 } NR > 1 && !($4 > 0 && $4 <= first) { bad = 1 } { all = all " " $4 }
                END { if (bad || NR < 9 || !($4 < 0.9 * first)) { print what, all; exit 1 } }' r$n.$batch.tsv
        done
        n=$((n + 1))
    done <<'E'
optimiser: sgd\nrate: 0.01\nmomentum: 0.99\ndecay: 3e-5\nschedule: polynomial\nclip: 12
optimiser: adamw\nrate: 0.003\ndecay: 0.01\nschedule: cosine\nwarmup: 8\nclip: 1\nema: 0.99
E
    [ $n = 2 ]
}
