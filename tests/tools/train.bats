load ../lib/common

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    need_python numpy
    blobs -p 3 -n 4 -d 32x32 >train.tns
    blobs -p 2 -n 3 -1 10 -d 32x48 -e >val.tns
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    export OMP_WAIT_POLICY=passive
    ln "$BATS_FILE_TMPDIR"/*.tns .
    printf 'arch: unet\nbase: 4\nbatch: 5\nrate: 0.01\n' >c.yaml
}

# A key of a model's metadata.
meta() { # FILE KEY
    "$PYTHON" - "$@" <<'PY'
import json, struct, sys
b = open(sys.argv[1], "rb").read()
print(json.loads(b[8:8 + struct.unpack("<Q", b[:8])[0]])["__metadata__"].get(sys.argv[2], "-"))
PY
}

@test "train: a network that may learn four slices by heart does" {
    blobs -p 1 -n 4 -d 48x48 >four.tns
    printf "arch: unet\nbase: 8\nbatch: 4\nrate: 0.01\n$PLAIN" >c.yaml
    epochs -b 0 -n 60 four.tns | train -j 1 -c c.yaml -o m -e four.tns -L
    # Chance is 1 - mean Dice = 0.75 and a cross-entropy of log 4 = 1.39; by heart, both come near 0. (How
    # near after so few steps hangs on rounding: 0.27 to 0.33.)
    awk 'NR == 2 { first = $4 } END { exit !(first > 1 && $4 < 0.5 && $6 > 0.9) }' m.tsv
    infer -t none -m m <four.tns | dice -L >d.tsv
    awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i } $c["part"] == "WT" && $c["dice"] < 0.9 { bad = 1 } END { exit bad }' d.tsv || { cat d.tsv; false; }
}

@test "train: attention and residual networks learn too" {
    blobs -p 1 -n 4 -d 32x32 >four.tns
    for arch in attention residual; do
        printf "arch: $arch\nbase: 8\nbatch: 4\nrate: 0.01\n$PLAIN" >c.yaml
        epochs -b 0 -n 60 four.tns | train -j 1 -c c.yaml -o $arch
        awk -v a=$arch 'NR == 2 { first = $4 } END { if (!(first > 1 && $4 < 0.4)) { print a, first, $4; exit 1 } }' $arch.tsv
        infer -t none -m $arch <four.tns | dice >/dev/null
    done
}

@test "train: any number of threads gives the same model and the same log" {
    for j in 1 2 3; do
        epochs -b 0 -n 3 -s 1 train.tns | augment noise@1 | train -j $j -c c.yaml -e val.tns -o m$j 2>said$j
    done
    grep -q ', 1 thread, ' said1
    grep -q ', 2 threads, ' said2
    cmp m1 m2
    cmp m1 m3
    cmp m1.last m3.last
    diff <(cut -f 1-19 m1.tsv) <(cut -f 1-19 m2.tsv)
    # Without -j those that were asked for otherwise, or the cores of the process.
    epochs -b 0 -n 1 train.tns >one.tns
    OMP_NUM_THREADS=3 train -c c.yaml -o asked <one.tns 2>said
    grep -q ', 3 threads, ' said
    env -u OMP_NUM_THREADS taskset -c "$(taskset -cp $$ | sed 's/.*: \([0-9]*\).*/\1/')" train -c c.yaml -o mine <one.tns 2>said
    grep -q ', 1 thread, ' said
}

@test "train: fed by class and patient with short epochs of windows, a run that paused goes on to the same model" {
    feed() {
        epochs -n 4 -s 1 -l 10 -p -b 0.4 -c "$@" train.tns |
            augment -s 1 -j 3 -w 24x24 -f 0.5 rotate@0.5 stretch@0.5 shift@1 cutout@0.5
    }
    feed | train -v -c c.yaml -e val.tns -o whole 2>err
    # Windows are planned for, and how long it waited is told.
    grep -qE 'steps of 5 slices up to 32x32' err
    grep -qE '^train: waited for the stream [0-9]+\.[0-9] s of [0-9]+\.[0-9]$' err
    feed | train -x 2 -c c.yaml -e val.tns -o half
    feed -k 20 | train -r -c c.yaml -e val.tns -o half
    cmp half whole
    diff <(cut -f 1-19 half.tsv) <(cut -f 1-19 whole.tsv)
}

@test "train: killed at any moment and continued, the model is that of a run left alone" {
    for arch in unet residual ema average; do
        printf 'base: 4\nbatch: 5\nrate: 0.01\ncheckpoint: 0.0001\n' >c.yaml
        case $arch in
        unet) echo 'arch: unet' ;;
        residual) printf 'arch: residual\ndropout: 0.2\n' ;;
        ema) printf 'arch: unet\naccumulate: 2\nema: 0.9\npatience: 9\n' ;;
        average) printf 'arch: unet\naverage: 3\n' ;;
        esac >>c.yaml
        epochs -b 0 -n 5 -s 1 train.tns | train -c c.yaml -e val.tns -o whole-$arch
        # Killed as soon as the checkpoint has changed n times, for n = 1, 2, ...: each time a little
        # further, sometimes while a file is written. What is left over begins again.
        for try in 1 2 3 4 5 6; do
            mkfifo pipe$try
            epochs -b 0 -n 5 -s 1 train.tns >pipe$try &
            train -r -j $((try % 2 + 1)) -c c.yaml -e val.tns -o part-$arch <pipe$try 2>err$try &
            pid=$!
            seen=0
            while [ $seen -lt 2 ] && kill -0 $pid 2>/dev/null; do
                [ part-$arch.last -ef before ] || { ln -f part-$arch.last before 2>/dev/null && seen=$((seen + 1)); }
                pause 0.002
            done
            kill -9 $pid 2>/dev/null || true
            wait $pid || true
            wait
            rm pipe$try
        done
        epochs -b 0 -n 5 -s 1 train.tns | train -r -c c.yaml -e val.tns -o part-$arch
        cmp whole-$arch part-$arch
        diff <(cut -f 1-19 whole-$arch.tsv) <(cut -f 1-19 part-$arch.tsv)
    done
}

@test "train: killed again and again at random moments and continued, the model is that of a run left alone" {
    printf 'arch: residual\nbase: 4\nbatch: 5\nrate: 0.01\ndropout: 0.2\ncheckpoint: 0.0001\n' >c.yaml
    epochs -b 0 -n 6 -s 1 train.tns >all.tns
    "$PYTHON" - ${LONG:+100} <<'PY' >&3
import os, random, subprocess, sys, time
kills, random = int(sys.argv[1]) if len(sys.argv) > 1 else 5, random.Random(1)
# The search for leaks clones a helper that holds the lock for a moment after its process was killed.
env = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
def begin(out, more=()):
    return subprocess.Popen(["train", *more, "-j", str(random.randint(1, 3)), "-c", "c.yaml", "-e", "val.tns", "-o", out],
                            stdin=open("all.tns"), stderr=open("err", "w"), env=env)
def log(name):
    return [l.split("\t")[:19] for l in open(name + ".tsv")]
t = time.monotonic()
assert begin("whole").wait() == 0
t, whole, done, runs, torn, left = time.monotonic() - t, open("whole", "rb").read(), 0, 0, 0, set()
while done < kills or os.path.exists("part.last"):
    p = begin("part", ["-r"])
    try:
        p.wait(random.uniform(0, t / 3) if done < kills else None)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
        done += 1
        now = {f for f in os.listdir(".") if f.startswith(".part")}
        torn += bool(now - left)
        left = now
        continue
    assert p.returncode == 0, open("err").read()
    assert not any(f.startswith(".part") for f in os.listdir(".")), "a killed run's file was not cleared away"
    assert open("part", "rb").read() == whole and log("part") == log("whole")
    runs += 1
    for f in os.listdir("."):
        if f.startswith("part"):
            os.remove(f)
print(f"# {done} kills, {torn} of them with a file half written, {runs} runs of the same bytes")
PY
}

