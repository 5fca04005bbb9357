# What the tools do where nothing is said: what is recommended (pipelines/README.md), and no other thing than the options name.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    export OMP_WAIT_POLICY=passive
    need_python numpy
    blobs -p 2 -n 5 -d 32x32 >train.tns
}

recommended() {
    epochs -n 2 -s 1 train.tns | augment -s 1
}

@test "defaults: epochs, augment, train and infer, told nothing, do what the recommended options say" {
    recommended >short.tns
    epochs -n 2 -s 1 -b 0.75 -c -B 8 -T 1,2,3 train.tns |
        augment -s 1 flip biasfield noise blur brightness shift contrast lowres gammainv gamma >long.tns
    cmp short.tns long.tns
    printf '%s\n' 'arch: unet' 'base: 16' 'batch: 8' 'loss: dice+ce' 'regions: wt=1,2,3;tc=1,3;et=3' 'optimiser: adam' \
        'rate: 0.001' 'schedule: cosine' 'ema: 0.999' 'keep: last' >long.yaml
    train -c long.yaml -o long <short.tns
    train -o short <short.tns
    cmp short long
    infer -m short <train.tns >short.p.tns
    infer -t xy -m short <train.tns | cmp - short.p.tns
    infer -t none -m short <train.tns >one.p.tns
    run ! cmp -s one.p.tns short.p.tns
}

@test "defaults: what is said of one thing leaves no other one that contradicts it" {
    keeps() { # SETTING LINE...: lines that the model's settings then have
        printf 'base: 1\n%s\n' "$1" >c.yaml
        rm -f m m.*
        train ${e-} -c c.yaml -o m <e.tns 2>/dev/null
        "$PYTHON" -c 'import json, sys
b = open("m", "rb").read()
print(json.loads(b[8:8 + int.from_bytes(b[:8], "little")])["__metadata__"]["config"])' >config
        for line in "${@:2}"; do grep -qx "$line" config || { echo "$1: no $line" >&2; return 1; }; done
    }
    epochs -n 2 train.tns >e.tns
    blobs -p 1 -1 20 -n 2 -d 32x32 >val.tns
    keeps 'average: 2' 'ema: 0' 'keep: last'
    keeps 'regions: none' 'ema: 0.999'
    run ! grep -q '^regions' config
    keeps 'class_weights: [0.1, 1, 1, 2]'
    run ! grep -q '^regions' config
    keeps 'background: false'
    run ! grep -q '^regions' config
    # What such a model says of its settings makes it again.
    mv m first
    train -c config -o second <e.tns 2>/dev/null
    cmp first second
    e='-e val.tns' keeps 'patience: 1' 'keep: best' 'ema: 0.999'
    blobs -p 1 -n 4 -d 32x32 -c >five.tns
    epochs -n 2 five.tns >e.tns
    keeps 'classes: 5' "regions: 'wt=1,2,3;tc=1,3;et=3;rc=4'"
    keeps 'classes: 6'
    run ! grep -q '^regions' config
}

@test "defaults: a run that began before there were any goes on, and its model is that of a run that says what it was" {
    epochs -b 0 -n 2 -s 1 train.tns >e.tns
    printf 'arch: unet\nbase: 2\n' >c.yaml
    printf "arch: unet\nbase: 2\n$PLAIN" >before.yaml
    train -c before.yaml -e train.tns -L -o whole <e.tns
    train -x 1 -c before.yaml -e train.tns -L -o m <e.tns
    train -r -c c.yaml -e train.tns -L -o m <e.tns
    cmp m whole
    echo 'class_weights: [0.1, 1, 1, 2]' | tee -a c.yaml >>before.yaml
    rm m m.* whole whole.*
    train -c before.yaml -e train.tns -L -o whole <e.tns
    train -x 1 -c before.yaml -e train.tns -L -o m <e.tns
    train -r -c c.yaml -e train.tns -L -o m <e.tns
    cmp m whole
    # Of any other run's settings the first that differs is named, as ever.
    printf "arch: unet\nbase: 2\nrate: 0.1\n" >other.yaml
    run -1 --separate-stderr train -r -c other.yaml -e train.tns -L -o m <e.tns
    [[ $stderr == "train: -r: another configuration than that of the run so far (wanted "* ]]
}
