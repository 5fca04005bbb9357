load ../lib/common
load ../lib/records

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 3 -n 4 -e -d 48x32 >a.tns
}

@test "augment: what happens to a record does not hang on the records around it" {
    all="noise@1 brightness@1 contrast@1 gamma@0.5 gammainv@0.5 blur@0.5 lowres@0.5 rotate@0.5 scale@0.5 flip elastic@0.3"
    epochs -n 2 -s 1 a.tns | augment -s 3 $all >one.tns
    epochs -n 2 -s 8 a.tns | augment -s 3 $all >two.tns
    epochs -n 2 -s 1 -k 5 a.tns | augment -s 3 $all >rest.tns
    py <<'PY'
def table(path):
    return {(m["case"], m["slice"], m["epoch"]): t for m, t in read(path) if "mark" not in m}
one, two, rest = map(table, ("one.tns", "two.tns", "rest.tns"))
assert len(one) == len(two) == 24 and len(rest) == 19
for k in two:
    assert all((two[k][n] == one[k][n]).all() for n in two[k]), k
for k in rest:
    assert all((rest[k][n] == one[k][n]).all() for n in rest[k]), k
assert all((one[c, s, "0"]["image"] != one[c, s, "1"]["image"]).any() for c, s, _ in one)
PY
}

@test "augment: two runs give the same bytes, another seed others" {
    augment -s 1 noise@1 <a.tns >one.tns
    augment -s 1 noise@1 <a.tns >two.tns
    cmp one.tns two.tns
    augment -s 2 noise@1 <a.tns >two.tns
    run ! cmp one.tns two.tns
}

@test "augment: -T changes only slices that hold one of the labels" {
    augment -s 1 -T 1,3 noise@1 <a.tns >b.tns
    py <<'PY'
for (m, old), (_, new) in zip(read("a.tns"), read("b.tns")):
    rare = np.isin(old["label"], (1, 3)).any()
    assert rare == (int(m["slice"]) % 2 == 0) == (old["image"] != new["image"]).any()
    assert (old["label"] == new["label"]).all()
PY
}

@test "augment: the history spells out what was asked for, in the order of doing" {
    augment -s 4 -T 3 gamma=0.8:1.2@1 noise flip=x rotate=15@0.5 <a.tns >b.tns
    py <<'PY'
read("b.tns")
assert read.header == ["history=augment -s 4 -T 3 rotate=15:15@0.5 flip=x@0.5 noise=0:0.1@0.1 gamma=0.7:1.5@0.3".replace("0.7:1.5@0.3", "0.8:1.2@1")], read.header
PY
}

@test "augment: epoch marks pass through" {
    epochs -n 2 a.tns | augment noise >b.tns
    py <<'PY'
assert [i for i, (m, t) in enumerate(read("b.tns")) if m.get("mark") == "epoch" and not t] == [12, 25]
PY
}

@test "augment: a prediction is not torn from its image" {
    "$PYTHON" - <<'PY'
import re
b = open("a.tns", "rb").read()
# The label of each record is called pred instead; both checks of the front are made anew.
import struct, zlib
b = bytearray(b)
at = 0
while at < len(b):
    m, nt, rest = *struct.unpack_from("<II", b, at + 12), struct.unpack_from("<Q", b, at + 24)[0]
    d = at + 64 + (m + 63) // 64 * 64
    if nt == 2:
        b[d + 128:d + 136] = b"pred\0\0\0\0"
        struct.pack_into("<I", b, at + 20, zlib.crc32(b[at + 64:d + 256]))
        struct.pack_into("<I", b, at + 60, zlib.crc32(b[at:at + 60]))
    at += 64 + rest
open("p.tns", "wb").write(b)
PY
    run -1 pipe 'augment flip <p.tns >b.tns'
    [[ $output == *"tear image and prediction apart"* ]]
    augment noise <p.tns >b.tns
    run -1 pipe 'augment -T 1 noise <p.tns >b.tns'
    [[ $output == *"no tensor 'label'"* ]]
}

@test "augment: wrong usage is told apart from wrong data" {
    run -2 pipe 'augment <a.tns >b.tns'
    for wrong in nose noise=1:0 noise=-1:1 noise@0 noise@2 noise=x flip=z flip= lowres=0.5:2 noise=nan rotate=0:10@ 'noise noise'; do
        run -2 pipe "augment $wrong <a.tns >b.tns"
    done
    run -2 pipe 'augment -T x noise <a.tns >b.tns'
    run -1 pipe 'head -c 9000 a.tns | augment noise >b.tns'
}

@test "augment: stays within 8 MiB on full slices" {
    need_release "it needs more memory"
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 3 -d 240x240 >f.tns
    [ "$(peak_kib augment noise@1 blur@1 rotate@1 elastic@1 lowres@1 gamma@1 <f.tns)" -le 8192 ]
}
