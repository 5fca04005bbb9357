# Networks as texts: a description is all that a network is, in the settings and in the model.
load ../lib/common
load ../lib/records

setup() {
    cd "$BATS_TEST_TMPDIR"
    export OMP_WAIT_POLICY=passive
    need_python numpy
    raw_blobs -p 2 -n 4 -d 40x33 >train.tns
}

# A network of no paper: five levels, a wide kernel, dilation, groups; its blocks count levels.
invented() {
    cat <<'EOF'
description: Of nobody, to be used once.
parameters: {inputs: 4, classes: 4, base: 4, groups: 2}
blocks:
  layer:
    parameters: [c, k, far]
    body:
      - {op: convolution, name: conv, channels: c, kernel: k, dilation: far, bias: false}
      - {op: group_norm, name: norm, groups: groups}
      - {op: leaky_relu, slope: 0.1}
  down:
    parameters: [c, k]
    body:
      - {op: max_pool, size: 2}
      - {op: layer, name: one, c: c, k: k, far: 1}
      - {op: layer, name: two, c: c, k: 3, far: 2}
  up:
    inputs: [x, skip]
    parameters: [c]
    body:
      - {op: transposed_convolution, name: up, in: x, channels: c, kernel: 2, stride: 2}
      - {op: concat, in: [up, skip]}
      - {op: layer, name: one, c: c, k: 3, far: 1}
network:
  - {op: input, channels: inputs}
  - {op: layer, name: top, c: base, k: 5, far: 1}
  - {op: down, name: d1, c: base * 2, k: 5}
  - {op: down, name: d2, c: base * 2, k: 3}
  - {op: down, name: d3, c: "min(base * 4, 16)", k: 3}
  - {op: down, name: d4, c: base * 4, k: 3}
  - {op: down, name: d5, c: base * 4, k: 3}
  - {op: up, name: u4, in: [d5, d4], c: channels(d4)}
  - {op: up, name: u3, in: [u4, d3], c: channels(d3)}
  - {op: up, name: u2, in: [u3, d2], c: channels(d2)}
  - {op: up, name: u1, in: [u2, d1], c: channels(d1)}
  - {op: up, name: u0, in: [u1, top], c: channels(top)}
  - {op: head, name: head, channels: classes}
  - {op: loss}
EOF
}

# The same of common operations.
common() {
    invented | sed 's/kernel: k, dilation: far/kernel: 3/; s/group_norm, name: norm, groups: groups/batch_norm, name: norm, eps: 1e-3/; s/leaky_relu, slope: 0.1/relu/'
}

# edit FROM TO PYTHON: the model with other metadata (m); its checksum goes.
edit() {
    "$PYTHON" - "$@" <<'PY'
import json, struct, sys
b = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", b[:8])[0]
h = json.loads(b[8:8 + n])
m = h["__metadata__"]
m.pop("xxh3", None)
exec(sys.argv[3])
t = json.dumps(h).encode()
t += b" " * (-len(t) % 64 + 56)
open(sys.argv[2], "wb").write(struct.pack("<Q", len(t)) + t + b[8 + n:])
PY
}

tensors() { # the bytes of a model but its header
    "$PYTHON" -c 'import struct, sys
b = open(sys.argv[1], "rb").read()
sys.stdout.buffer.write(b[8 + struct.unpack("<Q", b[:8])[0]:])' "$1"
}

