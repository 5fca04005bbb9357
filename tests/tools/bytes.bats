# The same input gives the same bytes: whatever the number of threads, the ceiling and what happens to go at once.
# In the check a U-Net of base 8; with LONG=1 (make check-long) one of base 64 too, whose sums go in panels, and the others.
load ../lib/common
load ../lib/records

nets="unet8 ${LONG:+unet64 attention8 residual8}"

# Base 8 at the size of a study's slices, base 64 at 48x48.
size() { # NET
    [ "${1##*[a-z]}" = 8 ] && echo 160x192 || echo 48x48
}

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    for net in $nets; do
        printf 'arch: %s\nbase: %d\nbatch: 4\nrate: 0.0003\n' "${net%%[0-9]*}" "${net##*[a-z]}" >c$net.yaml
        raw_blobs -p 2 -n 3 -d "$(size "$net")" >t$net.tns
        epochs -b 0 -n 1 t$net.tns >e$net.tns
        train -c c$net.yaml -o m$net <e$net.tns
        raw_blobs -p 8 -n 1 -1 10 -d "$(size "$net")" >v$net.tns
        raw_blobs -p 3 -n 1 -1 10 -d "$(size "$net")" >w$net.tns
    done
}

setup() {
    need_release "the engine takes its time"
    cp "$BATS_FILE_TMPDIR"/* "$BATS_TEST_TMPDIR"
    cd "$BATS_TEST_TMPDIR"
}

# Ceilings for a command that takes -M: the least that does, and one a fifth above.
ceilings() { # COMMAND...
    local least
    least=$("$@" -M 1M 2>&1 >/dev/null | sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p')
    [ "$least" -gt 0 ]
    echo "-M${least}M -M$((least * 6 / 5))M "
}

@test "bytes: prob of a slice alone is prob of it among neighbours" {
    for net in $nets; do
        for i in 0 1 2 3 4 5 6 7; do
            raw_blobs -p 1 -n 1 -1 $((10 + i)) -d "$(size $net)" | infer -t none -P -j 1 -m m$net >alone$i.tns
        done
        for n in 2 3 4 5 6 7 8; do
            raw_blobs -p $n -n 1 -1 10 -d "$(size $net)" | infer -t none -P -m m$net >among$n.tns
        done
        py <<'PY'
alone = [read(f"alone{i}.tns")[0][1]["prob"].tobytes() for i in range(8)]
assert len(set(alone)) == 8
for n in range(2, 9):
    got = [t["prob"].tobytes() for _, t in read(f"among{n}.tns")]
    assert got == alone[:n], (n, [i for i, p in enumerate(got) if p != alone[i]])
PY
    done
}

@test "bytes: prob is one for any number of threads, any ceiling, and ten times over" {
    for net in $nets; do
        infer -t none -P -j 2 -m m$net <v$net.tns >want.tns
        for i in 1 2 3 4 5 6 7 8 9 10; do
            # However the stream comes: as a whole, or in pieces that end anywhere.
            dd bs=$((i * 30011)) status=none <v$net.tns | infer -t none -P -j $((i % 5 + 1)) -m m$net | cmp - want.tns
        done
        infer -t none -P -j 2 -m m$net <w$net.tns >want.tns
        for m in $(ceilings infer -t none -P -m m$net <w$net.tns); do
            for j in 1 2 3 4 5; do infer -t none -P -j $j $m -m m$net <w$net.tns | cmp - want.tns; done
        done
    done
}

@test "bytes: under a ceiling the model is one for any number of threads" {
    for net in $nets; do
        for m in $(ceilings train -e w$net.tns -c c$net.yaml -o none <e$net.tns) ''; do
            train -j 1 $m -e w$net.tns -c c$net.yaml -o one <e$net.tns
            for j in 2 3 4 5; do
                train -j $j $m -e w$net.tns -c c$net.yaml -o other <e$net.tns
                cmp one other
                cmp one.last other.last
                rm other*
            done
            rm one*
        done
    done
}

# OpenBLAS takes memory for each thread, which no choice of the plan may depend on.
@test "bytes: under a ceiling a network with products of matrices is one model for any number of threads" {
    cat >net.yaml <<'EOF'
parameters: {inputs: 4, classes: 4}
network:
  - {op: input, channels: inputs}
  - {op: convolution, name: down, channels: 32, kernel: 5, stride: 4}
  - {op: layer_norm, name: x}
  - {op: linear, name: q, channels: 32}
  - {op: linear, name: k, in: x, channels: 32}
  - {op: linear, name: v, in: x, channels: 32}
  - {op: attention, in: [q, k, v], heads: 4}
  - {op: linear, name: out, channels: 32}
  - {op: add, in: [x, out]}
  - {op: convolution, name: wide, channels: 32, kernel: 3}
  - {op: relu}
  - {op: linear_resize, factor: 4}
  - {op: convolution, name: last, channels: 16, kernel: 3}
  - {op: relu}
  - {op: head, name: head, channels: classes}
  - {op: loss}
EOF
    printf 'network: net.yaml\nbatch: 4\n' >net.c.yaml
    for m in $(ceilings train -j 2 -c net.c.yaml -o none <eunet8.tns); do
        train -j 1 $m -c net.c.yaml -o one <eunet8.tns
        infer -t none -P -j 1 -m one <wunet8.tns >want.tns
        for j in 2 3 5; do
            train -j $j $m -c net.c.yaml -o other <eunet8.tns
            cmp one other
            infer -t none -P -j $j $m -m one <wunet8.tns | cmp - want.tns
            rm other*
        done
        rm one*
    done
}

@test "bytes: the state of a run does not tell whether a checkpoint fell due" {
    epochs -b 0 -n 2 tunet8.tns >e.tns
    for c in 0 0.00001; do
        (cat cunet8.yaml; echo "checkpoint: $c") >c.yaml
        train -e wunet8.tns -c c.yaml -o m <e.tns
        mv m.last $c
        rm m*
    done
    py <<'PY'
import json, re
def parts(path):
    b = open(path, "rb").read()
    n = 8 + struct.unpack("<Q", b[:8])[0]
    head = json.loads(b[8:n])
    meta = head.pop("__metadata__")
    meta["config"] = re.sub("checkpoint: .*", "", meta["config"])
    return [(k, v) for k, v in meta.items() if k != "xxh3"], list(head.items()), b[n:]
never, always = parts("0"), parts("0.00001")
assert never[0] == always[0], set(never[0]) ^ set(always[0]) or "another order"
assert never[1:] == always[1:]
PY
}
