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
    epochs -b 0 -n 3 -s 1 a.tns >e.tns
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
    epochs -b 0 -n 2 b.tns >e.tns
    keys e.tns epoch index epochs length largest >list
    for e in 0 1; do for i in 0 1 2 3 4 5 6; do echo "$e $i 2 6 48 32"; done; done >want
    diff want list
}

@test "epochs: the order hangs on the seed and the epoch alone" {
    epochs -b 0 -n 2 -s 5 a.tns >one.tns
    epochs -b 0 -n 2 -s 5 a.tns >two.tns
    cmp one.tns two.tns
    epochs -b 0 -n 2 -s 6 a.tns >other.tns
    run ! diff <(keys one.tns case slice) <(keys other.tns case slice)
    epochs -b 0 -n 7 -s 5 a.tns >more.tns
    diff <(keys one.tns epoch index case slice) <(keys more.tns epoch index case slice | head -n 26)
}

@test "epochs: -k gives what is left, from the middle of an epoch and at its end" {
    epochs -b 0 -n 3 -s 2 a.tns >all.tns
    keys all.tns epoch index case slice mark >all
    for k in 0 1 11 12 13 35 36; do
        epochs -b 0 -n 3 -s 2 -k $k a.tns >rest.tns
        keys rest.tns epoch index case slice mark >rest
        # An epoch's mark goes with its last record.
        diff <(tail -n +$((k + k / 12 + 1)) all) rest
    done
    run -1 pipe 'epochs -b 0 -n 3 -s 2 -k 37 a.tns >x.tns'
    [[ $output == *"-k 37 is past the end (3 epochs of 12 records)"* ]]
}

@test "epochs: tensors and unknown keys come through bit for bit" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 1 -k x-mine=ä >b.tns
    epochs -b 0 -n 1 b.tns >e.tns
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
    epochs -n 3 -s 1 -b 0.5 -B 4 -T 1,3 c.tns >e.tns
    keys e.tns epoch index has mark repeat patient | awk '$4 == "-"' >list
    [ "$(wc -l <list)" = 72 ]
    awk '{ n[$1 " " int($2 / 4)] += $3 == "-" } END { for (i in n) if (n[i] < 2) exit 1 }' list
    # A share that is no whole number of records is rounded up, and batches are those of train: of 25 records at
    # most 8 at a time three of 6 and one of 7.
    epochs -n 6 -s 1 -l 25 -b 0.5 -B 8 -T 1,3 c.tns >f.tns
    keys f.tns epoch index has mark | awk '$4 == "-" { b = int($2 / 6); b = b > 3 ? 3 : b; n[$1 " " b] += $3 == "-" }
        END { for (i in n) { bad = bad || n[i] < (i ~ / 3$/ ? 4 : 3); k++ }; exit bad || k != 24 }'
    # Nobody stands twice in an epoch with the same number of draws.
    [ "$(awk '{ print $1, $5, $6 }' list | sort | uniq -d | wc -l)" = 0 ]
    # Where the share is there by itself, nothing is changed.
    epochs -b 0 -n 1 -s 1 with.tns >plain.tns
    epochs -n 1 -s 1 -b 0.5 -T 1,3 with.tns >same.tns
    diff <(keys plain.tns index case) <(keys same.tns index case)
    # -k meets the same order.
    epochs -n 3 -s 1 -b 0.5 -B 4 -T 1,3 -k 30 c.tns >k.tns
    diff <(keys e.tns index patient | tail -n +32) <(keys k.tns index patient)
    run -1 pipe 'epochs -n 1 -b 0.5 -T 1,3 without.tns >x.tns'
    [[ $output == *"no record holds a label of 1,3"* ]]
    run -0 pipe 'epochs -n 1 -b 0.5 -T 0 without.tns >x.tns'
}