@test "network: one that exists nowhere learns, and is used, from its text alone" {
    invented >mine.yaml
    printf "network: mine.yaml\nbatch: 4\nrate: 0.01\nparameters: {groups: 4}\n$PLAIN" >c.yaml
    epochs -b 0 -n 30 -s 1 train.tns | train -s 1 -c c.yaml -o m
    # The loss of the first pass is near that of chance (0.75 and log 4); it falls to half of that.
    awk 'NR == 2 { first = $4 } END { exit !(first > 1.5 && $4 < first / 2) }' m.tsv
    rm mine.yaml
    infer -t none -P -m m <train.tns >p.tns
    py <<'PY'
for m, t in read("p.tns"):  # 40x33 is 64x64 inside
    assert t["pred"].shape == t["label"].shape == (40, 33) and t["prob"].shape == (4, 40, 33)
    assert np.isfinite(t["prob"]).all() and np.abs(t["prob"].sum(0) - 1).max() < 1e-5
PY
    # Names of parameters are those of the text, after the blocks'; PyTorch's layout.
    "$PYTHON" - <<'PY'
import json, struct
b = open("m", "rb").read()
h = json.loads(b[8:8 + struct.unpack("<Q", b[:8])[0]])
m = h.pop("__metadata__")
assert h["top.conv.weight"]["shape"] == [4, 4, 5, 5] and h["d5.two.conv.weight"]["shape"] == [16, 16, 3, 3]
assert h["u4.up.weight"]["shape"] == [16, 16, 2, 2] and h["u0.one.norm.bias"]["shape"] == [4] and h["head.weight"]["shape"] == [4, 4, 1, 1]
assert m["parameters"] == "groups=4" and m["arch"] == "mine" and "Of nobody" in m["network"]
PY
}

@test "network: what a model says of its network trains the same network" {
    common >mine.yaml
    printf "network: mine.yaml\nbatch: 4\n$PLAIN" >c.yaml
    epochs -b 0 -n 1 -s 1 train.tns | train -s 1 -c c.yaml -o m
    mkdir again
    infer -n -m m | sed -n 's/^network.//p' >again/mine.yaml
    cmp mine.yaml again/mine.yaml
    cp c.yaml again
    epochs -b 0 -n 1 -s 1 train.tns | train -s 1 -c again/c.yaml -o n
    cmp m n
}

# What a network that sees volumes is fed with.
slabs() { # NETWORK
    [[ $1 != *3d ]] || echo "-d 4"
}

@test "network: the ones with a name are the texts in pipelines/networks" {
    for a in unet attention residual nnunet2d transunet unet3d attention3d residual3d transunet3d; do
        cp "$ROOT/pipelines/networks/$a.yaml" .
        printf 'base: 1\nbatch: 4\nsize: 64x64\n' >rest
        [ $a != residual ] || echo 'dropout: 0.2' >>rest
        (echo "network: $a"; cat rest) >named.yaml
        (echo "network: $a.yaml"; cat rest) >file.yaml
        epochs -b 0 -n 1 -s 1 $(slabs $a) train.tns >e.tns
        train -s 1 -c named.yaml -o $a-named <e.tns
        train -s 1 -c file.yaml -o $a-file <e.tns
        cmp <(tensors $a-named) <(tensors $a-file)
        infer -n -m $a-named | sed -n 's/^network.//p' | cmp - $a.yaml
    done
    (echo "arch: unet"; sed '/dropout/d' rest) >arch.yaml
    epochs -b 0 -n 1 -s 1 train.tns | train -s 1 -c arch.yaml -o unet-arch
    cmp <(tensors unet-named) <(tensors unet-arch)
}

@test "network: how unet normalises, and the slope of its ReLU, are parameters" {
    epochs -b 0 -n 2 -s 1 train.tns >e.tns
    # The text with the one kind in all places, and with the other.
    sed 's/, instance_norm: 0, slope: 0//; /when: instance_norm > 0/d; /when: slope > 0/d; s/, when: instance_norm == 0//; s/, when: slope == 0//' \
        "$ROOT/pipelines/networks/unet.yaml" >batch.yaml
    sed 's/op: batch_norm/op: instance_norm/; s/op: relu/op: leaky_relu, slope: 0.01/' batch.yaml >instance.yaml
    for n in batch instance; do
        (! grep -q 'instance_norm [>=]' $n.yaml)
        printf "network: $n.yaml\nbase: 2\nbatch: 4\n" >$n.c.yaml
        train -c $n.c.yaml -o $n <e.tns
    done
    printf 'network: unet\nbase: 2\nbatch: 4\n' >c.yaml
    train -c c.yaml -o plain <e.tns
    printf 'parameters: {instance_norm: 1, slope: 0.01}\n' >>c.yaml
    train -c c.yaml -o set <e.tns
    cmp <(tensors plain) <(tensors batch)
    cmp <(tensors set) <(tensors instance)
    ! cmp -s <(tensors set) <(tensors plain) || false
    infer -t none -m set <train.tns | dice >/dev/null
}