@test "train: SIGTERM leaves a checkpoint, and epochs -k continues from it" {
    printf 'arch: unet\nbase: 4\nbatch: 4\nrate: 0.01\n' >c.yaml
    epochs -b 0 -n 4 -s 1 train.tns | train -c c.yaml -o whole
    mkfifo pipe
    # Eight records of the second epoch and no more: train waits for the ninth when the signal comes.
    epochs -b 0 -n 4 -s 1 train.tns >all.tns
    (cat all.tns; exec sleep 60) >pipe &
    feeder=$!
    train -c c.yaml -o part <pipe 2>err &
    pid=$!
    until [ -e part.last ]; do kill -0 $pid && pause; done
    kill -TERM $pid
    wait $pid || true # in this shell, whose child it is: two must not hold the model
    kill $feeder 2>/dev/null || true
    [ -e part.last ]
    at=$(meta part.last run.position)
    epochs -b 0 -n 4 -s 1 -k "$at" train.tns | train -r -c c.yaml -o part
    cmp whole part
    # Continued once more, a run that is over stays what it is.
    epochs -b 0 -n 4 -s 1 train.tns | train -r -c c.yaml -o part
    cmp whole part
    epochs -b 0 -n 4 -s 1 -k 48 train.tns | train -r -c c.yaml -o part
    cmp whole part
}

@test "train: the stream is cut, so there is no model, and the run can be continued" {
    epochs -b 0 -n 3 -s 1 train.tns >all.tns
    train -c c.yaml -o whole <all.tns
    head -c $(($(stat -c %s all.tns) * 3 / 4)) all.tns >cut.tns
    run -1 train -c c.yaml -o m <cut.tns
    [[ ${lines[-1]} == *"cut off"* ]]
    [ ! -e m ]
    run -1 train -c c.yaml -o m <all.tns
    [[ ${lines[-1]} == *"m.last: a run that is not finished (-r continues it"* ]]
    train -r -c c.yaml -o m <all.tns
    cmp whole m
}

@test "train: -r refuses other settings, another stream and a gap" {
    epochs -b 0 -n 2 -s 1 train.tns | train -c c.yaml -o m
    # What came later and is not asked for is not named: a run of before goes on.
    [[ $(meta m config) != *groups* && $(meta m config) != *gradients* ]]
    rm m
    printf 'arch: unet\nbase: 4\nbatch: 5\nrate: 0.02\n' >d.yaml
    run -1 pipe 'epochs -b 0 -n 2 -s 1 train.tns | train -r -c d.yaml -o m'
    [[ $output == *"another configuration than that of the run so far (wanted 'rate: 0.01', got 'rate: 0.02')"* ]]
    run -1 pipe 'epochs -b 0 -n 2 -s 3 train.tns | train -r -c c.yaml -o m'
    [[ $output == *"another history of the stream"*"(wanted 'epochs -n 2 -s 1', got 'epochs -n 2 -s 3')"* ]]
    # A run of when epochs took slices as they come.
    run -1 pipe 'epochs -n 2 -s 1 train.tns | train -r -c c.yaml -o m'
    [[ $output == *"(wanted 'epochs -n 2 -s 1', got 'epochs -n 2 -s 1 -b "*"'; epochs -b 0 takes slices as they come)"* ]]
    run -1 pipe 'epochs -b 0 -n 2 -s 1 -k 5 train.tns | train -c c.yaml -o n'
    [[ $output == *"records are missing (wanted record 0 of epoch 0, got 5 of 0)"* ]]
    run -1 pipe 'train -c c.yaml -o o <train.tns'
    [[ $output == *"no key 'epoch' (wanted a stream of epochs(1))"* ]]
}

@test "train: -r refuses a -M under which other maps are narrowed, and takes any other" {
    blobs -p 2 -n 4 -d 64x64 >t.tns
    epochs -b 0 -n 2 t.tns >e.tns
    printf "arch: unet\nbase: 8\nbatch: 4\n$PLAIN" >c.yaml
    cut=$(($(stat -c %s e.tns) * 7 / 10))
    train -c c.yaml -o whole <e.tns
    run -1 train -n -M 1M -c c.yaml -o m <e.tns
    least=$(sed -n 's/.*(at least \([0-9]*\) MiB.*/\1/p' <<<"$output")
    begun() { # the stream stops in its second epoch, once the first has left its checkpoint
        head -c $cut e.tns
        timeout 60 bash -c 'until [ -e m.last ]; do :; done'
    }
    begun | run -1 train -c c.yaml -o m
    run -1 --separate-stderr train -r -M "${least}M" -c c.yaml -o m <e.tns
    [[ $stderr = *"train: -r: the run so far kept other things as bf16 to fit its memory; give the -M that it had (wanted nothing, got "* ]]
    train -r -M 1G -c c.yaml -o m <e.tns
    cmp m whole
    rm m*
    begun | run -1 train -M "${least}M" -c c.yaml -o m
    run -1 --separate-stderr train -r -c c.yaml -o m <e.tns
    [[ $stderr = *"give the -M that it had (wanted "*", got nothing)"* ]]
}