# Bytes of the records of a stream from the k-th on, marks among them: what a resumed run gets is that.
rest_is() { # ALL REST K
    "$PYTHON" - "$@" <<'PY'
import struct, sys
def records(path):
    b, at, out = open(path, "rb").read(), 0, []
    while at < len(b):
        n = 64 + struct.unpack_from("<Q", b, at + 24)[0]
        if b[at + 10] == 0x52:      # but for its number in the stream and the check over that
            out.append(b[at:at + 32] + b[at + 40:at + 60] + b[at + 64:at + n])
        at += n
    return out
every, rest, k = records(sys.argv[1]), records(sys.argv[2]), int(sys.argv[3])
shown = [i for i, r in enumerate(every) if b"mark=epoch" not in r]
assert rest == (every[shown[k]:] if k < len(shown) else []), (len(every), len(rest))
PY
}

# lopsided FILE: patients with 12, 3, 3 and 6 slices, every second without a tumour.
lopsided() {
    i=0
    for n in 12 3 3 6; do
        "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n $n -1 $i -e -d 16x16
        i=$((i + 1))
    done >"$1"
}

@test "epochs: -l makes epochs of any length, and no record comes again before all have come" {
    for l in 5 17 30; do
        epochs -b 0 -n 7 -s 3 -l $l a.tns >l.tns
        keys l.tns epoch index length case slice mark repeat | awk '$6 == "-"' >list
        awk -v l=$l '{ n[$1]++; bad = bad || $2 != n[$1] - 1 || $3 != l } END { for (e in n) { k++; bad = bad || n[e] != l }; exit bad || k != 7 }' list
        # Every twelve in a row, over epochs, are the twelve.
        awk '{ d = int((NR - 1) / 12); k = d " " $4 " " $5; bad = bad || k in had; had[k] } END { exit bad }' list
        # A record that comes again in its epoch is told from the one before.
        [ "$(awk '{ print $1, $4, $5, $7 }' list | sort | uniq -d | wc -l)" = 0 ]
        for k in $l $((5 * l + 2)) $((7 * l)); do
            epochs -b 0 -n 7 -s 3 -l $l -k $k a.tns >rest.tns
            rest_is l.tns rest.tns $k
        done
    done
    # Without -l an epoch is the file, as if its length had been asked for.
    epochs -b 0 -n 3 -s 3 -l 12 a.tns >l.tns
    epochs -b 0 -n 3 -s 3 a.tns >plain.tns
    rest_is plain.tns l.tns 0
    # The same slice, twice in an epoch, is not changed the same way twice.
    epochs -b 0 -n 1 -l 24 a.tns | augment -s 1 noise@1 >n.tns
    "$PYTHON" - <<'PY'
import hashlib, re, struct
b, at, had = open("n.tns", "rb").read(), 0, set()
while at < len(b):
    n, meta = 64 + struct.unpack_from("<Q", b, at + 24)[0], struct.unpack_from("<I", b, at + 12)[0]
    if b[at + 10] == 0x52 and b"mark=" not in b[at:at + 64 + meta]:
        front = at + 64 + (meta + 63) // 64 * 64
        had.add(hashlib.sha256(b[front + 256:at + n]).digest())
    at += n
assert len(had) == 24
PY
    run -1 pipe 'epochs -b 0 -n 2 -l 5 -k 11 a.tns >x.tns'
    [[ $output == *"-k 11 is past the end (2 epochs of 5 records)"* ]]
    run -2 pipe 'epochs -b 0 -n 2 -l 0 a.tns >x.tns'
}

@test "epochs: -b feeds all slices, and shows those with tumour so often: the rest are negatives" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 6 -n 4 -d 16x16 >with.tns
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 24 -n 4 -1 10 -e -d 16x16 -k half=1 >half.tns
    cat with.tns half.tns >c.tns   # 72 of 120 with tumour
    epochs -n 5 -s 1 -b 0.75 -B 8 -T 1,2,3 c.tns >e.tns
    keys e.tns epoch index half slice mark patient | awk '$5 == "-"' >list
    [ "$(wc -l <list)" = 600 ]
    # at least six of eight in each batch of train, which are of 8 here
    awk '{ t = $3 == "-" || $4 % 2 == 0; n[$1 " " int($2 / 8)] += t; all += t; if (!t) no[$6 " " $4] }
        END { for (i in n) if (n[i] < 6) exit 1; for (i in no) k++; exit !(all >= 450 && all < 510 && k > 40) }' list
}