@test "network: slices are padded to what it divides by, and no further" {
    sizes() { # TEXT
        printf 'network: %s\nbatch: 4\n' "$1" >c.yaml
        epochs -b 0 -n 1 train.tns | train -n -c c.yaml | sed -n 2p
    }
    common >five.yaml
    [[ "$(sizes five.yaml)" == *" 64x64,"* ]]
    cat >none.yaml <<'EOF'
network:
  - {op: input, channels: 4}
  - {op: convolution, name: c, channels: 8, kernel: 3}
  - {op: relu}
  - {op: head, name: head, channels: 4}
  - {op: loss}
EOF
    [[ "$(sizes none.yaml)" == *" 40x33,"* ]]
    sed 's/  - {op: relu}/  - {op: max_pool, size: [4, 3]}\n  - {op: transposed_convolution, name: up, channels: 8, kernel: [4, 3], stride: [4, 3]}/' none.yaml >odd.yaml
    [[ "$(sizes odd.yaml)" == *" 40x33,"* ]]
    sed 's/\[4, 3\]/[3, 4]/g' odd.yaml >even.yaml
    [[ "$(sizes even.yaml)" == *" 42x36,"* ]]
    printf 'network: even.yaml\nsize: 42x33\n' >c.yaml
    run -1 train -n -c c.yaml
    [[ $output == *"c.yaml: size: (wanted multiples of 3x4, got 42x33)"* ]]
    for n in none odd even; do
        printf 'network: %s.yaml\nbatch: 4\n' $n >c.yaml
        epochs -b 0 -n 1 train.tns | train -c c.yaml -o $n 2>/dev/null
        infer -t none -m $n <train.tns | dice >/dev/null
    done
}

@test "network: what is wrong is told with its line and operation" {
    try() { # SED MESSAGE
        common | sed "$1" >mine.yaml
        run -1 --separate-stderr train -n -c c.yaml
        [[ $stderr == "train: "$2 ]] || { echo "$stderr" >&2; return 1; }
    }
    printf 'network: mine.yaml\nsize: 64x64\n' >c.yaml
    try 's/op: relu/op: rellu/' "mine.yaml:9: operation (rellu): no such operation or block (is 'relu' meant?)"
    try 's/channels: c, kernel: 3/channels: c, kernal: 3/' "mine.yaml:7: operation 'top.conv' (convolution): unknown attribute 'kernal' (wanted channels, kernel, "*
    try 's/kernel: 3/kernel: 4 \/ 3/' "mine.yaml:7: operation 'top.conv' (convolution): kernel: "*"1.33333"*
    try 's/kernel: 3/kernel: 0x3/' "mine.yaml:7: operation 'top.conv' (convolution): kernel: '0x3': (wanted a number, got '0x3')"
    try 's/op: relu/op: leaky_relu, slope: 1/' "mine.yaml:9: operation (leaky_relu): slope: out of range (wanted 0..0.999, got 1)"
    try 's/op: relu/op: dropout, p: 1/' "mine.yaml:9: operation (dropout): p: out of range (wanted 0..0.999, got 1)"
    # 32768 * 32768 * 9 products, at a quarter of the pixels.
    try 's/channels: c, kernel: 3/channels: 32768, kernel: 3/' "mine.yaml:7: operation 'd1.one.conv' (convolution): too much work so far (wanted at most 1e+09 flops a pixel, got 4.83e+09)"
    try 's/name: u4, in: \[d5, d4\]/name: u4, in: [d5, d6]/' "mine.yaml:31: operation 'u4' (up): unknown value 'd6' (is 'd1' meant?)"
    try 's/in: \[u1, top\]/in: [u1, d1]/' "mine.yaml:21: operation (concat): "*
    try 's/  - {op: input.*/  - {op: relu}/' "mine.yaml:24: operation (relu): "*
    try '/op: loss/d' "mine.yaml:36: operation 'head' (head): nobody reads what it makes"
    try 's/classes: 4,/classes: 3,/' "c.yaml: mine.yaml: a head of too few channels (wanted 4 to 16, got 3)"
    try '/op: up, name: u0/d; s/{op: head,/& in: u1,/' "mine.yaml:35: operation 'head' (head): predicts, and has not the image's size (1/2 of it)"
    try 's/{op: loss}/&\n  - {op: head, name: low, in: u1, channels: 5}\n  - {op: loss}/' "mine.yaml:38: operation 'low' (head): heads differ in channels (4 and 5)"
    try 's/classes: 4,/classes: 17,/' "mine.yaml:36: operation 'head' (head): channels: out of range (wanted 1..16, got 17)"
    echo 'classes: 6' >>c.yaml
    try 's/channels: classes/channels: 5/' "c.yaml: mine.yaml: a head that heeds no parameter classes (wanted 6 channels, got 5)"
    sed -i '$s/.*/regions: wt=1,2,3;tc=1,3;et=3/' c.yaml
    try 's/channels: classes/channels: 5/' "c.yaml: mine.yaml: a head that heeds no parameter classes (wanted 3 channels, got 5)"
    # Not silently: who sets both says two things of the outputs.
    echo 'parameters: {classes: 7}' >>c.yaml
    try '' "c.yaml: parameters: classes: (wanted 3, one for each region, got 7)"
    sed -i '$s/7/3/' c.yaml
    train -n -c c.yaml | head -n 1 | grep -q ' 3 classes'
    sed -i '$d' c.yaml
    sed -i '$d' c.yaml
    try 's/op: loss/op: \&x loss/' "mine.yaml:37: anchors, aliases and tags have no place here"
    echo 'parameters: {gruops: 2}' >>c.yaml
    try '' "mine.yaml:2: no parameter 'gruops' (is 'groups' meant?)"
}