@test "train: a patient on both sides is named at once, -L lets it pass and the model says so" {
    cat val.tns train.tns >both.tns
    run -1 pipe 'epochs -b 0 -n 1 both.tns | train -c c.yaml -e val.tns -o m'
    [[ $output == *"patient P010 of the training stream is P010 of the validation stream: the same name (and 1 more); -L lets that pass"* ]]
    [ ! -e m.last ]
    # Without the list in the header the record itself tells.
    epochs -b 0 -n 1 -H both.tns >e.tns
    "$PYTHON" - <<'PY'
import struct, zlib
b = bytearray(open("e.tns", "rb").read())
n = struct.unpack_from("<I", b, 12)[0]
text = bytes(b[64:64 + n]).replace(b"patients=", b"x-others=")
b[64:64 + n] = text
struct.pack_into("<I", b, 20, zlib.crc32(b[64:64 + (n + 63) // 64 * 64]))
struct.pack_into("<I", b, 60, zlib.crc32(b[:60]))
open("e.tns", "wb").write(b)
PY
    run -1 pipe 'train -c c.yaml -e val.tns -o m <e.tns'
    [[ $output == *"patient P01"*" of the validation stream: the same name; -L lets that pass"* ]]
    rm -f m.last
    epochs -b 0 -n 1 both.tns | train -L -c c.yaml -e val.tns -o m
    [ "$(meta m leaky)" = yes ]
    epochs -b 0 -n 1 train.tns | train -L -c c.yaml -e val.tns -o clean
    [ "$(meta clean leaky)" = no ]
}

@test "train: the model says what a reader asks" {
    epochs -b 0 -n 2 -s 7 train.tns | augment -s 2 noise | train -s 5 -c c.yaml -e val.tns -o m
    [ "$(meta m patients)" = $'P000\nP001\nP002' ]
    [ "$(meta m validated)" = $'P010\nP011' ]
    [ "$(meta m history)" = $'nii2slices\nznorm -p case\nepochs -n 2 -s 7\naugment -s 2 noise=0:0.1@0.1' ]
    [ "$(meta m steps)" = "znorm -p case" ]
    [ "$(meta m modalities)" = flair,t1,t1gd,t2 ]
    [ "$(meta m seed)" = 5 ]
    [ "$(meta m scheme)" = canonical ]
    [[ "$(meta m config)" == *"base: 4"*"rate: 0.01"* ]]
    [[ "$(meta m epoch)" == [01] ]]
    # The settings in the model are a file that gives the run again.
    meta m config >again.yaml
    epochs -b 0 -n 2 -s 7 train.tns | augment -s 2 noise | train -c again.yaml -e val.tns -o again
    cmp m again
}

@test "train: ragged slices are padded, and padding is out of the loss" {
    blobs -p 3 -n 4 -d 48x40 -r >ragged.tns
    epochs -b 0 -n 2 ragged.tns | train -c c.yaml -e ragged.tns -L -o m
    # One slice of 17x33, and the same in a canvas of 32x48 whose rest is unlabelled, are one batch of
    # the same size to the network; the first is padded by train.
    printf 'arch: unet\nbase: 4\nbatch: 1\nsize: 64x64\n' >one.yaml
    epochs -b 0 -n 1 ragged.tns | train -c one.yaml -o n
    printf 'arch: unet\nbase: 4\nsize: 32x32\n' >small.yaml
    run -1 pipe 'epochs -b 0 -n 1 ragged.tns | train -c small.yaml -o o'
    [[ $output == *"larger than planned (wanted at most 32 by 32, got "*"crop with -s 32x32"* ]]
}

@test "train: settings that are wrong are told with file and line" {
    try() { # TEXT MESSAGE
        printf -- "$1" >w.yaml
        run -1 pipe 'epochs -b 0 -n 1 train.tns | train -c w.yaml -o m'
        [[ $output == *"train: w.yaml:$2"* ]] || { echo "$output" >&2; return 1; }
    }
    try 'arch: unet\nbase: 4\nbatsh: 2\n' "3: unknown setting 'batsh' (is 'batch' meant?)"
    try 'base: 4\nlr: 0.1\n' "2: unknown setting 'lr' (wanted rate)"
    try 'Batch_Size: 4\n' "1: unknown setting 'Batch_Size' (wanted batch)"
    try 'epochs: 4\n' "1: unknown setting 'epochs' (wanted epochs -n, which sends so many passes)"
    try 'arch: unet\n\nbase: 0\n' "3: base: (wanted a whole number from 1 to 256, got '0')"
    try 'arch: unet\nbase: 4.5\n' "2: base: (wanted a whole number"
    try 'arch: unett\nbase: 4\n' " unknown network 'unett' (is 'unet' meant?)"
    try 'arch: unet\nbase: 4\nrate: fast\n' "3: rate: (wanted a number"
    try 'arch: unet\nbase: 4\narch: unet\n' "3: 'arch' stands twice (first on line 1)"
    try 'arch: [unet]\n' "1: arch: (wanted a plain value)"
    try '- unet\n' "1: (wanted settings: name: value)"
    try '' "1: empty"
    try 'arch: unet\nbase: "4\n' "3: not YAML: "
    try 'arch: unet\nbase: 4\nsize: 32\n' "3: size: (wanted HEIGHTxWIDTH"
    try 'arch: unet\nbase: 4\nsize: 40x32\n' " size: (wanted multiples of 16x16, got 40x32)"
    try 'arch: unet\nbase: 4\nkeep: last\npatience: 3\n' " patience waits for a best epoch (keep is last)"
    try 'arch: unet\nbase: 4\n---\na: b\n' "3: a second document"
    try 'arch: unet\nbase: 4\npatience: 3\n' " patience waits for a better score (wanted -e)"
    try 'arch: unet\nema: 1\n' "2: ema: (wanted a number from 0 to 0.999999, got '1')"
    try 'arch: unet\nema: 0.99\naverage: 2\n' " both ema and average (wanted one of them)"
    try 'arch: unet\npatience: 2\naverage: 2\n' " average is of the last passes, and with patience nobody knows which"
    try 'arch: unet\naverage: 2\n' " average: more passes than the stream has (wanted at most 1, got 2)"
    try 'arch: unet\naccumulate: 0\n' "2: accumulate: (wanted a whole number from 1 to 1000, got '0')"
    try 'arch: unet\ndeep_supervision: some\n' "2: deep_supervision: (wanted one of false, true, got 'some')"
    u='arch: unet\nbase: 4\n'
    try "${u}loss: bce\n" "3: loss: (wanted one of dice, dice+ce, ce, dice+focal, focal, got 'bce')"
    try "${u}loss: ce\ndice: sample\n" " dice is of Dice, which the loss is without (loss is ce)"
    try "${u}loss: focal\nbackground: false\n" " background is of Dice, which the loss is without (loss is focal)"
    try "${u}loss: ce\nsquared: true\n" " squared is of Dice, which the loss is without (loss is ce)"
    try "${u}gamma: 1\n" " gamma is the focal loss's alone (loss is dice+ce)"
    try "${u}loss: dice\nclass_weights: [1, 1, 1, 1]\n" " class_weights are of cross-entropy and focal loss (loss is dice)"
    try "${u}regions: none\nclass_weights: [1, 2]\n" " class_weights: (wanted 4 numbers, one for each class, got 2)"
    try "${u}class_weights: [1, 2]\n" " class_weights: (wanted 3 numbers, one for each region, got 2; regions: none has classes)"
    try "${u}class_weights: [0, 0, 0]\n" " class_weights: (wanted one above 0)"
    try "${u}class_weights: [1, -2]\n" "3: class_weights: (wanted a number from 0 to 1e+06, got '-2')"
    try "${u}class_weights: 3\n" "3: class_weights: (wanted a list of numbers: [1, 2])"
    try "${u}regions: wt=1,2,3;tc=1,4\n" " regions: region 'tc': (wanted labels from 1 to 3, got '4')"
    try "${u}regions: wt=1,2,3\n" " regions: region 'wt': more than one of its labels is in no later region: which does it paint? (wanted :LABEL behind it)"
    try "${u}regions: wt=1,2,3:2\nbackground: false\n" " background is of classes; among regions it is none"
    try "${u}regions: wt=1,2,3:2\nclass_weights: [1, 1]\n" " class_weights: (wanted 1 numbers, one for each region, got 2)"
    run -1 pipe 'epochs -b 0 -n 1 train.tns | train -c none.yaml -o m'
    [[ $output == *"none.yaml: No such file"* ]]
    printf 'parameters: {inputs: 4, classes: 4}\nnetwork:\n  - {op: input, channels: inputs}\n  - {op: head, name: head, channels: classes}\n  - {op: loss}\n' >flat.yaml
    printf 'network: flat.yaml\ndeep_supervision: true\n' >w.yaml
    run -1 --separate-stderr pipe 'epochs -b 0 -n 1 train.tns | train -c w.yaml -o m'
    [ "$stderr" = "train: flat.yaml:1: no parameter 'deep_supervision' (is 'inputs' meant?)" ]
}

@test "train: every loss learns, gives the same bytes for any threads, and is what the model tells" {
    blobs -p 1 -n 4 -d 32x32 >four.tns
    n=0
    while read -r settings; do
        printf 'arch: unet\nbase: 4\nbatch: 4\nrate: 0.01\nema: 0\nkeep: best\n%b\n' "$settings" >c$n.yaml
        epochs -b 0 -n 18 four.tns | train -j 1 -c c$n.yaml -e four.tns -L -o m$n
        awk -v what="$settings" 'NR == 2 { first = $4 } END { if (!($4 < 0.9 * first && $5 == $5 + 0)) { print what, first, $4; exit 1 } }' m$n.tsv
        # Threads are worth no number, and what the model says of its settings makes it again: a few steps tell.
        meta m$n config >again.yaml
        epochs -b 0 -n 4 four.tns | train -j 1 -c c$n.yaml -o m$n.1
        epochs -b 0 -n 4 four.tns | train -j 3 -c again.yaml -o m$n.3
        cmp m$n.1 m$n.3
        n=$((n + 1))
    done <<'E'
loss: dice\ndice: sample\nregions: none
loss: dice\nbackground: false
loss: dice\nsquared: true\nregions: none
loss: ce\nregions: none
loss: ce\nclass_weights: [0.2, 1, 1, 2.5]\nregions: none
loss: focal\ngamma: 1.5\nregions: none
loss: dice+focal\nregions: none
regions: wt=1,2,3;tc=1,3;et=3
loss: dice+focal\nregions: wt=1,2,3;tc=1,3;et=3\nclass_weights: [1, 2, 1]\ndice: sample
E
    [ $n = 9 ]
    # A loss is a loss of its own: no two of them make the same weights.
    [ "$(for i in 0 1 2 3 4 5 6; do infer -t none -P -m m$i <four.tns | tail -c +2000 | cksum; done | sort -u | wc -l)" = 7 ]
}

@test "train: with regions as targets, infer paints labels by their rule, and dice scores their probabilities" {
    blobs -p 1 -n 4 -d 48x48 -c >four.tns
    printf 'arch: unet\nbase: 8\nbatch: 4\nrate: 0.03\nclasses: 5\nema: 0\nkeep: best\nregions: wt=1,2,3;tc=1,3;et=3;rc=4\n' >r.yaml
    epochs -b 0 -n 60 four.tns | train -j 1 -c r.yaml -e four.tns -L -o m
    [ "$(meta m regions)" = "wt=1,2,3;tc=1,3;et=3;rc=4" ]
    [ "$(meta m classes)" = 5 ]
    infer -n -m m | grep -qx $'regions\twt=1,2,3;tc=1,3;et=3;rc=4'
    awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i } END { exit !($c["score"] > 0.7 && $c["dice_4"] > 0.7 && $c["soft_1"] == "NA" && $c["soft_WT"] > 0.3) }' m.tsv
    infer -t none -P -m m <four.tns >p.tns
    PYTHONPATH=$ROOT/tests/lib PYTHONDONTWRITEBYTECODE=1 "$PYTHON" - <<'PY'
from mkstream import np, parse
n = 0
for kind, _, meta, tensors, _ in parse(open("p.tns", "rb").read()):
    if kind != "R": continue
    prob, pred, want = tensors["prob"], tensors["pred"], np.zeros_like(tensors["pred"])
    assert dict(meta)["regions"] == "wt=1,2,3;tc=1,3;et=3;rc=4" and prob.shape[0] == 4, meta
    for k, label in enumerate([2, 1, 3, 4]): want[prob[k] > .5] = label
    assert (pred == want).all() and want.any()
    n += 1
assert n == 4
PY
    dice -L <p.tns >t
    awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i } $1 == "case" { v[$c["part"]] = $c["soft_dice"] } END { exit !(v["WT"] > 0.3 && v["4"] > 0.3 && v["1"] == "nan" && v["3"] == v["ET"]) }' t
    # A model whose regions are none, or are not its outputs, is refused.
    "$PYTHON" - <<'PY'
import json
b = open("m", "rb").read()
n = int.from_bytes(b[:8], "little")
for name, regions in ("text", "wt"), ("label", "wt=1,2,3;tc=1,3;et=3;rc=5"), ("other", "wt=1,2,3:2"):
    h = json.loads(b[8:8 + n])
    h["__metadata__"].pop("xxh3")
    h["__metadata__"]["regions"] = regions
    t = json.dumps(h).encode()
    t += b" " * (-len(t) % 64 + 56)
    open(name, "wb").write(len(t).to_bytes(8, "little") + t + b[8 + n:])
PY
    for bad in text label; do
        run -1 pipe "infer -t none -m $bad <four.tns"
        [[ $output == *"infer: $bad: the model's metadata has no sound 'regions'"* ]]
    done
    run -1 pipe 'infer -t none -m other <four.tns'
    [[ $output == *"infer: other: a network of other outputs than the model's targets (wanted 1, got 4)"* ]]
    # What crop makes up around a slice is in no region.
    crop -p slice -s 64x64 <p.tns | PYTHONPATH=$ROOT/tests/lib PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -c '
import sys
from mkstream import parse
q = [t["prob"] for kind, _, _, t, _ in parse(sys.stdin.buffer.read()) if kind == "R"]
assert len(q) == 4 and all(p.shape[1:] == (64, 64) and p[:, 8:56, 8:56].min() > 0 and p.sum() == p[:, 8:56, 8:56].sum() for p in q)'
    # A model of classes beside it says nothing of regions.
    printf 'arch: unet\nbase: 4\nclasses: 5\nregions: none\n' >k.yaml
    epochs -b 0 -n 1 four.tns | train -c k.yaml -o k
    infer -t none -P -m k <p.tns | tnsview -k regions | grep -c wt= >said || :
    [ "$(cat said)" = 0 ]
}

@test "train: five classes, a resection cavity among them, from the labels to the table" {
    blobs -p 1 -n 4 -d 48x48 -c >four.tns
    printf 'arch: unet\nbase: 8\nbatch: 4\nrate: 0.03\nclasses: 5\nregions: none\n' >k.yaml
    epochs -b 0 -n 75 four.tns | train -j 1 -c k.yaml -e four.tns -L -o k
    awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i } END { exit !($c["dice_4"] > 0.7 && $c["soft_4"] > 0.2 && !("dice_5" in c)) }' k.tsv
    infer -t none -P -m k <four.tns >p.tns
    dice -L <p.tns | awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i } $1 == "mean" && $c["part"] == "4" { found = $c["dice"] > 0.7 && $c["soft_dice"] > 0.2 } END { exit !found }'
    recode -i -s brats2024 <p.tns | recode -r keep -s brats2024 | dice -L | cut -f8,12 >a
    dice -L <p.tns | cut -f8,12 | cmp - a
    run -1 pipe 'recode -i -s brats2023 <p.tns'
    [[ $output == *"value outside the scheme (wanted one of canonical, got 4"* ]]
}