@test "epochs: -c deals the share class by class, however rare a class is" {
    # 40 slices with label 2 alone, two with 1, four with 3.
    "$PYTHON" - <<'PY'
import os, sys
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
import blobs, numpy as np
out = open("c.tns", "wb")
out.write(blobs.record(b"H"))
for i in range(46):
    label = np.full((8, 8), 0, np.uint8)
    label[i % 8, 3] = 1 if i < 2 else 3 if i < 6 else 2
    out.write(blobs.record(b"R", {"case": "AB"[i < 2], "patient": "AB"[i < 2], "slice": i}.items(), [("image", np.ones((1, 8, 8), np.float32)), ("label", label)], i))
out.write(blobs.record(b"E", count=46))
out.close()
PY
    epochs -n 8 -s 1 -l 48 -b 0.375 -c -B 8 -T 1,2,3 c.tns >e.tns
    keys e.tns epoch index slice mark | awk '$4 == "-"' >list
    # Three of each eight are dealt, the last: one of each class.
    awk '{ c = $3 < 2 ? 1 : $3 < 6 ? 3 : 2; if ($2 % 8 > 4) n[$1 " " int($2 / 8) " " c]++ }
        END { for (i in n) { k++; if (n[i] != 1) exit 1 } exit k != 144 }' list
    # Within a class each comes before any comes again: 6 of 2, 6 of 4 in an epoch.
    awk '$2 % 8 > 4 && $3 < 6 { n[$1 " " $3]++ } END { for (i in n) if (n[i] < (i ~ / [01]$/ ? 3 : 1) || n[i] > (i ~ / [01]$/ ? 3 : 2)) exit 1 }' list
    # A label that nobody has takes no share from the others.
    epochs -n 1 -s 1 -b 0.25 -c -T 1,3,9 c.tns >e.tns
    keys e.tns index slice mark | awk '$3 == "-" && $2 < 6 { n++ } END { exit !(n >= 10) }'
    # Nor does one that is held by what weighs nothing.
    printf 'B\t0\n' >weights
    epochs -n 2 -s 1 -b 0.5 -c -T 1,3 -w weights c.tns >e.tns
    [ "$(keys e.tns patient mark | awk '$2 == "-" { print $1 }' | sort -u)" = A ]
    epochs -n 8 -s 1 -l 48 -b 0.375 -c -T 1,2,3 c.tns >all.tns
    for k in 47 100; do
        epochs -n 8 -s 1 -l 48 -b 0.375 -c -T 1,2,3 -k $k c.tns >rest.tns
        rest_is all.tns rest.tns $k
    done
    run -2 pipe 'epochs -b 0 -n 1 -c c.tns >x.tns'
    run -2 pipe 'epochs -n 1 -b 0.5 -c -T 1,2,3,4,5,6,7 c.tns >x.tns'
    run -0 pipe 'epochs -n 1 -b 0.5 -T 1,2,3,4,5,6,7 c.tns >x.tns'
}

@test "epochs: -p shows each patient as often, however many slices he has" {
    lopsided p.tns
    epochs -b 0 -n 12 -s 1 -p p.tns >e.tns
    keys e.tns epoch patient slice mark repeat | awk '$4 == "-"' >list
    # 24 in an epoch are six of each patient: half of the twelve slices, each of three twice, each of six once.
    awk '{ n[$1 " " $2]++ } END { for (i in n) { k++; if (n[i] < 5 || n[i] > 7) exit 1 } exit k != 48 }' list
    awk '{ n[$2]++ } END { for (i in n) if (n[i] < 69 || n[i] > 75) exit 1 }' list
    awk '$2 == "P001" { n[$1 " " $3]++ } END { for (i in n) { k++; if (n[i] < 2 || n[i] > 2) exit 1 } exit k != 36 }' list
    # All slices of the first come in turn: none is forgotten.
    [ "$(awk '$2 == "P000" { print $3 }' list | sort -u | wc -l)" = 12 ]
    [ "$(awk '{ print $1, $2, $3, $5 }' list | sort | uniq -d | wc -l)" = 0 ]
    # With -b the minority's cards go by weight too.
    epochs -n 12 -s 1 -p -b 1 -T 3 p.tns >e.tns
    keys e.tns patient slice mark | awk '$3 == "-" && $2 % 2 { exit 1 }'
    for k in 30 287; do
        epochs -n 12 -s 1 -p -b 1 -T 3 -k $k p.tns >rest.tns
        rest_is e.tns rest.tns $k
    done
}

