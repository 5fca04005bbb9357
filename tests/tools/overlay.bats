# overlay: pictures that show what the stream holds.
load ../lib/common

# A stream of the cases given as arguments, 3 slices each, 16x24, one truth and one prediction whose
# places are known: truth in columns 4-7, prediction in columns 6-9, rows 2-9; everything class 2 but a
# voxel at (3,6), whose truth is 3.
stream() {
    "$PYTHON" - "$@" <<'EOF'
import sys, os
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
from blobs import record
import numpy as np
out = sys.stdout.buffer
out.write(record(b"H", [("generator", "test")]))
n = 0
for case in sys.argv[1:]:
    for z in range(3):
        image = np.zeros((2, 16, 24), np.float32)
        image[:, 1:15, 1:23] = np.arange(22) + 1
        label = np.zeros((16, 24), np.uint8)
        pred = label.copy()
        label[2:10, 4:8] = 2
        label[3, 6] = 3
        pred[2:10, 6:10] = 2
        if os.environ.get("CAVITY"):
            label[11:14, 14:20] = int(os.environ["CAVITY"])
        if z == 0:
            label[:] = 0
        out.write(record(b"R", [("case", case), ("slice", z + int(os.environ.get("FIRST", 0))), ("modalities", "flair,t1gd"), ("scheme", os.environ.get("SCHEME", "canonical"))],
                         [("image", image), ("label", label), ("pred", pred)], n))
        n += 1
out.write(record(b"E", count=n))
EOF
}

