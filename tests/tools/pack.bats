# pack: streams whose payloads are encoded (formats/tns.md, 6.4), and whoever reads them.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
}

make() {
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" make "$@"
}
dump() {
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" dump
}
bytes() {
    stat -c %s "$1"
}

@test "pack: what is packed holds the same for another reader, and unpacks to the bytes that there were" {
    for dtype in i2 f4 f8; do
        make kind=1 dtype=$dtype h=48 w=40 >in
        crop -Hu <in >plain # as our tools write it
        pack <plain >packed
        tnsview -c <packed >/dev/null
        diff <(dump <plain) <(dump <packed)
        [ "$(bytes packed)" -lt $(($(bytes plain) * 3 / 4)) ]
        pack -d <packed | cmp - plain
        pack -l 1 <packed | pack -d | cmp - plain
        pack -l 3 <plain | cmp - packed
    done
    run -2 --separate-stderr pack -d -l 3 <packed
    [[ $stderr = "pack: -l: goes without -d" ]]
}

@test "pack: -r rounds floats to the nearest half, tells of it, and packs them to less" {
    raw_blobs -p 1 -n 2 -d 64x48 >in
    pack <in >packed
    pack -r <in >rounded
    [ "$(bytes rounded)" -lt $(($(bytes packed) * 3 / 4)) ]
    pack <rounded | cmp - rounded
    for r in 0 1; do
        for f in in rounded; do "$PYTHON" "$ROOT/tests/lib/mkstream.py" get $r image <$f >$f.$r; done
        "$PYTHON" -c 'import sys, numpy as np
a, b = (np.fromfile(f, "<f4") for f in sys.argv[1:])
assert (a.astype("<f2").astype("<f4") == b).all() and (a != b).any()' in.$r rounded.$r
    done
    tnsview -n 0 <rounded | grep -q 'history=pack -r$'
    run ! grep -q history=pack <(tnsview -n 0 <packed)
    "$PYTHON" -c 'import sys; sys.path.insert(0, sys.argv[1]); import mkstream, numpy as np
sys.stdout.buffer.write(mkstream.stream({}, [({"case": "A"}, {"image": np.full((1, 2, 2), 7e4, "f4")})]))' "$ROOT/tests/lib" >large
    run -1 --separate-stderr pipe 'pack -r <large >x'
    [[ $stderr = "pack: stdin: record 0 (A): tensor 'image': too large for -r (wanted at most 65504 in size, got 70000)" ]]
}

@test "pack: passes, digests and models of a packed stream are those of the plain one" {
    command -v train >/dev/null || export PATH=$PATH:$ROOT/build/release/bin
    blobs -p 4 -n 3 | pack -d >plain
    blobs -p 2 -n 3 -1 9 | pack -d >val.plain
    for f in "" val.; do pack <${f}plain >${f}packed; done
    for f in plain packed; do
        epochs -b 0 -n 2 -s 1 $f >epochs.$f
        printf 'arch: unet\nbase: 2\n' >u.yaml
        train -c u.yaml -e val.$f -o $f.st <epochs.$f 2>/dev/null
    done
    cmp epochs.plain epochs.packed
    cmp plain.st packed.st
    # The pipe itself may be packed, and its header is as it was.
    cmp <(tnsview -n 0 <epochs.plain) <(pack <epochs.plain | tnsview -n 0)
    tnsview -n 0 <epochs.plain | grep -q digest=
    pack <epochs.plain | train -c u.yaml -e val.packed -o piped.st 2>/dev/null
    cmp plain.st piped.st
    # A run goes on with the other.
    train -x 1 -c u.yaml -e val.plain -o half.st <epochs.plain 2>/dev/null
    epochs -b 0 -n 2 -s 1 packed | train -r -c u.yaml -e val.packed -o half.st 2>/dev/null
    cmp plain.st half.st
}

@test "pack: a tool writes what it has changed plain, and passes on the rest as it came" {
    make kind=1 h=48 w=40 >in
    pack <in >packed
    printf '# folds 1 k=2 seed=1 by=patient\n0\tcase000\tcase000\n1\tcase001\tcase001\n' >folds
    pick -m folds -f 0 val <packed >side
    pick -m folds -f 0 val <in >plain
    diff <(dump <plain) <(dump <side)
    [ "$(bytes side)" -lt $(($(bytes plain) * 3 / 4)) ]
    znorm <packed >z
    diff <(znorm <in | dump) <(dump <z)
    [ "$(bytes z)" -gt "$(bytes packed)" ]
}

@test "pack: damage anywhere in a packed stream is an error with a line, and no end record goes out" {
    fails
    make kind=1 cases=2 slices=3 h=72 w=60 | pack >packed
    # shellcheck disable=SC2086
    for t in "cut filter recode -s brats2017" "flip filter znorm" "flip file epochs -b 0 -n 1"; do
        set -- $t
        "$PYTHON" "$ROOT/tests/lib/damage.py" "$1" packed "${@:2}" >>findings
    done
    [ ! -s findings ] || { cat findings; return 1; }
}

@test "pack: what a few bytes claim to hold costs no memory until they do" {
    need_release memory
    need_command time
    for n in record larger bomb frame-cut; do
        hex tns-bad-packed-$n >bad
        kib=$(peak_kib tnsview -c <bad 2>said) || true
        kib=$(tail -n 1 "$BATS_TEST_TMPDIR/peak")
        [ "$kib" -le 4096 ]
        grep -q '^tnsview: stdin: record 0.*corrupt: ' said
    done
}