@test "train: settings that contradict the stream are refused" {
    echo 'channels: 3' >>c.yaml
    run -1 pipe 'epochs -b 0 -n 1 train.tns | train -c c.yaml -o m'
    [[ $output == *"channels: the stream has 4 modalities (wanted 3"* ]]
    printf 'arch: unet\nbase: 4\n' >c.yaml
    blobs -p 1 -k scheme=raw >raw.tns
    run -1 pipe 'epochs -b 0 -n 1 raw.tns | train -c c.yaml -o m'
    [[ $output == *"labels are not recoded (wanted scheme=canonical, got scheme=raw)"* ]]
    blobs -p 1 -x >none.tns
    run -1 pipe 'epochs -b 0 -n 1 none.tns | train -c c.yaml -o m'
    [[ $output == *"no tensor 'label'"* ]]
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -1 20 -l nii2slices >plain.tns
    run -1 pipe 'epochs -b 0 -n 1 train.tns | train -c c.yaml -e plain.tns -o m'
    [[ $output == *"prepared differently from the training stream: key 'norm' differs (wanted case, got none)"* ]]
    blobs -p 0 >zero.tns
    head -c 0 </dev/null >empty.tns
    run -1 pipe 'train -c c.yaml -o m <zero.tns'
    [[ $output == *"holds no records"* ]]
    run -1 pipe 'train -c c.yaml -o m <empty.tns'
    [[ $output == *"empty"* ]]
    run -1 pipe 'epochs -b 0 -n 1 train.tns | train -c c.yaml -e zero.tns -o m'
    [[ $output == *"zero.tns: holds no records"* ]]
}