@test "network: the settings and eleven parameters beside them all arrive" {
    cat >mine.yaml <<'EOF'
parameters: {inputs: 4, classes: 4, base: 4, dropout: 0, deep_supervision: 0, a: 0, b: 0, c: 0, d: 0, e: 0, f: 0, g: 0, h: 0, i: 0, j: 0, k: 0}
network:
  - {op: input, channels: inputs}
  - {op: convolution, name: c, channels: base + a + b + c + d + e + f + g + h + i + j + k, kernel: 3}
  - {op: dropout, p: dropout}
  - {op: head, name: head, channels: classes}
  - {op: loss}
EOF
    printf 'network: mine.yaml\nsize: 32x32\nbase: 8\nchannels: 4\nclasses: 5\nregions: none\ndropout: 0.5\ndeep_supervision: true\n' >c.yaml
    echo 'parameters: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1, j: 1, k: 1}' >>c.yaml
    train -n -c c.yaml >plan
    grep -q '^c  *convolution  *19x32x32 ' plan
    head -n 1 plan | grep -q ' 5 classes'
}

@test "network: weights have a bound, however small the map" {
    # 40000 * 40000 * 9, where a map is a thousandth of the image wide.
    cat >mine.yaml <<'EOF'
network:
  - {op: input, channels: 4}
  - {op: max_pool, size: 4}
  - {op: max_pool, size: 4}
  - {op: max_pool, size: 4}
  - {op: max_pool, size: 4}
  - {op: max_pool, size: 4}
  - {op: convolution, name: wide, channels: 40000, kernel: 1}
  - {op: convolution, name: deep, channels: 40000, kernel: 3}
  - {op: convolution, name: thin, channels: 4, kernel: 1}
  - {op: nearest, factor: 16}
  - {op: nearest, factor: 16}
  - {op: nearest, factor: 4}
  - {op: head, name: head, channels: 4}
  - {op: loss}
EOF
    printf 'network: mine.yaml\nsize: 1024x1024\n' >c.yaml
    run -1 --separate-stderr train -n -c c.yaml
    [ "$stderr" = "train: mine.yaml:9: operation 'deep' (convolution): too much work so far (wanted at most 2e+09 weights, got 1.44e+10)" ]
    # The largest that come with the program are far below both.
    for n in unet attention residual nnunet2d transunet unet3d attention3d residual3d transunet3d; do
        b=256
        [[ $n != *3d ]] || b=128
        printf "network: $n\nbase: $b\nbatch: 1\nsize: 192x160\n" >c.yaml
        epochs -b 0 -n 1 $(slabs $n) train.tns | train -n -c c.yaml >plan
        tail -n 1 plan | grep -q '^peak: '
    done
}

