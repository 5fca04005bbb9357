load ../lib/common

# The keys of a stream's records, one record a line: keys FILE KEY...
keys() {
    "$PYTHON" - "$@" <<'PY'
import struct, sys
b, at = open(sys.argv[1], "rb").read(), 0
while at < len(b):
    kind, n, rest = chr(b[at + 10]), struct.unpack_from("<I", b, at + 12)[0], struct.unpack_from("<Q", b, at + 24)[0]
    meta = dict(l.split("=", 1) for l in b[at + 64:at + 64 + n].decode().splitlines())
    if kind == "R":
        print(" ".join(meta.get(k, "-") for k in sys.argv[2:]))
    at += 64 + rest
PY
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 3 -n 4 -e -l nii2slices -l znorm >a.tns
}

@test "epochs: every epoch holds every record once, in another order, and ends in a mark" {
    epochs -n 3 -s 1 a.tns >e.tns
    keys e.tns epoch mark patient slice >list
    [ "$(wc -l <list)" = 39 ]
    for e in 0 1 2; do
        [ "$(awk -v e=$e '$1 == e && $2 == "-" { print $3, $4 }' list | sort -u | wc -l)" = 12 ]
        [ "$(awk -v e=$e '$1 == e { last = $2 } END { print last }' list)" = epoch ]
        awk -v e=$e '$1 == e { print $3, $4 }' list >epoch$e
    done
    run ! cmp epoch0 epoch1
    run ! cmp epoch1 epoch2
    run ! cmp epoch0 epoch2
}

@test "epochs: records say where they stand, how long the epoch is and how large the slices are" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 2 -n 3 -d 48x32 >b.tns
    epochs -n 2 b.tns >e.tns
    keys e.tns epoch index epochs length largest >list
    for e in 0 1; do for i in 0 1 2 3 4 5 6; do echo "$e $i 2 6 48 32"; done; done >want
    diff want list
}

@test "epochs: the order hangs on the seed and the epoch alone" {
    epochs -n 2 -s 5 a.tns >one.tns
    epochs -n 2 -s 5 a.tns >two.tns
    cmp one.tns two.tns
    epochs -n 2 -s 6 a.tns >other.tns
    run ! diff <(keys one.tns case slice) <(keys other.tns case slice)
    epochs -n 7 -s 5 a.tns >more.tns
    diff <(keys one.tns epoch index case slice) <(keys more.tns epoch index case slice | head -n 26)
}

@test "epochs: -k gives what is left, from the middle of an epoch and at its end" {
    epochs -n 3 -s 2 a.tns >all.tns
    keys all.tns epoch index case slice mark >all
    for k in 0 1 11 12 13 35 36; do
        epochs -n 3 -s 2 -k $k a.tns >rest.tns
        keys rest.tns epoch index case slice mark >rest
        # An epoch's mark goes with its last record.
        diff <(tail -n +$((k + k / 12 + 1)) all) rest
    done
    run -1 pipe 'epochs -n 3 -s 2 -k 37 a.tns >x.tns'
    [[ $output == *"-k 37 is past the end (3 epochs of 12 records)"* ]]
}

@test "epochs: tensors and unknown keys come through bit for bit" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 1 -k x-mine=ä >b.tns
    epochs -n 1 b.tns >e.tns
    [ "$(keys e.tns x-mine | head -n 1)" = ä ]
    # One record: what follows its metadata, descriptors and payloads, stands in both files.
    "$PYTHON" - <<'PY'
import struct
def tail(path):
    b = open(path, "rb").read()
    at = 64 + struct.unpack_from("<Q", b, 24)[0]
    n, rest = struct.unpack_from("<I", b, at + 12)[0], struct.unpack_from("<Q", b, at + 24)[0]
    front = at + 64 + (n + 63) // 64 * 64
    return [b[front + 128 * i:front + 128 * i + 120] for i in range(2)], b[front + 256:at + 64 + rest]
a, e = tail("b.tns"), tail("e.tns")
# The descriptors agree but for the kind of check, which a writer may choose.
assert [d[:66] + d[67:] for d in a[0]] == [d[:66] + d[67:] for d in e[0]] and a[1] == e[1]
PY
}