# pixel FILE X Y [X Y]...: pixels of an RGB PNG as hexadecimal triples, decoded without libpng as far as needed; "columns"
# FROM TO: those of each column between two rows, a line each. "size" prints WxH.
pixel() {
    "$PYTHON" - "$@" <<'EOF'
import struct, sys, zlib
import numpy as np
b = open(sys.argv[1], "rb").read()
assert b[:8] == b"\x89PNG\r\n\x1a\n"
at, data = 8, b""
while at < len(b):
    n, kind = struct.unpack(">I4s", b[at:at + 8])
    assert zlib.crc32(b[at + 4:at + 8 + n]) == struct.unpack(">I", b[at + 8 + n:at + 12 + n])[0]
    if kind == b"IHDR":
        w, h, depth, colour = struct.unpack(">IIBB", b[at + 8:at + 18])
        assert (depth, colour) == (8, 2)
    if kind == b"IDAT":
        data += b[at + 8:at + 8 + n]
    at += 12 + n
assert kind == b"IEND"
what, numbers = sys.argv[2], [int(a) for a in sys.argv[2:] if a.isdigit()]
if what == "size":
    print(f"{w}x{h}")
    sys.exit()
last = numbers[1] if what == "columns" else max(numbers[1::2]) + 1
coded = np.frombuffer(zlib.decompress(data), np.uint8).reshape(h, 1 + 3 * w)
rows = np.zeros((last, 3 * w), np.uint8)
prev = bytes(3 * w)
for y in range(last):
    f, row = coded[y, 0], coded[y, 1:]
    if f == 1: # to the left
        row = np.add.accumulate(row.reshape(w, 3), 0, np.uint8).reshape(-1)
    elif f == 2: # above
        row = row + np.frombuffer(prev, np.uint8)
    elif f:
        row = bytearray(row)
        for i in range(3 * w):
            a, u, c = row[i - 3] if i > 2 else 0, prev[i], prev[i - 3] if i > 2 else 0
            p = a + u - c
            row[i] = (row[i] + ((a + u) // 2 if f == 3 else min((abs(p - a), 0, a), (abs(p - u), 1, u), (abs(p - c), 2, c))[2])) & 255
    rows[y] = np.frombuffer(row, np.uint8)
    prev = rows[y].tobytes()
if what == "columns":
    print(*(rows[numbers[0]:, 3 * x:3 * x + 3].tobytes().hex() for x in range(w)), sep="\n")
else:
    print(*(rows[y, 3 * x:3 * x + 3].tobytes().hex() for x, y in zip(numbers[::2], numbers[1::2])))
EOF
}

@test "overlay: one picture a slice, and one sheet a case with -c" {
    stream A B >in.tns
    overlay -a -o each <in.tns
    [ "$(ls each | tr '\n' ' ')" = "A_z000.png A_z001.png A_z002.png B_z000.png B_z001.png B_z002.png " ]
    overlay -a -c -o sheet <in.tns
    [ "$(ls sheet | tr '\n' ' ')" = "A.png B.png " ]
    overlay -n 1 -o most <in.tns
    [ "$(ls most | wc -l)" = 2 ]
    [ ! -e most/A_z000.png ]
    overlay -k 2 -o some <in.tns
    [ "$(ls some | tr '\n' ' ')" = "A_z000.png A_z002.png B_z000.png B_z002.png " ]
}

@test "overlay: found, missed, invented and mixed up have their own colours in the last panel" {
    stream A >in.tns
    overlay -n 1 -z 4 -o out <in.tns
    f=$(ls out/*.png)
    # Four panels of 96 pixels with gaps of 8 end 14 pixels before the right margin, which the width of
    # the title may push out; the rows lie between the head (76 pixels) and the legend.
    x=$((14 + 3 * (96 + 8))) y=76
    at() { echo $((x + $1 * 4 + 2)) $((y + $2 * 4 + 2)); }
    # shellcheck disable=SC2046
    read -r missed found invented mixed plain <<<"$(pixel "$f" $(at 4 5) $(at 7 5) $(at 9 5) $(at 6 3) $(at 15 12))"
    [ "$(printf '%s\n' "$missed" "$found" "$invented" "$mixed" "$plain" | sort -u | wc -l)" = 5 ]
    # Grey has three equal channels; the verdicts have not. Green leads where it was found.
    [ "${plain:0:2}" = "${plain:2:2}" ]
    [ "${plain:2:2}" = "${plain:4:2}" ]
    [ $((16#${found:2:2})) -gt $((16#${found:0:2})) ]
    [ $((16#${found:2:2})) -gt $((16#${found:4:2})) ]
}

@test "overlay: a resection cavity is painted, in white, and the legend names it" {
    stream A >plain.tns
    CAVITY=4 stream A >cavity.tns
    for s in plain cavity; do
        overlay -n 1 -z 4 -o $s <$s.tns
    done
    # The middle of a voxel of it in the second panel: the scan under paint that is mostly white, and grey therefore.
    x=$((14 + 96 + 8 + 16 * 4 + 2)) y=$((76 + 12 * 4 + 2))
    read -r before <<<"$(pixel plain/*.png $x $y)"
    read -r after <<<"$(pixel cavity/*.png $x $y)"
    [ "${after:0:2}" = "${after:2:2}" ]
    [ "${after:2:2}" = "${after:4:2}" ]
    [ $((16#${after:0:2})) -gt $((16#${before:0:2})) ]
    # Below the panels the legend has another swatch.
    read -r w h <<<"$(pixel cavity/*.png size | tr x ' ')"
    read -r v g <<<"$(pixel plain/*.png size | tr x ' ')"
    [ "$(pixel cavity/*.png columns $((76 + 64 + 4)) $h)" != "$(pixel plain/*.png columns $((76 + 64 + 4)) $g)" ]
}

@test "overlay: every label to 15 is painted in a colour of its own and named, and what has none is refused" {
    for v in $(seq 4 15); do
        CAVITY=$v stream A | overlay -n 1 -z 4 -o o
        # The middle of a voxel of it in the second panel.
        pixel o/*.png $((14 + 96 + 8 + 16 * 4 + 2)) $((76 + 12 * 4 + 2)) >>colours
        read -r w h <<<"$(pixel o/*.png size | tr x ' ')"
        pixel o/*.png columns $((76 + 64 + 4)) $h | md5sum >>legends
    done
    [ "$(sort -u colours | wc -l)" = 12 ]
    [ "$(sort -u legends | wc -l)" = 12 ]
    CAVITY=16 stream A >in.tns
    run -1 overlay -n 1 -o none <in.tns
    [[ $output == *"(A slice 1): label: row 11, column 14: (wanted 0 to 15, got 16)"* ]]
}

@test "overlay: scans that are shown side by side widen the picture" {
    stream A >in.tns
    overlay -n 1 -z 8 -o one <in.tns
    overlay -n 1 -z 8 -m t1gd,flair -o two <in.tns
    a=$(pixel one/*.png size) b=$(pixel two/*.png size)
    [ $((${b%x*} - ${a%x*})) = $((24 * 8 + 8)) ]
}

@test "overlay: -I writes a label file that ITK-SNAP reads" {
    overlay -I labels.txt
    [ "$(wc -l <labels.txt)" = 5 ]
    # IDX R G B A VIS MSH "LABEL"
    [ "$(grep -cE '^ +[0-4] +[0-9]+ +[0-9]+ +[0-9]+ +[01] +[01] +[01] +"[A-Za-z ]+"$' labels.txt)" = 5 ]
}

@test "overlay: a modality that is not there, raw labels, split cases and evil names are refused" {
    stream A >in.tns
    run -1 --separate-stderr overlay -m t1 -o out <in.tns
    [[ $stderr == *"A slice 0"*"no modality 't1' (have flair,t1gd)"* ]]
    SCHEME=brats2017 stream A >raw.tns
    run -1 --separate-stderr overlay -o out <raw.tns
    [[ $stderr == *"not canonical"* ]]
    stream A B A >split.tns
    run -1 --separate-stderr overlay -o out <split.tns
    [[ $stderr == *"not together"* ]]
    stream ../A >evil.tns
    run -1 --separate-stderr overlay -o out <evil.tns
    [[ $stderr == *"no plain file name"* ]]
    [ ! -e A.png ]
    run -1 --separate-stderr overlay -o /proc/none <in.tns
    [ -n "$stderr" ]
}

@test "overlay: the same stream gives the same bytes" {
    stream A >in.tns
    overlay -c -o one <in.tns
    overlay -c -o two <in.tns
    cmp one/A.png two/A.png
}

# A stream of one slice, whose image, label and pred a line of Python makes, and more.
one() { # KEYS PROGRAM
    "$PYTHON" - "$@" <<'EOF'
import sys, os
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
from blobs import record
import numpy as np
more = []
exec(sys.argv[2])
keys = [("case", "A"), ("slice", 0), ("modalities", "t1gd"), ("scheme", "canonical")] + [tuple(k.split("=")) for k in sys.argv[1].split(";") if k]
sys.stdout.buffer.write(record(b"H") + record(b"R", keys, [("image", image), ("label", label), ("pred", pred)] + more, 0) + record(b"E", count=1))
EOF
}

@test "overlay: black around the head is not drawn, what is marked there is" {
    head() { # H W [Y X]: 8 by 8 pixels of head from (20,30), and a voxel invented at (Y,X)
        one "" "
image, label = np.zeros((1, $1, $2), np.float32), np.zeros(($1, $2), np.uint8)
image[:, 20:28, 30:38] = np.arange(64).reshape(8, 8) + 1
label[22:25, 33:36] = 2
pred = label.copy()
for y, x in [(${3:-0}, ${4:-0})]:
    pred[y, x] = 2 if x else 0"
    }
    # 8 pixels and 4 on each side, whatever lies beyond; a voxel far off widens the box to hold it.
    head 240 240 | overlay -z 6 -o a
    head 64 80 | overlay -z 6 -o b
    cmp a/*.png b/*.png
    head 240 240 24 61 | overlay -z 6 -o c
    a=$(pixel a/*.png size) c=$(pixel c/*.png size)
    [ $((${c%x*} - ${a%x*})) = $((4 * 6 * (61 - 37))) ]
}

@test "overlay: a narrow sheet is as wide as its legend" {
    one "" "
image, label = np.zeros((1, 32, 32), np.float32), np.zeros((32, 32), np.uint8)
image[:, 8:16, 8:16] = 1
label[10:13, 10:13] = 2
pred = label.T.copy()" | overlay -z 1 -o out
    size=$(pixel out/*.png size)
    w=${size%x*} h=${size#*x}
    # To the right of the last word there is a margin.
    margin=$(pixel out/*.png columns $((h - 60)) "$h" | tail -n 8 | tr -d '\n')
    [[ $margin =~ ^(16181d)+$ ]] || { echo "margin of $size: $margin"; false; }
}

@test "overlay: a region that is not there has no Dice, and the slices that count are told" {
    note() { # TRUTH PREDICTION SLICES: one voxel's labels among oedema; the picture's line of scores goes to a file
        one "slices=$3" "
image, label = np.ones((1, 60, 90), np.float32), np.zeros((60, 90), np.uint8)
label[10:20, 10:20] = 2
pred = label.copy()
label[12, 12], pred[12, 12] = $1, $2" | overlay -o out
        # Between the title and the names of the panels, without what is blank behind it.
        pixel out/A_z000.png columns 38 52 | awk '/^(16181d)+$/ { blank = blank $0 "\n"; next } { print blank $0; blank = "" }'
    }
    note 3 3 1 >match
    note 2 2 1 >none
    note 2 2 9 >part
    # ET is right in both, but there is nothing to be right about in the second; the third is one slice of nine.
    [ -s match ]
    ! cmp -s match none || false
    ! cmp -s none part || false
    note 2 2 1 | cmp - none
    # By the number of signs, each with a dark column behind it, whether such a region says so, or a number.
    says() { # FILE TEXT
        text=${2// /}
        [ "$(awk '{ dark = /^([0-6].....)+$/; n += !dark && was; was = dark } END { print n }' "$1")" = ${#text} ]
    }
    note 2 3 1 >invented
    says match "Dice of the case: WT 1.000 TC 1.000 ET 1.000"
    says none "Dice of the case: WT 1.000 TC none in truth ET none in truth"
    says invented "Dice of the case: WT 1.000 TC 0.000 (none in truth) ET 0.000 (none in truth)"
}

@test "overlay: -k scores all slices, also those before the first that it shows" {
    FIRST=8 stream A >in.tns
    overlay -a -o all <in.tns
    overlay -k 10 -o tenth <in.tns
    [ "$(ls tenth)" = A_z010.png ]
    cmp all/A_z010.png tenth/A_z010.png
    # A case of which nothing is shown is no picture, and cannot come twice either.
    FIRST=1 stream A B >in.tns
    overlay -k 9 -o none <in.tns
    [ -z "$(ls none)" ]
    FIRST=1 stream A B A >in.tns
    run -1 --separate-stderr overlay -k 9 -o none <in.tns
    [[ $stderr == *"not together"* ]]
}

@test "overlay: voxels have their shape" {
    size() { # SPACING: of the picture of a slice of 20 rows and 90 columns, full of brain
        one "${1:+spacing=$1}" "image, label = np.ones((1, 20, 90), np.float32), np.zeros((20, 90), np.uint8); pred = label" |
            overlay -z 2 -o "out$2"
        pixel "out$2"/*.png size
    }
    square=$(size "" 0)
    w=${square%x*} h=${square#*x}
    [ "$(size "0.9 0.9 5" 1)" = "$square" ]
    # Rows of half a column's height: 4 panels of 90 columns, each as wide again, twofold.
    [ "$(size "1 2 3" 2)" = "${w}x$((h + 20 * 2))" ]
    [ "$(size "1 1.25 3" 3)" = "${w}x$((h + 10))" ]
    wide=$(size "1.2 1 1" 4)
    [ "${wide#*x}" = "$h" ]
    [ $((${wide%x*} - w)) = $((4 * 36)) ]
    run -1 --separate-stderr size "0 1 1" 5
    [[ $stderr == *"key 'spacing'"* ]]
    run -1 --separate-stderr size "1 1e9 1" 6
    [[ $stderr == *"too large"* ]]
}

@test "overlay: the slices shown are those with the most tumour that lie apart" {
    # Tumour in slices 20 to 79, most in 50, a little less on each side of it; brain in all of 100.
    "$PYTHON" - >in.tns <<'EOF'
import sys, os
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
from blobs import record
import numpy as np
out = sys.stdout.buffer
out.write(record(b"H"))
for z in range(100):
    image, label = np.ones((1, 16, 24), np.float32), np.zeros(16 * 24, np.uint8)
    label[:max(0, 200 - 6 * abs(z - 50)) if 20 <= z < 80 else 0] = 2
    out.write(record(b"R", [("case", "A"), ("slice", z), ("modalities", "t1gd"), ("scheme", "canonical")],
                     [("image", image), ("label", label.reshape(16, 24))], z))
out.write(record(b"E", count=100))
EOF
    for n in 1 2 4; do
        overlay -n $n -o out$n <in.tns
        ls out$n | sed 's/A_z0*//; s/.png//' >z
        [ "$(wc -l <z)" = $n ]
        grep -qx 50 z
        # 60 slices hold tumour: neighbours lie 60/(n+1) apart at least, and none is without.
        awk -v n=$n 'NR > 1 && $1 - last < int(60 / (n + 1)) { exit 1 } $1 < 20 || $1 > 79 { exit 1 } { last = $1 }' z || { cat z; false; }
    done
    # Where fewer hold tumour than are wanted, those are all.
    stream A >few.tns
    overlay -n 9 -o few <few.tns
    [ "$(ls few | tr '\n' ' ')" = "A_z001.png A_z002.png " ]
}

@test "overlay: letters grow with wide pictures" {
    around() { # ZOOM: pixels above and below 20 rows of slice, 4 panels of 90 columns, which letters need
        one "" "image, label = np.ones((1, 20, 90), np.float32), np.zeros((20, 90), np.uint8); pred = label" |
            overlay -z $1 -o "out$1"
        size=$(pixel "out$1"/*.png size)
        echo $((${size#*x} - 20 * $1))
    }
    small=$(around 2) large=$(around 8) # 720 pixels of scan, and 2880
    [ "$(around 1)" -ge "$small" ] # the legend may take a second line
    # Nearly in proportion above 1000 pixels: whole pixels are rounded.
    [ $((large * 1000)) -gt $((small * 2700)) ]
    [ $((large * 1000)) -lt $((small * 3100)) ]
}

@test "overlay -u: a map of uncertainty is paint on the scan, the brighter the more, beside a bar from 0 to 1" {
    # Grey of one level but for the first and last row; nothing uncertain above, below each column more than the one before.
    one "" "
image, label = np.full((1, 20, 40), 2, np.float32), np.zeros((20, 40), np.uint8)
image[:, 0], image[:, 19] = 1, 3
label[4:6, 4:6] = 2
pred = label
heat = np.repeat(np.arange(40, dtype=np.float32)[None] / 39, 20, 0)
heat[:10] = 0
more = [('entropy', heat)]" >in.tns
    overlay -z 4 -o plain <in.tns
    overlay -z 4 -u entropy -o out <in.tns
    read -r w h <<<"$(pixel out/*.png size | tr x ' ')"
    read -r v g <<<"$(pixel plain/*.png size | tr x ' ')"
    [ "$w" -gt "$v" ]
    # Panels of 160 pixels with gaps of 8, from (14,76) on.
    row() { # FILE PANEL ROW: the middles of its voxels
        # shellcheck disable=SC2046
        pixel "$1" $(for x in $(seq 0 39); do echo $((14 + $2 * 168 + x * 4 + 2)) $((76 + $3 * 4 + 2)); done) | tr ' ' '\n'
    }
    row out/*.png 3 8 >scan # no tumour in that row
    row out/*.png 4 8 | cmp - scan
    row out/*.png 4 15 >hot
    [ "$(head -n 1 hot)" = "$(head -n 1 scan)" ]
    # From a third on paint is as opaque as it gets: each column is brighter than the one before, for all sorts of eyes.
    tail -n 26 hot | "$PYTHON" -c '
import sys
seen = [[int(l[i:i + 2], 16) for i in (0, 2, 4)] for l in sys.stdin]
for weights in (.2126, .7152, .0722), (0, 1, 0), (.4, .4, .2):
    light = [sum(w * c for w, c in zip(weights, rgb)) for rgb in seen]
    assert all(a < b for a, b in zip(light, light[1:])), light
assert len(seen) == 26 and seen[-1][0] > seen[-1][2] + 40'
    # The legend: a bar has more colours than names and swatches have.
    colours() { pixel "$1" columns $((76 + 80 + 4)) "$2" | fold -w 6 | sort -u | wc -l; }
    [ "$(colours out/*.png "$h")" -gt $(($(colours plain/*.png "$g") + 50)) ]
    # A sheet that is too narrow for all of the legend has a margin beside it.
    overlay -z 1 -u entropy -o narrow <in.tns
    read -r w h <<<"$(pixel narrow/*.png size | tr x ' ')"
    [[ $(pixel narrow/*.png columns $((h - 70)) "$h" | tail -n 8 | tr -d '\n') =~ ^(16181d)+$ ]]
}

@test "overlay -u: a map that is missing, of another size or type or beyond 0 to 1 is refused" {
    refused() { # MAP WHAT
        one "" "
image, label = np.ones((1, 20, 40), np.float32), np.zeros((20, 40), np.uint8)
pred, heat = label, np.zeros((20, 40), np.float32)
$1
more = [('entropy', heat)]" >in.tns
        run -1 --separate-stderr pipe 'overlay -u entropy -o out <in.tns'
        [[ $stderr = "overlay: stdin: record 0 (A slice 0): "*"$2" ]] || { echo "$stderr"; false; }
        [ -z "$(ls out)" ]
    }
    refused "heat[3, 7] = 1.5" "tensor 'entropy': row 3, column 7: (wanted 0 to 1, got 1.5)"
    refused "heat[3, 7] = np.nan" "tensor 'entropy': row 3, column 7: (wanted 0 to 1, got nan)"
    refused "heat = heat[:, 1:]" "tensor 'entropy': shape differs from the image's (wanted 20x40, got 20x39)"
    refused "heat = heat.astype('u1')" "(wanted f32, got u8)"
    run -1 --separate-stderr pipe 'overlay -u disagreement -o out <in.tns'
    [[ $stderr = *"'disagreement'"* ]]
}

@test "overlay: -p draws three planes through the tumour as radiologists see them, and all voxels beside each other" {
    "$PYTHON" - <<'EOF' >s
import sys, os
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
from blobs import record, np
out = sys.stdout.buffer
out.write(record(b"H", [("generator", "test")]))
# 20 x 16 voxels, 10 slices of 2 mm; grey everywhere from 5 on, tumour in a box, all brighter towards left, back and top.
for z in range(10):
    y, x = np.mgrid[:16, :20]
    image = np.stack([x + 1.0, y + 10.0 * z]).astype("f4")
    image[:, :5] = 0
    image[:, :, :5] = 0
    pred = np.zeros((16, 20), "u1")
    if z in (6, 7):
        pred[8:12, 9:13] = 3
    pred[9, 10] = (0, 3)[z == 7]
    if z == 7: pred[11, 12] = 2
    out.write(record(b"R", [("case", "A"), ("slice", z), ("slices", 10), ("spacing", "1 1 2"), ("modalities", "t1gd,flair"), ("scheme", "canonical")],
                     [("image", image), ("pred", pred), ("entropy", np.full((16, 20), z / 10, "f4"))], z))
out.write(record(b"E", count=10))
EOF
    overlay -p -z 2 -m t1gd,flair -u entropy -o v <s
    [ "$(ls v | tr '\n' ' ')" = 'A_axial.png A_axial_entropy.png A_coronal.png A_coronal_entropy.png A_sagittal.png A_sagittal_entropy.png A_voxels.png A_voxels.tsv ' ]
    # 5 less a margin of 3: 18 x 14 x 10 are drawn, 2 pixels a mm.
    printf 'size\t18 14 10\ncolumns\t3\nspacing\t1 1 2\norigin\t2 2 0\ngrid\t20 16 10\nat\t11 8 7\nscan\tt1gd\nscan\tflair\n' | diff - v/A_voxels.tsv
    [ "$(pixel v/A_axial.png size) $(pixel v/A_coronal.png size) $(pixel v/A_sagittal.png size) $(pixel v/A_voxels.png size)" = '36x28 36x40 28x40 54x56' ]
    # Column 1 of row 2 is slice 7: its voxel (11, 12) is 2, (9, 10) is 3, and its heat is 0.7.
    [ "$(pixel v/A_voxels.png $((18 + 12 - 2)) $((2 * 14 + 11 - 2)) $((18 + 10 - 2)) $((2 * 14 + 9 - 2)) $((18 + 1)) $((2 * 14 + 1)) | sed 's/[0-9a-f]\{4\}\(..\)/\1/g')" = 'b2 b3 b0' ]
    # The plane of y = 8 runs to the left, and from the top down: tumour's edge is yellow at slices 7 and 6, a third from the top.
    pixel v/A_coronal.png columns 0 40 >columns
    awk '{ for (i = 0; i < 40; i++) if (substr($0, 6 * i + 1, 6) == "f0e442") n[i]++ } END { for (i in n) { if (i + 0 < 7 || i + 0 > 16) bad = 1; k++ } exit bad || k != 10 }' columns
    "$PYTHON" - <<'EOF' >two
import sys, os
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
from blobs import record, np
out = sys.stdout.buffer
out.write(record(b"H"))
for n, case in enumerate("ABA"):
    out.write(record(b"R", [("case", case), ("slice", 0), ("slices", 1), ("spacing", "1 1 1"), ("modalities", "t1gd"), ("missing", "flair")], [("image", np.ones((1, 8, 8), "f4"))], n))
out.write(record(b"E", count=3))
EOF
    run -1 pipe 'overlay -p -m flair,t1gd -o w <two'
    [[ $output == *"record 2 (A slice 0): records of this case are not together"* ]]
    [ "$(sed -n 's/^scan.//p' w/B_voxels.tsv)" = t1gd ]
    run -2 overlay -p -a -o v <s
}

@test "overlay: of a board every other square is the first scan's" {
    "$PYTHON" - >s.tns <<'P'
import sys, os
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
from mkstream import np, stream
a = np.where(np.arange(80) % 8 < 4, 100, 50) + np.zeros((80, 1))
image = np.stack([a, 150 - a]).astype("f4")
sys.stdout.buffer.write(stream({}, [({"case": "c", "slice": 0, "slices": 1, "modalities": "x,y"}, {"image": image})]))
P
    for m in "x,y" "x,x"; do overlay -z 1 -m $m -o ${m#*,} <s.tns; done
    overlay -b -z 1 -m x,y -o b <s.tns
    run -2 overlay -b -m x -o no <s.tns
    run -2 overlay -b -p -m x,y -o no <s.tns
    size=$(pixel b/c_z000.png size)
    for d in x y b; do pixel $d/c_z000.png columns 0 $((${size#*x} - 1)) >$d.txt; done
    "$PYTHON" - <<'P'
x, y, b = ([l.split() or [l] for l in open(f + ".txt")] for f in "xyb")
import collections
# Columns with much that differs are the second panel's; there each place is one or the other, and neighbours of 20 mm change.
def rows(line): return line if len(line) > 1 else [line[0][i:i + 6] for i in range(0, len(line[0]), 6)]
x, y, b = ([rows(l) for l in v] for v in (x, y, b))
panel = [i for i in range(len(x)) if sum(p != q for p, q in zip(x[i], y[i])) >= 70]
assert len(panel) == 80, len(panel)
high = [j for j in range(len(x[0])) if sum(x[i][j] != y[i][j] for i in panel) >= 70]
assert len(high) == 80, len(high)
for i, c in enumerate(panel):
    for j, r in enumerate(high):
        want = (x if (i // 20 + j // 20) % 2 else y)[c][r]
        assert b[c][r] == want, (i, j)
P
}