@test "network: the settings name a network that there is, in their own folder" {
    try() { # SETTINGS MESSAGE
        printf -- "$1" >c.yaml
        run -1 --separate-stderr train -n -c c.yaml
        [[ $stderr == "train: "$2 ]] || { echo "$stderr" >&2; return 1; }
    }
    try 'network: resdual\n' "c.yaml: unknown network 'resdual' (is 'residual' meant?)"
    try 'arch: unet.yaml\n' "c.yaml: unknown network 'unet.yaml' (is 'unet' meant?)"
    try 'arch: unet\nnetwork: unet\n' "c.yaml: both network and arch (wanted one of them)"
    try 'network: none.yaml\n' "./none.yaml: No such file or directory"
    try 'network: /etc/mine.yaml\n' "c.yaml: network: (wanted a file in the folder of the settings, got '/etc/mine.yaml')"
    try 'network: a/../../mine.yaml\n' "c.yaml: network: (wanted a file in the folder of the settings, got 'a/../../mine.yaml')"
    try 'network: ../mine.yaml\n' "c.yaml: network: (wanted a file in the folder of the settings, got '../mine.yaml')"
    mkfifo pipe.yaml
    try 'network: pipe.yaml\n' "./pipe.yaml: is a pipe or a device (wanted a regular file)"
    head -c 65537 /dev/zero | tr '\0' '#' >long.yaml
    try 'network: long.yaml\n' "./long.yaml: too long for a network (wanted at most 65536 bytes)"
    try 'network: unet\nbase: 2\nparameters: {base: 4}\n' "c.yaml: parameters: 'base' is a setting already"
    try 'network: unet\nparameters: {base: 4, base: 5}\n' "c.yaml:2: parameters: 'base' stands twice"
    try 'network: unet\nparameters: {base: many}\n' "c.yaml:2: parameters: base: (wanted a number, got 'many')"
    try "network: unet\nparameters: {$(printf 'p%d: 1, ' {1..11}) p12: 1}\n" "c.yaml:2: parameters: more than 11"
    try 'network: unet\nparameters: 4\n' "c.yaml:2: parameters: (wanted a mapping, {name: number}, got a plain value)"
    try 'network: unet\nparameters: {base: 0x4}\n' "c.yaml:2: parameters: base: (wanted a number, got '0x4')"
    try 'network: unet\nbase: 0x10\n' "c.yaml:2: base: (wanted a whole number from 1 to 256, got '0x10')"
    try 'network: unet\nbase: 257\n' "c.yaml:2: base: (wanted a whole number from 1 to 256, got '257')"
    try 'network: unet\nrate: inf\n' "c.yaml:2: rate: (wanted a number from 0 to 100, got 'inf')"
    try 'network: unet\nsize: 0x20x32\n' "c.yaml:2: size: (wanted HEIGHTxWIDTH from 1x1 to 8192x8192, got '0x20x32')"
    try 'network: unet\nmomentum: 0.9\n' "c.yaml: momentum is sgd's alone (optimiser is adam)"
    try 'network: unet\nclasses: 4\nregions: wt=1,2,3;tc=1,3;et=3;rc=4\n' "c.yaml: regions: region 'rc': (wanted labels from 1 to 3, got '4')"
    try 'network: [unet]\n' "c.yaml:1: network: (wanted a plain value)"
    mkdir -p s/texts
    common >s/texts/mine.yaml
    printf "network: 'texts/mine.yaml'\nsize: 64x64\nregions: none\n" >s/c.yaml
    train -n -c s/c.yaml | head -n 1 | grep -q '4 channels in, 4 classes'
}