@test "train: a label outside the classes is named" {
    "$PYTHON" - <<'PY'
import struct, zlib
b = bytearray(open("train.tns", "rb").read())
at = 64 + struct.unpack_from("<Q", b, 24)[0]                # the first data record
m = struct.unpack_from("<I", b, at + 12)[0]
d = at + 64 + (m + 63) // 64 * 64
label = d + 256 + 4 * 32 * 32 * 4
b[label] = 4
struct.pack_into("<Q", b, d + 128 + 120, zlib.crc32(b[label:label + 1024]))
struct.pack_into("<I", b, at + 20, zlib.crc32(b[at + 64:d + 256]))
struct.pack_into("<I", b, at + 60, zlib.crc32(b[at:at + 60]))
open("four.tns", "wb").write(b)
PY
    run -1 pipe 'epochs -b 0 -n 1 four.tns | train -c c.yaml -o m'
    [[ $output == *"(P000 slice 0): label: outside the classes (wanted 0 to 3, got 4)"* ]]
    echo 'classes: 5' >>c.yaml
    epochs -b 0 -n 1 four.tns | train -c c.yaml -e four.tns -L -o m
}

@test "train: a loss that is not finite stops the run and names the records" {
    # A rate and a decay that multiply every weight by -99 at each step, of which an epoch has eight.
    blobs -p 3 -n 26 -d 16x16 >many.tns
    printf 'arch: unet\nbase: 4\nbatch: 11\noptimiser: sgd\nrate: 100\ndecay: 1\nschedule: constant\n' >c.yaml
    run -1 pipe 'epochs -b 0 -n 1 many.tns | train -c c.yaml -o m'
    [[ ${lines[-1]} == *"step "*"the loss is not finite; records: P00"?" slice "* ]]
    [ ! -e m ]
    # No batch of a single slice is left over: 78 are eight batches of nine or ten.
    [[ $(grep -o 'P00. slice' <<<"${lines[-1]#*records: }" | wc -l) == @(9|10) ]]
    # An epoch that ends before the loss does is not saved either.
    rm -f m.*
    run -1 pipe 'epochs -b 0 -n 40 train.tns | train -c c.yaml -o m'
    [[ ${lines[-1]} == *"parameter '"*"' is not finite after step; nothing was saved"* ]]
    [ ! -e m ]
    # Nor are weights of 99^3 written as f16, which holds 65504, for infer to refuse them.
    rm -f m.*
    sed -i 's/batch: 11/batch: 4/' c.yaml
    (cat c.yaml; echo 'weights: f16') >h.yaml
    run -1 pipe 'epochs -b 0 -n 1 train.tns | train -c h.yaml -o m'
    [[ ${lines[-1]} == "train: parameter '"*"' has values that f16 does not hold"* ]]
    [ ! -e m ]
}

@test "train: a full disk leaves the old checkpoint whole" {
    need_release "ulimit -f counts in other units there"
    printf 'arch: unet\nbase: 4\nbatch: 5\nrate: 0.01\n' >c.yaml
    epochs -b 0 -n 4 -s 1 train.tns >all.tns
    train -c c.yaml -o whole <all.tns
    head -c $(($(stat -c %s all.tns) / 2)) all.tns >half.tns
    run -1 train -c c.yaml -o m <half.tns
    cp m.last before
    # Files of at most 512 KiB: the checkpoint is larger.
    run -1 bash -c 'trap "" XFSZ; ulimit -f 512; exec train -r -c c.yaml -o m <all.tns'
    [[ ${lines[-1]} == *"m."*"File too large"* ]]
    cmp m.last before
    [ ! -e m ]
    [ -z "$(find . -name '.m.*')" ]
    train -r -c c.yaml -o m <all.tns
    cmp whole m
}