@test "epochs: -S shows each site as often, -w a case, a patient or a site by its weight" {
    lopsided p.tns
    printf '# where from\nP000\tnorth\nP001\tnorth\nP002\tnorth\nP003\tsouth\n' >sites
    epochs -b 0 -n 10 -s 1 -S sites p.tns >e.tns
    keys e.tns patient mark | awk '$2 == "-" { n[$1]++ } END { exit !(n["P003"] >= 115 && n["P003"] <= 125 && n["P000"] > 2.5 * n["P001"]) }'
    # A site's patients as often as each other, and the site half as often as the other.
    printf 'north\t0.5\n' >weights
    epochs -b 0 -n 10 -s 1 -p -S sites -w weights p.tns >e.tns
    keys e.tns patient mark | awk '$2 == "-" { n[$1]++ } END { exit !(n["P003"] > 140 && n["P003"] < 180 &&
        n["P000"] > 12 && n["P000"] < 42 && n["P001"] > 12 && n["P001"] < 42) }'
    printf 'P000\t0\nP001\t4\nnobody\t7\n' >weights
    epochs -b 0 -n 10 -s 1 -l 21 -w weights p.tns >e.tns
    keys e.tns patient mark | awk '$2 == "-" { n[$1]++ } END { exit !(!n["P000"] && n["P001"] > 105 && n["P001"] < 135) }'
    # What weighs nothing is dealt to nobody, also where it alone holds a class.
    printf 'P001\t0\nP002\t0\nP003\t0\n' >weights
    epochs -n 2 -s 1 -w weights -b 0.5 p.tns >e.tns
    [ "$(keys e.tns patient mark | awk '$2 == "-" { print $1 }' | sort -u)" = P000 ]
    # A slice by itself, such as one in which a model invented tumour: thrice as often as the others, and one never.
    keys p.tns case slice | sort -u >slices
    read -r hard never < <(awk 'NR <= 2 { printf "%s:%s ", $1, $2 } END { print "" }' slices)
    printf '%s\t3\n%s\t0\n' "$hard" "$never" >weights
    epochs -b 0 -n 10 -s 1 -l "$(wc -l <slices)" -w weights p.tns >e.tns
    keys e.tns case slice mark | awk -v hard="$hard" -v never="$never" '$3 == "-" { n[$1 ":" $2]++; all++ }
        END { k = 3 * all / (length(n) + 2); exit !(!n[never] && n[hard] > k - 6 && n[hard] < k + 6) }'
    printf 'P001\t0\nP002\t0\nP003\t0\n' >weights
    # The history says which tables, by what they hold; so a resumed run is not continued by others.
    cp weights renamed
    for t in weights renamed sites; do
        epochs -b 0 -n 1 -s 1 -p -w $t -S sites p.tns 2>/dev/null | tnsview -t -n 0 2>/dev/null | sed -n 's/.*history=epochs/epochs/p' >history.$t || :
    done
    cmp history.weights history.renamed
    grep -qxE 'epochs -n 1 -s 1 -p -S [0-9a-f]{16} -w [0-9a-f]{16}' history.weights
    sed 's/^P001.0/P001\t1/' weights >other
    epochs -b 0 -n 1 -s 1 -p -w other -S sites p.tns | tnsview -t -n 0 | sed -n 's/.*history=epochs/epochs/p' >history.other
    run ! cmp history.weights history.other
}