@test "network: a run goes on with the text that it had, and no other" {
    common >mine.yaml
    printf "network: mine.yaml\nbatch: 4\n$PLAIN" >c.yaml
    epochs -b 0 -n 1 train.tns >stream
    train -c c.yaml -o m <stream
    sed -i.bak 's/eps: 1e-3/eps: 1e-4/' mine.yaml
    run -1 --separate-stderr train -r -c c.yaml -o m <stream
    [ "$stderr" = "train: -r: another network than that of the run so far (wanted '      - {op: batch_norm, name: norm, eps: 1e-3}', got '      - {op: batch_norm, name: norm, eps: 1e-4}')" ]
    cp mine.yaml.bak other.yaml
    sed -i.bak 's/mine/other/' c.yaml
    run -1 --separate-stderr train -r -c c.yaml -o m <stream
    [ "$stderr" = "train: -r: another configuration than that of the run so far (wanted 'network: mine.yaml', got 'network: other.yaml')" ]
    for f in mine.yaml c.yaml; do mv $f.bak $f; done
    train -r -c c.yaml -o m <stream
}

@test "network: m and v are names as good as others, beside the moments of Adam" {
    cat >mine.yaml <<'EOF'
parameters: {inputs: 4, classes: 4}
blocks:
  layer:
    body:
      - {op: convolution, name: a, channels: 4, kernel: 3}
      - {op: relu}
network:
  - {op: input, channels: inputs}
  - {op: convolution, name: a, channels: 4, kernel: 3}
  - {op: layer, name: m}
  - {op: convolution, name: v, channels: 4, kernel: 3}
  - {op: head, name: head, channels: classes}
  - {op: loss}
EOF
    sed 's/name: m}/name: one}/; s/name: v,/name: two,/' mine.yaml >other.yaml
    for n in mine other; do
        printf 'network: %s.yaml\nbatch: 4\n' $n >$n.c.yaml
        epochs -b 0 -n 2 -s 1 train.tns >e.tns
        train -c $n.c.yaml -o $n <e.tns
        infer -t none -m $n <train.tns >/dev/null
    done
    [ "$(tensors mine | wc -c)" = "$(tensors other | wc -c)" ]
    # What was cut off goes on with the moments that it had.
    head -c $(($(wc -c <e.tns) * 3 / 4)) e.tns >cut.tns
    run -1 train -c mine.c.yaml -o again <cut.tns
    train -r -c mine.c.yaml -o again <e.tns
    cmp mine again
}

@test "network: a model of version 1, which names its network, gives what it gave" {
    # Written by the last program that knew no texts: residual, base 1, dropout 0.1, f16. The sum is that of all that the
    # same program predicted with it.
    gzip -dc "$ROOT/tests/vectors/residual-version1.safetensors.gz" >old
    raw_blobs -p 1 -1 20 -n 2 -d 32x24 >new.tns
    KR_ISA=plain infer -t none -P -m old <new.tns >p.tns
    py <<'PY'
import hashlib
h = hashlib.sha256()
for _, t in read("p.tns"):
    h.update(t["pred"].tobytes() + t["prob"].tobytes())
assert h.hexdigest() == "d90d467ede283e375d76c31b1769ac19d188ab563e6e4f33fbf0665dc4b8b964", h.hexdigest()
PY
    infer -n -m old | grep -qFx $'parameters\tbase=1 inputs=4 classes=4 dropout=0.1'
    infer -n -m old | sed -n 's/^network.//p' | cmp - "$ROOT/pipelines/networks/residual.yaml"
    # The others: a model of today's, told as version 1 told it.
    for a in unet attention; do
        printf 'network: %s\nbase: 2\nbatch: 4\n' $a >c.yaml
        epochs -b 0 -n 1 train.tns | train -c c.yaml -o $a
        edit $a one 'del m["network"], m["parameters"]
m.update(model="1", base="2", channels="4", classes="4", dropout="0")'
        infer -t none -P -H -m $a <train.tns >now.tns
        infer -t none -P -H -m one <train.tns | cmp - now.tns
    done
    edit one bad 'm["arch"] = "nnunet"'
    run -1 --separate-stderr pipe 'infer -t none -m bad <train.tns >p.tns'
    [ "$stderr" = "infer: bad: unknown architecture 'nnunet'" ]
    edit one bad 'm["base"] = "1000000"'
    run -1 --separate-stderr pipe 'infer -t none -m bad <train.tns >p.tns'
    [[ $stderr == "infer: bad:"*" operation 'enc1.conv1' (convolution): channels: "* ]]
}

