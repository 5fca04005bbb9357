# infer with a planar network that sees neighbours: from a plain stream of slices it makes what it needs.
load ../lib/common
load ../lib/records
load ../lib/memory

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    "$PYTHON" -c 'import numpy' || return 0
    blobs -p 2 -n 5 >train.tns
    { blobs -p 2 -n 7 -1 10 -d 24x33; blobs -p 1 -n 1 -1 12; blobs -p 1 -n 2 -1 13; blobs -p 1 -n 20 -1 14 -d 16x16; } >new.tns
    for k in 1 2; do
        printf '%s\n' 'arch: unet' 'base: 2' 'batch: 4' 'rate: 0.01' "neighbours: $k" >c.yaml
        epochs -b 0 -n 3 -N $k train.tns | train -c c.yaml -o beside$k
        for f in train new; do
            "$PYTHON" "$ROOT/tests/lib/beside.py" $k <$f.tns >$f$k.tns
        done
        # The same weights in a network that is given all channels: what each slice's prediction has to be.
        printf '%s\n' 'arch: unet' 'base: 2' 'batch: 4' 'rate: 0.01' "channels: $((8 * k + 4))" >c.yaml
        epochs -b 0 -n 3 train$k.tns | train -c c.yaml -o hand$k
    done
    printf '%s\n' 'arch: unet' 'base: 2' 'batch: 4' 'rate: 0.01' >c.yaml
    epochs -b 0 -n 2 train.tns | train -c c.yaml -o flat
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
    cp "$BATS_FILE_TMPDIR"/* .
}

@test "infer: a model that sees neighbours gives what it gives of channels that were put there by hand" {
    for k in 1 2; do
        for o in "-P" "-P -u -t xy"; do
            infer $o -m beside$k <new.tns >got.tns
            infer $o -m hand$k <new$k.tns >want.tns
            py <<'PY'
got, want = read("got.tns"), read("want.tns")
assert len(got) == len(want) == 37
for (m, a), (n, b) in zip(got, want):
    assert (m["case"], m["slice"]) == (n["case"], n["slice"]) and a["image"].shape[0] == 4
    assert all(a[t].tobytes() == b[t].tobytes() for t in b if t != "image"), m
PY
        done
    done
    infer -t none -n -m beside2 >said
    grep -qx $'neighbours\t2' said
    grep -qx $'lag\t2' said
    grep -qx $'modalities\tflair,t1,t1gd,t2' said
}

@test "infer: neither threads, nor a ceiling, nor another order of modalities changes what neighbours are" {
    infer -t none -P -j 1 -m beside1 <new.tns >one.tns
    infer -t none -P -j 3 -m beside1 <new.tns >three.tns
    cmp one.tns three.tns
    infer -t none -v -P -m beside1 <new.tns 2>free.txt >/dev/null
    infer -t none -v -P -M 8M -m beside1 <new.tns 2>tight.txt >tight.tns
    grep -q ' at once of .*, each 1 slices later' free.txt
    at_once() { sed -n 's/^infer: \([0-9]*\) at once of .*/\1/p' "$1"; }
    [ "$(at_once tight.txt)" -lt "$(at_once free.txt)" ]
    cmp one.tns tight.tns
    blobs -p 1 -n 6 -1 10 >a.tns
    blobs -p 1 -n 6 -1 10 -m t2,t1gd,flair,t1 >b.tns
    for f in a b; do
        infer -t none -m beside1 <$f.tns >$f.out
    done
    py <<'PY'
assert [t["pred"].tobytes() for _, t in read("a.out")] == [t["pred"].tobytes() for _, t in read("b.out")]
PY
}

@test "infer: models with different neighbours and without are averaged" {
    for m in beside1 beside2 flat; do infer -t none -P -m $m <new.tns >$m.tns; done
    infer -t none -P -m beside1 -m flat -m beside2 <new.tns >three.tns
    py <<'PY'
one = [read(f"{m}.tns") for m in ("beside1", "flat", "beside2")]
for i, (m, t) in enumerate(read("three.tns")):
    assert m["slice"] == one[0][i][0]["slice"] and (sum(o[i][1]["prob"] for o in one) / np.float32(3) == t["prob"]).all()
PY
}

@test "infer: with neighbours it takes no more than it planned, whatever the depth" {
    need_release memory
    need_command time
    for n in 8 60; do
        blobs -p 1 -n $n -1 20 -d 96x96 >deep$n.tns
        infer -t none -v -P -m beside2 <deep$n.tns 2>said >p.tns
        planned=$(sed -n 's/.*, \([0-9.]*\) MiB$/\1/p' said)
        kib=$(peak_kib sh -c 'exec infer -t none -P -m beside2 <"$1"' sh deep$n.tns)
        awk -v k="$kib" -v p="$planned" 'BEGIN { exit !(k <= 1024 * p) }' || { echo "$n slices: $kib KiB, planned $planned MiB"; false; }
    done
}

@test "infer: what comes beside has to be there" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 1 -1 20 -l nii2slices -l "znorm -p case" -k norm=case -k slice=1 -k slices=3 >g.tns
    run -1 pipe 'infer -t none -m beside1 <g.tns >x.tns'
    [[ $output == *"(wanted 0 of 3, got 1 of 3)"* ]]
    infer -t none -m flat <g.tns >x.tns
}