@test "epochs: a table that is wrong, or speaks of nobody, is refused with its line" {
    lopsided p.tns
    printf 'P000\tnorth\nP001\tnorth\nP002\tnorth\n' >sites
    run -1 pipe 'epochs -b 0 -n 1 -S sites p.tns >x.tns'
    [ "$output" = "epochs: p.tns: record 18: patient 'P003' has no site in sites" ]
    printf 'Q\t1\n' >w
    run -1 pipe 'epochs -b 0 -n 1 -w w p.tns >x.tns'
    [ "$output" = "epochs: w: names no case, patient or site of p.tns" ]
    printf 'P000\t0\nP001\t0\nP002\t0\nP003\t0\n' >w
    run -1 pipe 'epochs -b 0 -n 1 -w w p.tns >x.tns'
    [ "$output" = "epochs: w: every record of p.tns weighs 0" ]
    for line in 'P000' 'P000\t-1' 'P000\tmany' 'P000\t1\t2' 'P000\tnan' '\t1' 'P000\t1e7' 'P000\t1 ' 'P000\t 1' 'P000\t0x1'; do
        printf "# weights\n$line\n" >w
        run -1 pipe 'epochs -b 0 -n 1 -w w p.tns >x.tns'
        [[ $output == "epochs: w: line 2: "*"wanted"* ]]
        [ ${#lines[@]} = 1 ]
    done
    printf 'P000\t1\nP000\t2\n' >w
    run -1 pipe 'epochs -b 0 -n 1 -w w p.tns >x.tns'
    [ "$output" = "epochs: w: line 2: 'P000' stands twice" ]
    run -1 pipe 'epochs -b 0 -n 1 -w missing p.tns >x.tns'
    run -1 pipe 'epochs -b 0 -n 1 -S . p.tns >x.tns'
    "$PYTHON" - <<'PY'
import os, sys
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
import blobs, numpy as np
open("n.tns", "wb").write(blobs.record(b"H") + blobs.record(b"R", [("case", "A")], [("image", np.ones((1, 8, 8), np.float32))]) + blobs.record(b"E", count=1))
PY
    run -1 pipe 'epochs -b 0 -n 1 -p n.tns >x.tns'
    [[ $output == "epochs: n.tns: record 0: no key 'patient'"* ]]
}

@test "epochs: a pipe instead of a file is wrong usage, and the message says why" {
    run -2 pipe 'cat a.tns | epochs -b 0 -n 1 /dev/stdin >x.tns'
    [[ $output == *"can be read once only"* ]]
    run -2 pipe 'epochs -b 0 -n 1 <a.tns >x.tns'
    [[ $output == *"can be read once only"* ]]
    run -2 pipe 'epochs a.tns >x.tns'
    run -2 pipe 'epochs -b 0 -n 0 a.tns >x.tns'
    run -2 pipe 'epochs -n 1 -b 2 a.tns >x.tns'
    run -2 pipe 'epochs -b 0 -n 1 -T none a.tns >x.tns'
    run -1 pipe 'epochs -b 0 -n 1 missing.tns >x.tns'
    mkdir none
    run -1 pipe 'epochs -b 0 -n 1 none >x.tns'
    [[ $output == *"none: is a directory without *.tns" ]]
}

@test "epochs: one file, one a case, chunks and a folder of them make the same bytes" {
    command -v train >/dev/null || export PATH=$PATH:$ROOT/build/release/bin
    for i in 0 1 2; do "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -1 $i -n 4 -l nii2slices -l znorm >P00$i.tns; done
    mkdir cases chunks
    mv P00?.tns cases
    : >cases/.hidden.tns
    : >cases/notes
    cat cases/P000.tns cases/P001.tns >chunks/1.tns
    cat cases/P002.tns >chunks/2.tns
    cat cases/*.tns >one.tns
    for how in "-b 0" "-b 0.5 -T 1" "-b 0 -N 1" "-b 0 -d 2 -p"; do
        # shellcheck disable=SC2086
        epochs $how -n 2 -s 3 one.tns >want
        for data in cases chunks "cases/P000.tns cases/P001.tns cases/P002.tns" "chunks/1.tns chunks/2.tns" "cases/P000.tns cases/P001.tns chunks/2.tns"; do
            # shellcheck disable=SC2086
            epochs $how -n 2 -s 3 $data | cmp - want
        done
    done
    # Whoever takes a file takes a folder, and so does standard input.
    mislabel one.tns >want
    mislabel cases | "$PYTHON" "$ROOT/tests/lib/mkstream.py" dump | grep -E '^  (labels_of|label )' |
        cmp - <("$PYTHON" "$ROOT/tests/lib/mkstream.py" dump <want | grep -E '^  (labels_of|label )')
    stats <one.tns >want
    stats <cases | cmp - want
    printf 'arch: unet\nbase: 1\n' >u.yaml
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -1 9 -n 4 -l nii2slices -l znorm >other.tns
    for e in one.tns cases; do epochs -b 0 -n 1 other.tns | train -c u.yaml -e $e -o $e.st 2>/dev/null; done
    cmp one.tns.st cases.st
    # What is wrong is told with its file, and the number in that.
    head -c 20000 cases/P001.tns >cut && mv cut cases/P001.tns
    run -1 pipe 'epochs -b 0 -n 1 cases >x.tns'
    [[ $output == "epochs: cases/P001.tns: record "[0-3]*": cut off"* ]]
    run -1 pipe 'stats <cases >x'
    [[ $output == "stats: /dev/stdin/P001.tns: record "*": cut off"* ]]
}

@test "epochs: of more files than may be open few are, and one that changes is noticed" {
    mkdir many
    PYTHONPATH=$ROOT/tests/lib "$PYTHON" - <<'PY'
import blobs, numpy as np
for i in range(600):
    image = np.full((1, 64, 64), i, np.float32)
    open(f"many/{i:03}.tns", "wb").write(blobs.record(b"H") + blobs.record(b"R", [("case", f"c{i}"), ("patient", f"c{i}")], [("image", image)]) + blobs.record(b"E", count=1))
PY
    cat many/*.tns >one.tns
    (ulimit -n 540 && epochs -b 0 -n 2 many >many.out)
    epochs -b 0 -n 2 one.tns | cmp - many.out
    # It cannot be past the pipe, which holds 1 MiB, when the files are touched.
    mkfifo pipe
    epochs -b 0 -n 100 many >pipe 2>said &
    pid=$!
    exec 7<pipe
    head -c 100000 <&7 >first
    for i in $(seq 512 599); do printf x >>many/$i.tns; done
    cat <&7 >rest
    exec 7<&-
    status=0
    wait $pid || status=$?
    [ $status = 1 ]
    grep -qx 'epochs: many/5[0-9]*.tns: has changed since it was first read' said
}

@test "epochs: parts that were prepared differently are refused, the difference is named" {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -1 7 -l "nii2slices -t" -l znorm -l "denoise 4" >b.tns
    cat a.tns b.tns >c.tns
    run -1 pipe 'epochs -b 0 -n 1 c.tns >x.tns'
    [[ $output == *"'denoise 4' is one step too many"* ]]
    epochs -b 0 -F -n 1 c.tns >x.tns
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -1 7 -l nii2slices -k norm=slice >b.tns
    cat a.tns b.tns >c.tns
    run -1 pipe 'epochs -b 0 -n 1 c.tns >x.tns'
    [[ $output == *"c.tns: record 12: prepared differently: key 'norm' differs (wanted none, got slice); -F mixes them"* ]]
    epochs -b 0 -F -n 1 c.tns >x.tns
    # What does not change the images may differ.
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -1 7 -l "nii2slices -t" -l "recode -s msd" -l znorm >b.tns
    cat a.tns b.tns >c.tns
    epochs -b 0 -n 1 c.tns >x.tns
    [ "$(keys x.tns case | sort -u | wc -l)" = 5 ]
}

@test "epochs: damage, an empty stream and its own output are refused" {
    head -c 20000 a.tns >cut.tns
    run -1 pipe 'epochs -b 0 -n 1 cut.tns >x.tns'
    [[ $output == *"cut.tns: record"*"cut off"* ]]
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 0 >none.tns
    run -1 pipe 'epochs -b 0 -n 1 none.tns >x.tns'
    [[ $output == *"holds no records"* ]]
    epochs -b 0 -n 1 a.tns >e.tns
    run -1 pipe 'epochs -b 0 -n 1 e.tns >x.tns'
    [[ $output == *"came out of epochs already"* ]]
}