# Probabilities of unet, attention and residual (base 8, weights made of their names) as the last program that knew no texts
# computed them, at each ISA level that this processor has.
@test "network: of the networks that were C the probabilities are what they were, bit by bit, at each ISA level" {
    raw_blobs -p 1 -1 20 -n 2 -d 64x48 >new.tns
    for a in unet attention residual; do
        printf "network: $a\nbase: 8\nbatch: 4\n$PLAIN" >c.yaml
        epochs -b 0 -n 1 train.tns | train -c c.yaml -o $a
        edit $a $a.1 'del m["network"], m["parameters"]
m.update(model="1", base="8", channels="4", classes="4", dropout="0")
import numpy as np, zlib
body = bytearray(b[8 + n:])
for name, t in h.items():
    if name != "__metadata__":
        at, end = t["data_offsets"]
        x = np.arange((end - at) // 4, dtype="u4") * np.uint32(2654435761) + np.uint32(zlib.crc32(name.encode()))
        x = ((x ^ x >> 15) * np.uint32(2246822519) >> 16) / 65536 - .5
        fan = int(np.prod(t["shape"][1:]))
        x = 1 + x / 2 if len(t["shape"]) < 2 and not name.endswith(("bias", "mean")) else x / 2 ** (fan.bit_length() // 2 - 1)
        body[at:end] = x.astype("<f4").tobytes()
b = b[:8 + n] + bytes(body)'
        for level in plain avx2 avx512; do
            if KR_ISA=$level infer -t none -P -m $a.1 <new.tns >$a.$level 2>said; then :; else grep -q "infer: KR_ISA: " said; fi
        done
    done
    py <<'PY'
import hashlib, os
want = {
    "unet.plain": "699a646e8e5166e371cfb6312e73fb167b9ef15a0bc8c43d75befae24ee408d5",
    "unet.avx2": "772314330a2e627aa5b6ea41e1fa04708f42b5824404387459c652f1caf4baf4",
    "unet.avx512": "772314330a2e627aa5b6ea41e1fa04708f42b5824404387459c652f1caf4baf4",
    "attention.plain": "d0f0e698afe5ffa7cba6182304f9d9e91354a448872bdb6c5c8139f194b4117a",
    "attention.avx2": "f0e45f13e15535a54e097f5fb5956c76bc4a3f834f30f81a0f7feb016fd26fc2",
    "attention.avx512": "3de66e0a68c84ecb7ae2a7507bb7cca2d6d9a9925c76e4f0f3688c443110d9a1",
    "residual.plain": "a030a91fb56e6b37278f481f4ecf8dba32fbffa3b8ff56c11d19d85b6ba90bbc",
    "residual.avx2": "23cd52084169b96a7484ec42c867d81a445a3c214d299f8965216c0ace205e11",
    "residual.avx512": "23cd52084169b96a7484ec42c867d81a445a3c214d299f8965216c0ace205e11",
}
for f, w in want.items():
    if os.path.getsize(f):
        h = hashlib.sha256()
        for _, t in read(f):
            assert 0 < t["prob"].min() and t["prob"].std() > .01, (f, t["prob"].std())
            h.update(t["prob"].tobytes())
        assert h.hexdigest() == w, (f, h.hexdigest())
PY
}

@test "network: a hostile description in a model is refused with one line" {
    common >mine.yaml
    printf "network: mine.yaml\nbatch: 4\n$PLAIN" >c.yaml
    epochs -b 0 -n 1 train.tns | train -c c.yaml -o m
    try() { # PYTHON MESSAGE
        edit m bad "$1"
        for how in "-n" ""; do
            run -1 --separate-stderr pipe "infer $how -m bad <train.tns >p.tns"
            [[ $stderr == "infer: bad:"$2 && $stderr != *$'\n'* ]] || { echo "$1: $stderr" >&2; return 1; }
            run -1 tnsview -c <p.tns
        done
    }
    try 'del m["network"]' " the model's metadata has no sound 'network'"
    try 'del m["parameters"]' " the model's metadata has no sound 'parameters'"
    try 'm["parameters"] = "base"' " the model's metadata has no sound 'parameters'"
    for key in arch modalities scheme generator; do
        try "m['$key'] += '\\n'" " the model's metadata has no sound '$key'"
    done
    try 'm["arch"] = "r\u00e9seau"' " the model's metadata has no sound 'arch'" # which may be cut anywhere
    try 'm["patients"] += "\r\n"' " the model's metadata has no sound 'patients'"
    try 'm["parameters"] = "base=0x4"' " the model's metadata has no sound 'parameters'"
    try 'm["parameters"] = "base=nan"' " the model's metadata has no sound 'parameters'"
    try 'm["spacing"] = "1 1 1 2 2"' " the model's metadata has no sound 'spacing'"
    try 'm["parameters"] = " ".join(f"a{i}=1" for i in range(17))' " the model's metadata has no sound 'parameters'"
    try 'm["parameters"] = "depth=3"' "2: no parameter 'depth' (is "*
    try 'm["steps"] = "znorm -p case\ncrop"' " the model's metadata has no sound 'steps'" # no end of the line
    try 'm["model"] = "3"' " a model of a newer version (wanted 2, got 3)"
    try 'm["network"] = ""' "1: empty (wanted a network"*
    try 'm["network"] += "\x1b[2J"' "38: not YAML: "*
    try 'm["network"] = "#" * 65537' " too long (wanted at most 65536 bytes, got 65537)"
    try 'm["network"] = "[" * 60000' "1: nested too deep"
    try 'm["network"] = "network: [{op: a}]\nblocks: {a: {body: [{op: a, in: []}]}}"' "1: operation (a): inputs: (wanted 1, got 0)"
    try 'm["network"] = "network: [{op: input, channels: 4}, {op: a}]\nblocks: {a: {body: [{op: a}, {op: a}]}}"' "2: operation (a): blocks in blocks more than 8 deep"
    try 'm["network"] = m["network"].replace("base: 4", "base: 60000")' "7: operation 'd1.one.conv' (convolution): channels: out of range "*
    try 'm["network"] = m["network"].replace("eps: 1e-3", "eps: 1e999")' "8: operation 'top.norm' (batch_norm): "*
    # Another network than the weights are of.
    edit m bad 'm["network"] = m["network"].replace("name: u0", "name: zz")'
    run -1 --separate-stderr pipe 'infer -t none -m bad <train.tns >p.tns'
    [[ $stderr == "infer: bad: "*"'zz.up.weight'"* && $stderr != *$'\n'* ]]
}

@test "network: what 512 operations need at least is told, and is enough" {
    (echo 'network:'; echo '  - {op: input, channels: 4}'
     for i in $(seq 509); do echo "  - {op: convolution, name: c$i, channels: 4, kernel: 3}"; done
     echo '  - {op: head, name: head, channels: 4}'; echo '  - {op: loss}') >long.yaml
    printf 'network: long.yaml\nbatch: 4\nsize: 32x32\n' >c.yaml
    run -1 --separate-stderr train -n -M 1M -c c.yaml
    [[ $stderr =~ ^"train: does not fit in 1 MiB (at least "([0-9]+)" MiB are needed)"$ ]]
    least=${BASH_REMATCH[1]}
    train -n -M ${least}M -c c.yaml >plan
    run -1 train -n -M $((least - 1))M -c c.yaml
    # Every second map kept, and the one between made again from it, would be half of what is kept without a ceiling.
    train -n -c c.yaml >free
    maps() { sed -n 's/^memory:.*maps \([0-9.]*\),.*/\1/p' "$1"; }
    awk -v a="$(maps plan)" -v b="$(maps free)" 'BEGIN { exit !(a > 0 && a < b / 2) }'
}