@test "train: a checkpoint with any flipped bit is refused, the one before it is offered and leads to the same model" {
    printf 'arch: unet\nbase: 1\nbatch: 8\n' >c.yaml
    epochs -b 0 -n 4 -s 1 train.tns >all.tns
    train -c c.yaml -o whole <all.tns
    head -c $(($(stat -c %s all.tns) * 5 / 6)) all.tns >cut.tns
    run -1 train -c c.yaml -o m <cut.tns
    cp m.last last
    cp m.previous previous
    # Every bit of the length; of the header, a bit of some bytes and of each of "xxh3"; of each tensor and its end.
    "$PYTHON" - ${LONG:+17} >flips <<'PY'
import json, struct, sys
b = open("last", "rb").read()
n = struct.unpack("<Q", b[:8])[0]
head = json.loads(b[8:8 + n])
step = int(sys.argv[1]) if len(sys.argv) > 1 else 499
at = [(i, 1 << k) for i in range(8) for k in range(8)]
key = b.index(b'"xxh3"')
at += [(i, 1 << (i % 8)) for i in range(key, key + 26)]
at += [(i, 1 << (i // step % 8)) for i in range(8, 8 + n, step)] + [(7 + n, 1)]
ends = sorted(8 + n + o for k, v in head.items() if k != "__metadata__" for o in v["data_offsets"])
at += [(ends[i], 1 << (i % 7)) for i in range(0, len(ends) - 1, 1 if step < 100 else 16)] + [(len(b) - 1, 128)]
for i, bit in at:
    print(i, bit)
PY
    "$PYTHON" - <<'PY'
import os, shutil, subprocess
last = open("last", "rb").read()
for line in open("flips"):
    i, bit = map(int, line.split())
    b = bytearray(last)
    b[i] ^= bit
    open("m.last", "wb").write(b)
    r = subprocess.run(["train", "-r", "-c", "c.yaml", "-o", "m"], stdin=open("all.tns"), capture_output=True, text=True)
    say = r.stderr.splitlines()
    assert r.returncode == 1 and len(say) == 1, (i, bit, r.returncode, r.stderr)
    assert say[0].startswith("train: m.last: ") and "m.previous is whole, of record " in say[0] and "'mv m.previous m.last'" in say[0], say
    assert not os.path.exists("m")
PY
    echo "# $(wc -l <flips) flipped bits, each refused" >&3
    # As the message says.
    mv m.previous m.last
    train -r -c c.yaml -o m <all.tns
    cmp whole m
    cmp whole.last m.last
    [ ! -e m.previous ]
    # Neither is whole, or there is but one.
    rm m
    printf x | dd of=m.last bs=1 seek=60000 conv=notrunc 2>/dev/null
    run -1 train -r -c c.yaml -o m <all.tns
    [[ ${lines[-1]} == *"m.last: checksum differs"*"no earlier state is kept, remove it to begin anew" ]]
    head -c 20000 previous >m.previous
    run -1 train -r -c c.yaml -o m <all.tns
    [[ ${lines[-1]} == *"so is the state before it (m.previous: "*"remove both to begin anew" ]]
}

@test "train: two processes on one model: the second is told" {
    mkfifo pipe
    epochs -b 0 -n 1 train.tns >all.tns
    (head -c $(($(stat -c %s all.tns) / 2)) all.tns; exec sleep 60) >pipe &
    feeder=$!
    train -c c.yaml -o m <pipe 2>err &
    pid=$!
    until [ -s m.tsv ]; do kill -0 $pid && pause; done
    run -1 train -c c.yaml -o m <all.tns
    kill -9 $pid $feeder
    [[ ${lines[-1]} == *"m: another process is training this model"* ]]
}

@test "train: paused after some passes and continued, the model is that of a run left alone" {
    for kind in cosine averaged moving; do
        printf 'arch: unet\nbase: 4\nbatch: 5\nrate: 0.01\n' >c.yaml
        case $kind in
        averaged) printf 'average: 3\naccumulate: 2\nschedule: constant\n' >>c.yaml ;;
        moving) printf 'ema: 0.9\nkeep: last\n' >>c.yaml ;;
        esac
        epochs -b 0 -n 5 -s 1 train.tns | train -c c.yaml -e val.tns -o whole-$kind
        for passes in 1 3 3 9; do # the second 3 has nothing to do, and 9 are more than there are
            [ ! -e $kind ]
            epochs -b 0 -n 5 -s 1 train.tns | train -r -x $passes -c c.yaml -e val.tns -o $kind 2>said
            # A line for each pass of this process, wherever standard error goes, with the time left.
            grep '^train: epoch' said >>told || true
            [ $passes = 9 ] || [ "$(awk 'NR > 1' $kind.tsv | wc -l)" = $passes ]
        done
        [ "$(grep -cE "^train: epoch [1-5]/5: loss [0-9.]+, validation [0-9.]+, Dice WT [0-9.]+ TC [0-9.]+ ET [0-9.]+, [0-9]+:[0-9]{2} left$" told)" = 5 ]
        [ "$(sed 's/^train: epoch \([0-9]*\).*/\1/' told | paste -sd ' ')" = '1 2 3 4 5' ]
        [ "$(sed -n 's/.*loss \([0-9.]*\), validation \([0-9.]*\),.*/\1 \2/p' told | head -n 1)" = "$(awk 'NR == 2 { printf "%.4f %.4f\n", $4, $5 }' $kind.tsv)" ]
        rm told
        cmp whole-$kind $kind
        cmp whole-$kind.last $kind.last
        diff <(cut -f 1-19 whole-$kind.tsv) <(cut -f 1-19 $kind.tsv)
    done
    run -2 pipe 'epochs -b 0 -n 5 train.tns | train -x 0 -c c.yaml -o none'
}

@test "train: patience ends a run, and a continued one stays ended" {
    printf 'arch: unet\nbase: 4\nbatch: 4\nrate: 1e-9\npatience: 2\nschedule: constant\n' >c.yaml
    epochs -b 0 -n 30 -s 1 train.tns | train -c c.yaml -e val.tns -o m || true
    [ -e m ]
    n=$(wc -l <m.tsv)
    [ "$n" -ge 4 ]
    [ "$n" -lt 30 ]
    [ "$(awk 'END { print $1 }' m.tsv)" = $(($(meta m epoch) + 2)) ]
    cp m kept
    epochs -b 0 -n 30 -s 1 train.tns | train -r -c c.yaml -e val.tns -o m || true
    cmp m kept
}

@test "train: with keep: last the validation only watches, also after an interruption" {
    weights() { # of a model, without what its metadata says
        "$PYTHON" -c 'import struct, sys
b = open(sys.argv[1], "rb").read()
sys.stdout.buffer.write(b[8 + struct.unpack("<Q", b[:8])[0]:])' "$1"
    }
    # Noise without rest: the last of eight epochs is not the best one.
    printf "arch: unet\nbase: 4\nbatch: 5\nrate: 0.3\nschedule: constant\n$PLAIN" >best.yaml
    sed 's/^keep:.*/keep: last/' best.yaml >last.yaml
    epochs -b 0 -n 8 -s 1 train.tns >e.tns
    train -c best.yaml -e val.tns -o best <e.tns
    train -c best.yaml -o unwatched <e.tns
    train -c last.yaml -e val.tns -o last <e.tns
    weights last >a
    weights unwatched | cmp - a
    ! weights best | cmp -s - a || false
    [ "$(meta last epoch)" = 7 ]
    [ "$(meta best epoch)" != 7 ]
    [ "$(awk 'END { printf "%.4f", $6 }' last.tsv)" = "$(printf %.4f "$(meta last score)")" ]
    [ ! -e last.best ]
    # Cut in the fifth epoch, then continued.
    head -c $(($(wc -c <e.tns) * 5 / 8)) e.tns >cut.tns
    run -1 train -c last.yaml -e val.tns -o again <cut.tns
    train -r -c last.yaml -e val.tns -o again <e.tns
    cmp last again
}

@test "train: -n prints the plan, from the settings or from a stream, and trains nothing" {
    printf 'arch: unet\nbase: 64\nbatch: 4\nsize: 240x240\n' >full.yaml
    train -n -c full.yaml </dev/null >plan
    grep -q 'enc1.conv1 .*4x240x240' plan
    # 31,038,404 parameters and 5,888 * 2 running statistics, of 4 bytes
    grep -q '^peak: [0-9.]* MiB$' plan
    epochs -b 0 -n 1 train.tns | train -n -c c.yaml >small
    grep -q '32x32' small
    run ! grep 'volumes of up to' small plan
    [ -z "$(find . -name '*.last')" ]
    run -1 train -n -M 100M -c full.yaml </dev/null
    [[ $output =~ "train: "[^$'\n']*[0-9]" MiB" ]]
}

# kept FILE ARGS...: what train took, in KiB, is no more than it had planned, nor than its ceiling, also the
# least that it names.
kept() {
    local file=$1 kib plan least m
    shift
    rm -f z z.*
    least=$(train -M 1K -o z "$@" <"$file" 2>&1 | sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p')
    for m in 64G "${least}M"; do
        rm -f z z.*
        kib=$(command time -q -o peak -f %M train -M $m -o z "$@" <"$file" 2>said && cat peak)
        plan=$(sed -n 's/.* threads*, \([0-9]*\) MiB$/\1/p' said)
        echo "$file $*: planned $plan MiB, took $kib KiB" >>took
        [ "$plan" -le "$least" ] || [ $m = 64G ] || echo "$file $*: planned $plan MiB under $m" >>over
        [ "$kib" -le $((plan * 1024)) ] || echo "$file $*: planned $plan MiB, took $kib KiB" >>over
    done
}

@test "train: takes no more than it planned, nor than its ceiling, whatever the epochs" {
    need_release "it needs more memory"
    need_command time
    bases=4 batches=3 threads=2 epochs="1 4" sizes=80x64
    [ -z "${LONG-}" ] || { bases="4 16" batches="1 6" threads="1 5" epochs="1 3" sizes="192x160 240x240"; }
    for size in $sizes; do
        blobs -p 2 -n 3 -d "$size" >b.tns
        blobs -p 1 -n 20 -d 112x64 >v.tns
        for n in $epochs; do
            epochs -b 0 -n "$n" b.tns >e.tns
            for arch in unet attention residual; do
                for base in $bases; do
                    for batch in $batches; do
                        printf 'arch: %s\nbase: %s\nbatch: %s\n' $arch "$base" "$batch" >k.yaml
                        for j in $threads; do
                            # The network's own memory is the same for any number of passes.
                            [ "$n" = 1 ] || [ $arch = unet ] || [ -n "${LONG-}" ] || continue
                            [ "$n" != 1 ] || kept e.tns -j "$j" -c k.yaml
                            kept e.tns -j "$j" -c k.yaml -L -e v.tns
                        done
                    done
                done
            done
        done
    done
    # An average and a gradient that is added up beside weights that outweigh the maps, and more heads.
    blobs -p 1 -n 4 -d 16x16 >b.tns
    epochs -b 0 -n 2 b.tns >e.tns
    for how in 'accumulate: 2\nema: 0.99' 'accumulate: 3\nclip: 1\naverage: 1'; do
        printf "arch: unet\nbase: 16\nbatch: 1\ndeep_supervision: true\n$how\n" >k.yaml
        kept e.tns -j 2 -c k.yaml -L -e b.tns
    done
    if [ -n "${LONG-}" ]; then
        blobs -p 2 -n 3 -d "$size" >b.tns
        epochs -b 0 -n 40 b.tns >e.tns
        printf 'arch: unet\nbase: 4\nbatch: 3\n' >k.yaml
        kept e.tns -c k.yaml -L -e v.tns
    fi
    [ ! -s over ] || { cat over; return 1; }
}

@test "train: who is met, and a large header, are planned for" {
    need_release "it needs more memory"
    need_command time
    need_python numpy
    many() { "$PYTHON" "$ROOT/tests/lib/many.py" "$@"; }
    printf 'arch: unet\nbase: 1\nbatch: 25\n' >k.yaml
    many 2500 12 0 >a
    many 700 200 0 >b
    many 700 200 5000 >v
    many 3 12 0 900000 >h
    many 3 12 9 900000 >w
    for s in a h; do
        epochs -b 0 -n 1 $s >$s.e
    done
    epochs -b 0 -n 2 b >b.e
    # Slices of next to nothing: more threads than one would only wait for each other.
    kept a.e -j 1 -c k.yaml
    kept b.e -j 1 -c k.yaml
    kept b.e -j 1 -c k.yaml -e v
    kept h.e -j 1 -c k.yaml
    kept h.e -j 1 -c k.yaml -e w
    # The run goes on with the ledger that it had.
    rm -f z z.*
    run -1 train -c k.yaml -o z < <(head -c $(($(stat -c %s b.e) * 3 / 4)) b.e)
    kib=$(command time -q -o peak -f %M train -r -c k.yaml -o z <b.e 2>said && cat peak)
    plan=$(sed -n 's/.* threads*, \([0-9]*\) MiB$/\1/p' said)
    [ "$kib" -le $((plan * 1024)) ] || echo "-r: planned $plan MiB, took $kib KiB" >>over
    [ ! -s over ] || { cat over; return 1; }
}

@test "train: more patients than the stream told of are a line, and never more than the ceiling" {
    need_release "it needs more memory"
    need_command time
    need_python numpy
    printf 'arch: unet\nbase: 1\nbatch: 25\n' >k.yaml
    "$PYTHON" "$ROOT/tests/lib/many.py" 1500 200 0 0 untold >u
    m=$(train -j 1 -M 1K -c k.yaml -o z <u 2>&1 | sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p')
    first=$m
    until command time -q -o peak -f %M train -j 1 -M "${m}M" -c k.yaml -o z <u 2>said; do
        [ "$(tail -1 peak)" -le $((m * 1024)) ]
        grep -q "^train: more patients than planned for ([0-9]* scans so far); -M needs at least " said
        more=$(sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p' said)
        [ "$more" -gt "$m" ]
        m=$more
        [ ! -e z ]
        rm -f z.*
    done
    [ "$(cat peak)" -le $((m * 1024)) ]
    [ "$m" -gt "$first" ]
    # Without a ceiling it is a warning.
    rm -f z z.*
    train -j 1 -c k.yaml -o z <u 2>said
    [ "$(grep -c "^train: warning: more patients than planned for" said)" = 1 ]
    # What the header says has to be sound.
    for bad in 1 "1 2 3 4" "70000 1 1" "1 9 3" "1 1 99999999999999"; do
        "$PYTHON" "$ROOT/tests/lib/many.py" 3 12 0 0 "$bad" >e
        run -1 train -j 1 -c k.yaml -o y <e
        [[ $output == *"key 'scans': (wanted scans, fingerprints and bytes, got '$bad')"* ]]
    done
}

@test "train: a run that goes on takes no more than one that begins" {
    need_release "it needs more memory"
    need_command time
    blobs -p 1 -n 6 -d 16x16 >b.tns
    # 1.9 million weights, twice again in moments: 23 MB beside maps of next to nothing
    printf 'arch: unet\nbase: 16\nbatch: 1\n' >k.yaml
    epochs -b 0 -n 2 b.tns >e.tns
    size=$(stat -c %s e.tns)
    run -1 train -c k.yaml -o z < <(head -c $((size * 3 / 4)) e.tns)
    kib=$(command time -q -o peak -f %M train -r -c k.yaml -o z <e.tns 2>said && cat peak)
    plan=$(sed -n 's/.* threads*, \([0-9]*\) MiB$/\1/p' said)
    echo "planned $plan MiB, took $kib KiB"
    [ "$kib" -le $((plan * 1024)) ]
}

@test "train: other tensors and other types are planned for" {
    need_release "it needs more memory"
    need_command time
    need_python numpy
    "$PYTHON" - "$ROOT/tests/lib" <<'P'
import sys
sys.path.insert(0, sys.argv[1])
from mkstream import np, stream, study
more = np.full((64, 96, 80), 0.5, "f4")
def write(name, change, **how):
    records = [(m, change(t)) for m, t in study(slices=4, h=96, w=80, extra=0, kind=1, scheme="canonical", **how)]
    open(name, "wb").write(stream({"history": "made"}, records, 1))
write("b", lambda t: {"foreign": more, **t, "image": t["image"].astype("f8")})
write("v", lambda t: {"foreign": more, **t}, first=5)
P
    printf 'arch: unet\nbase: 4\nbatch: 2\n' >k.yaml
    epochs -b 0 -n 2 b >e.tns
    kept e.tns -c k.yaml -e v
    [ ! -s over ] || { cat over; return 1; }
}

@test "train: the settings that lie in pipelines/ are sound, and the full networks fit a small machine" {
    epochs -b 0 -n 1 train.tns >e.tns
    epochs -b 0 -n 1 -d 4 train.tns >slabs.tns
    epochs -b 0 -n 1 -N 1 train.tns >beside.tns
    for f in "$ROOT"/pipelines/*.yaml; do
        case $f in
        */unet3d.yaml) from=slabs ;;
        */neighbours.yaml) from=beside ;;
        *) from=e ;;
        esac
        train -n -c "$f" <$from.tns >plan
        grep -q '^peak: ' plan
    done
    for arch in unet attention residual; do
        (cat "$ROOT/pipelines/${arch}64.yaml"; echo 'size: 240x240') >full.yaml
        # 4 GiB hold them all at batch 4 without a ceiling.
        train -n -c full.yaml </dev/null | awk '/^peak:/ { exit !($2 < 4096) }'
    done
}

@test "train: where a file cannot be locked that is a warning, and only who holds the lock is another process" {
    need_release "a library is preloaded"
    epochs -b 0 -n 1 -s 1 train.tns >e.tns
    train -c c.yaml -o whole <e.tns
    for e in ENOSYS ENOLCK EOPNOTSUPP; do
        printf '#include <errno.h>\nint flock(int fd, int how)\n{ return fd + how < 0 ? 0 : (errno = %s, -1); }\n' $e >no.c
        ${CC:-cc} -shared -fPIC -o no.so no.c
        LD_PRELOAD=$PWD/no.so train -c c.yaml -o m$e <e.tns 2>err
        grep -q "^train: warning: m$e.tsv: cannot be locked (.*): nobody keeps a second process" err
        cmp whole m$e
    done
    ${CC:-cc} -shared -fPIC -o no.so -x c - <<<'#include <errno.h>
int flock(int fd, int how) { return fd + how < 0 ? 0 : (errno = EWOULDBLOCK, -1); }'
    LD_PRELOAD=$PWD/no.so run -1 train -c c.yaml -o n <e.tns
    [[ ${lines[-1]} == *"n: another process is training this model" ]]
}

@test "train: a link or a pipe under the name of the log is refused, and what it leads to stays" {
    epochs -b 0 -n 1 -s 1 train.tns >e.tns
    echo "somebody else's" >other
    ln -s other m.tsv
    mkfifo n.tsv
    for m in m n; do
        run -1 timeout 60 train -c c.yaml -o $m <e.tns
        [[ ${lines[-1]} == "train: $m.tsv: is no regular file"* ]]
        [ ! -e $m ]
    done
    ln other o.tsv
    run -1 train -c c.yaml -o o <e.tns
    [[ ${lines[-1]} == "train: o.tsv: has another name too"* ]]
    cp other p.tsv
    run -1 train -c c.yaml -o p <e.tns
    [[ ${lines[-1]} == "train: p.tsv: is no log of a training"* ]]
    [ "$(cat other)" = "somebody else's" ]
    cmp other p.tsv
    train -c c.yaml -o q <e.tns
    rm q q.last
    train -c c.yaml -o q <e.tns # the log of a model that is gone is one
}

@test "train: a model that is there is not trained over" {
    epochs -b 0 -n 1 -s 1 train.tns >e.tns
    train -c c.yaml -o m <e.tns
    cp m kept
    cp m.tsv kept.tsv
    run -1 train -s 2 -c c.yaml -o m <e.tns
    [[ ${lines[-1]} == "train: m: exists already (wanted another -o; remove it"* ]]
    # Nor by -r, where there is no run that could go on.
    mkdir alone
    cp m alone
    run -1 train -r -c c.yaml -o alone/m <e.tns
    [[ ${lines[-1]} == "train: alone/m: exists already"* ]]
    cmp kept alone/m
    cmp kept m
    cmp kept.tsv m.tsv
    train -r -c c.yaml -o m <e.tns
    cmp kept m
}

@test "train: of epochs that are equally good the first is kept" {
    # Nothing is learnt, and where there is no tumour no tumour is right: every epoch scores the same.
    printf "arch: unet\nbase: 4\nbatch: 5\nrate: 0\n$PLAIN" >c.yaml
    PYTHONPATH="$ROOT/tests/lib" "$PYTHON" - <<'PY'
import mkstream
header, *slices = [(kind, pairs, tensors) for kind, _, pairs, tensors, _ in mkstream.parse(open("val.tns", "rb").read()) if kind in "HR"]
open("empty.tns", "wb").write(mkstream.stream(header[1], [(dict(p), {**t, "label": t["label"] * 0}) for _, p, t in slices]))
PY
    epochs -b 0 -n 3 -s 1 train.tns | train -c c.yaml -e empty.tns -o m
    [ "$(awk 'NR > 1 { print $6 }' m.tsv | sort -u | wc -l)" = 1 ]
    [ "$(wc -l <m.tsv)" = 4 ]
    [ "$(meta m epoch)" = 0 ]
}

@test "train: a run that learned the leak before it stopped says so after it went on" {
    printf 'arch: unet\nbase: 4\nbatch: 5\nkeep: last\n' >c.yaml
    epochs -b 0 -n 1 -s 1 train.tns >e.tns
    train -L -c c.yaml -e train.tns -o m <e.tns
    cp m whole
    rm m # as if it had been killed just before: no record is left to find the leak again
    train -r -L -c c.yaml -e train.tns -o m <e.tns
    [ "$(meta m leaky)" = yes ]
    cmp whole m
}

@test "train: under 16-bit weights, biases and all that is small stay as they are" {
    for w in f16 bf16; do
        printf 'arch: attention\nbase: 4\nbatch: 5\nweights: %s\n' $w >c.yaml
        epochs -b 0 -n 1 train.tns | train -c c.yaml -o $w
        "$PYTHON" - $w <<'PY'
import json, struct, sys
b = open(sys.argv[1], "rb").read()
h = json.loads(b[8:8 + struct.unpack("<Q", b[:8])[0]])
kinds = {(len(t["shape"]) > 1, t["dtype"]) for k, t in h.items() if k != "__metadata__"}
assert kinds == {(True, sys.argv[1].upper()), (False, "F32")}, kinds
assert any(k.endswith("bias") for k in h)
PY
    done
}

@test "train: the loss of validation is that of the slices, not of what pads them" {
    blobs -p 2 -n 3 -1 20 -d 37x23 -r >odd.tns
    printf "arch: unet\nbase: 4\nbatch: 5\nrate: 0.01\nloss: dice+ce\n$PLAIN" >c.yaml
    epochs -b 0 -n 1 train.tns | train -c c.yaml -e odd.tns -o m
    infer -t none -P -m m <odd.tns >p.tns
    PYTHONPATH=$ROOT/tests/lib PYTHONDONTWRITEBYTECODE=1 "$PYTHON" - <<'PY'
import numpy as np, mkstream
ce, pixels, cases = 0, 0, {}
for kind, _, m, t, _ in mkstream.parse(open("p.tns", "rb").read()):
    if kind == "R":
        p, o = t["prob"].astype("f8"), np.eye(4)[t["label"]].transpose(2, 0, 1)
        ce -= (o * np.log(p)).sum()
        pixels += t["label"].size
        s = cases.setdefault(dict(m)["case"], np.zeros((3, 4)))
        s += [(p * o).sum((1, 2)), p.sum((1, 2)), o.sum((1, 2))]
dice = np.mean([1 - np.mean((2 * i + 1e-5) / (p + o + 1e-5)) for i, p, o in cases.values()])
rows = [l.split("\t") for l in open("m.tsv")]
got, want = float(rows[1][rows[0].index("val_loss")]), dice + ce / pixels
assert abs(got - want) < 1e-4, (got, want)
PY
}

@test "train, infer: a model says which modalities it learned to do without, and others are refused what lacks some" {
    printf 'arch: unet\nbase: 2\nbatch: 4\n' >c.yaml
    blobs -p 1 -n 4 >whole.tns
    blobs -p 1 -n 4 -1 5 -k missing=t1gd,t2 >lacks.tns
    # By dropout, of one segment and of all; of patients who lacked a scan by themselves; of none.
    epochs -b 0 -n 1 train.tns | augment dropout=0.5 | train -j 1 -c c.yaml -o any 2>said
    epochs -b 0 -n 2 lacks.tns | train -j 1 -c c.yaml -o two
    epochs -b 0 -n 2 whole.tns | train -j 1 -c c.yaml -o none
    [ "$(meta any without)" = flair,t1,t1gd,t2 ]
    [ "$(meta two without)" = t1gd,t2 ]
    [ "$(meta none without)" = - ]
    [ "$(infer -n -m two | grep ^without)" = "without$(printf '\t')t1gd,t2" ]
    [ "$(infer -n -m two -m any | grep ^without)" = "without$(printf '\t')t1gd,t2" ]
    [ -z "$(infer -n -m none | grep ^without)" ]
    # A run that goes on still says so.
    epochs -b 0 -n 3 lacks.tns | train -j 1 -r -c c.yaml -o two
    [ "$(meta two without)" = t1gd,t2 ]
    blobs -p 1 -n 2 -1 7 -k missing=t1 >t1.tns
    blobs -p 1 -n 2 -1 8 -k missing=t2 >t2.tns
    infer -t none -m any <t1.tns | tnsview -c
    infer -t none -m any -m two <t2.tns | tnsview -c
    run -1 pipe 'infer -t none -m none <t2.tns >out'
    [ "$output" = 'infer: stdin: record 0 (P008 slice 0): no scan of t2, and none learned to do without no modality (augment dropout); -F lets that pass' ]
    run -1 pipe 'infer -t none -m any -m two <t1.tns >out'
    [[ $output == *"no scan of t1, and two"* ]]
    infer -t none -F -m none <t2.tns | tnsview -c
    blobs -p 1 -n 1 -k missing=pet >pet.tns
    for tool in 'infer -t none -m any' 'train -c c.yaml -o m'; do
        run -1 pipe "$([ "${tool%% *}" = train ] && echo epochs -b 0 -n 1 pet.tns || echo cat pet.tns) | $tool >out"
        [[ $output == *"key 'missing': (wanted some of flair,t1,t1gd,t2, got 'pet')"* ]]
    done
}