@test "epochs: -b gives each batch's worth its share of a minority class" {
    # One slice of six with a tumour: 4 of 24, so that hardly a batch of 4 has two by itself.
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 4 -n 1 >with.tns
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 20 -n 1 -1 10 -k has=no >w.tns
    "$PYTHON" - <<'PY'
import struct, zlib
b = bytearray(open("w.tns", "rb").read())       # empties the labels of these 20
at = 0
while at < len(b):
    kind, m, nt, rest = b[at + 10], *struct.unpack_from("<II", b, at + 12), struct.unpack_from("<Q", b, at + 24)[0]
    if kind == 0x52:
        d = at + 64 + (m + 63) // 64 * 64
        payload = d + 256 + 4 * 32 * 32 * 4
        b[payload:payload + 1024] = bytes(1024)
        struct.pack_into("<Q", b, d + 128 + 120, zlib.crc32(bytes(1024)))
        struct.pack_into("<I", b, at + 20, zlib.crc32(b[at + 64:d + 256]))
        struct.pack_into("<I", b, at + 60, zlib.crc32(b[at:at + 60]))
    at += 64 + rest
open("without.tns", "wb").write(b)
PY
    cat with.tns without.tns >c.tns
    epochs -n 3 -s 1 -b 0.5 -B 4 c.tns >e.tns
    keys e.tns epoch index has mark repeat patient | awk '$4 == "-"' >list
    [ "$(wc -l <list)" = 72 ]
    awk '{ n[$1 " " int($2 / 4)] += $3 == "-" } END { for (i in n) if (n[i] < 2) exit 1 }' list
    # A share that is no whole number of records is rounded up: 3 of 5, and 2 of the last 4.
    epochs -n 3 -s 1 -b 0.5 -B 5 c.tns >f.tns
    keys f.tns epoch index has mark | awk '$4 == "-" { n[$1 " " int($2 / 5)] += $3 == "-" }
        END { for (i in n) { bad = bad || n[i] < (i ~ / 4$/ ? 2 : 3); k++ }; exit bad || k != 15 }'
    # Nobody stands twice in an epoch with the same number of draws.
    [ "$(awk '{ print $1, $5, $6 }' list | sort | uniq -d | wc -l)" = 0 ]
    # Where the share is there by itself, nothing is changed.
    epochs -n 1 -s 1 with.tns >plain.tns
    epochs -n 1 -s 1 -b 0.5 with.tns >same.tns
    diff <(keys plain.tns index case) <(keys same.tns index case)
    # -k meets the same order.
    epochs -n 3 -s 1 -b 0.5 -B 4 -k 30 c.tns >k.tns
    diff <(keys e.tns index patient | tail -n +32) <(keys k.tns index patient)
    run -1 pipe 'epochs -n 1 -b 0.5 without.tns >x.tns'
    [[ $output == *"no record holds a label of 1,3"* ]]
    run -0 pipe 'epochs -n 1 -b 0.5 -T 0 without.tns >x.tns'
}

@test "epochs: a pipe instead of a file is wrong usage, and the message says why" {
    run -2 pipe 'cat a.tns | epochs -n 1 /dev/stdin >x.tns'
    [[ $output == *"can be read once only"* ]]
    run -2 pipe 'epochs -n 1 <a.tns >x.tns'
    [[ $output == *"can be read once only"* ]]
    run -2 pipe 'epochs a.tns >x.tns'
    run -2 pipe 'epochs -n 0 a.tns >x.tns'
    run -2 pipe 'epochs -n 1 -b 2 a.tns >x.tns'
    run -2 pipe 'epochs -n 1 -T none a.tns >x.tns'
    run -1 pipe 'epochs -n 1 missing.tns >x.tns'
    run -1 pipe 'epochs -n 1 . >x.tns'
}

@test "epochs: parts that were prepared differently are refused, the difference is named" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -1 7 -l "nii2slices -t" -l znorm -l "denoise 4" >b.tns
    cat a.tns b.tns >c.tns
    run -1 pipe 'epochs -n 1 c.tns >x.tns'
    [[ $output == *"'denoise 4' is one step too many"* ]]
    epochs -F -n 1 c.tns >x.tns
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -1 7 -l nii2slices -k norm=slice >b.tns
    cat a.tns b.tns >c.tns
    run -1 pipe 'epochs -n 1 c.tns >x.tns'
    [[ $output == *"c.tns: record 12: prepared differently: key 'norm' differs (wanted none, got slice); -F mixes them"* ]]
    epochs -F -n 1 c.tns >x.tns
    # What does not change the images may differ.
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -1 7 -l "nii2slices -t" -l "recode -s msd" -l znorm >b.tns
    cat a.tns b.tns >c.tns
    epochs -n 1 c.tns >x.tns
    [ "$(keys x.tns case | sort -u | wc -l)" = 5 ]
}

@test "epochs: damage, an empty stream and its own output are refused" {
    head -c 20000 a.tns >cut.tns
    run -1 pipe 'epochs -n 1 cut.tns >x.tns'
    [[ $output == *"cut.tns: record"*"cut off"* ]]
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 0 >none.tns
    run -1 pipe 'epochs -n 1 none.tns >x.tns'
    [[ $output == *"holds no records"* ]]
    epochs -n 1 a.tns >e.tns
    run -1 pipe 'epochs -n 1 e.tns >x.tns'
    [[ $output == *"came out of epochs already"* ]]
}
