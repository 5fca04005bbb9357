# What holds for every tool that reads or writes a stream: one table, every tool through every test.
# To add a tool, add a row; a tool that is not built is left out, and so is in the release build, unless LONG=1, what the
# sanitized one has, where the same test has seen it.
load ../lib/common

# row TOOL: sets kind (filter: stdin to stdout; reader: stdin to text or files; file: operand to stdout),
# args, wrong (arguments that are wrong usage), input (options of mkstream.py make) and
#   zero    exit status with a stream of no records (0 unless said)
#   memory  no, if the tool does not promise 8 MiB
#   writes  no, if nothing goes to standard output
row() {
    kind=filter args=() wrong=(-p nonesuch) input=() zero=0 memory=yes writes=yes
    case $1 in
    recode) args=(-s brats2017) wrong=(-s nonesuch) ;;
    znorm) ;;
    pack) args=(-r) wrong=(-l 20) ;;
    crop) args=(-m 16) wrong=(-s 5) ;;
    pick) args=(-m "$BATS_FILE_TMPDIR/folds" -f 0 val) wrong=(-f 0 val) ;;
    augment) args=(-s 1 noise@1 flip@1) wrong=(nonesuch) ;;
    folds) kind=reader args=(-k 2 -s 1) wrong=(-k 1 -s 1) zero=1 ;;
    tnsview) kind=reader args=(-t) wrong=(-k) ;;
    stats) kind=reader wrong=(-b 0) input=(scheme=canonical) memory=no ;;
    dice) kind=reader wrong=(-c nonesuch) input=(scheme=canonical pred=1) memory=no zero=any ;;
    measure) kind=reader wrong=(-n 7) input=(scheme=canonical pred=1) memory=no zero=any ;;
    overlay) kind=reader args=(-o pictures) wrong=(-z 99 -o x) input=(scheme=canonical pred=1) memory=no writes=no zero=any ;;
    slices2nii) kind=reader args=(-o volumes) wrong=(-s nonesuch -o x) memory=no writes=no zero=any ;;
    epochs) kind=file args=(-n 2 -s 3) wrong=(-n 0 x) memory=no zero=1 ;;
    tidy) args=(-w 5 -i) wrong=(-n 7 -w 5) input=(scheme=canonical pred=1) memory=no ;;
    mislabel) kind=file wrong=(-s) memory=no zero=any ;;
    strip) args=(-k "$BATS_FILE_TMPDIR/${masks:-masks}") wrong=(-k a -m b) input=(mm=16) memory=no ;; # voxels of a likely brain
    *) return 1 ;;
    esac
    [ -x "$(command -v "$1")" ]
}

tools() { # KIND...
    local t
    for t in recode znorm crop pack pick augment folds tnsview stats dice measure overlay slices2nii epochs mislabel tidy strip; do
        [ -x "$TOOLS/$t" ] || continue
        [ "$CONFIG" != release ] || [ -n "${LONG-}${all-}" ] || [ ! -x "$ROOT/build/asan/bin/$t" ] || continue
        if row $t && [[ " $* " = *" $kind "* ]]; then echo $t; fi
    done
}

# act TOOL FILE: the tool on a stream in a file, into out and err; its exit status.
act() {
    row "$1"
    if [ "$kind" = file ]; then
        "$1" "${args[@]}" "$2" >out 2>err </dev/null
    else
        "$1" "${args[@]}" <"$2" >out 2>err
    fi
}

# Does the file end in an end record? (NULs left out, since the shell drops them.)
ended() {
    [[ "$(tail -c 64 "$1" | tr -d '\000')" = $'\211TNS\r\n\032\n\001E'* ]]
}

# All findings of a test, so that one failure does not hide the next.
found() {
    echo "$*" >>findings
}
judge() {
    [ ! -s findings ] || { cat findings; return 1; }
}

make() {
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" make "$@"
}
dump() {
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" dump
}

setup_file() {
    "$PYTHON" -c 'import numpy' 2>/dev/null || return 0
    cd "$BATS_FILE_TMPDIR"
    printf '# folds 1 k=2 seed=1 by=patient\n' >folds
    for i in 000 001 010 011; do printf '0\tcase%s\tcase%s\n' $i $i; done >>folds
    printf '1\tother\tother\n' >>folds
    PYTHONPATH=$ROOT/tests/lib "$PYTHON" - <<'P'
import os
from niftis import np, write
def masks(folder, mm, shape, *names):
    os.makedirs(folder, exist_ok=True)
    mask = np.ones(shape, "u1")
    if shape[2] > 2:  # a brain that ends within the scan
        mask = np.pad(mask[1:-1, 1:-1, 1:-1], 1)
    for name in names:
        write(f"{folder}/{name}.nii.gz", mask, affine=np.diag([-mm, -mm, mm, 1]), pixdim=(mm, mm, mm))
masks("masks", 16, (20, 24, 3), "case000", "case001", "case010", "case011")
masks("masks.one", 1, (20, 24, 1), "case000", "case001")
masks("masks.large", 1, (240, 240, 20), "case000", "case001")
masks("masks.two", 16, (20, 24, 2), "case000")
masks("masks.two", 16, (20, 24, 1), "case010")
P
    for t in $(all=1 tools filter reader file); do
        row "$t"
        make "${input[@]}" kind=1 >"$t.in"
        make "${input[@]}" first=10 >"$t.more"
        make "${input[@]}" cases=0 >"$t.zero"
    done
    make cases=2 slices=20 h=240 w=240 extra=0 kind=1 >large
    make cases=2 slices=2 h=240 w=240 extra=0 kind=1 scheme=canonical pred=1 >large.canonical
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
    in=$BATS_FILE_TMPDIR
}

@test "contract: every tool of the tree that moves a stream stands in this table" {
    for f in "$ROOT"/tools/*.c; do
        t=$(basename "$f" .c)
        case $t in
        tool | *_* | nii2slices | regrid | phantom | train | infer | model2onnx | compare) continue ;; # have streams on one side or none, or need a model
        esac
        row "$t" || found "$t: no row, or not built"
    done
    judge
}

@test "contract: wrong usage gives 2, nothing on stdout and a line on stderr" {
    fails
    for t in $(tools filter reader file); do
        row "$t"
        for a in "-?" "${wrong[*]}" ; do
            status=0
            # shellcheck disable=SC2086
            "$t" $a <"$in/$t.in" >out 2>err || status=$?
            [ $status = 2 ] || found "$t $a: exit status $status"
            [ ! -s out ] || found "$t $a: stdout is not empty"
            [ -s err ] || found "$t $a: says nothing"
        done
    done
    for t in $(tools filter reader); do
        row "$t"
        status=0
        [ "$t" = augment ] || "$t" "${args[@]}" surplus <"$in/$t.in" >out 2>err || status=$?
        [ "$t" = augment ] || [ $status = 2 ] || found "$t with an operand too many: exit status $status"
    done
    judge
}

@test "contract: -h and -V print to stdout and give 0, and every option has a long name" {
    for t in $(tools filter reader file); do
        "$t" -h >out 2>err </dev/null || found "$t -h: exit status $?"
        grep -q "^usage: $t " out || found "$t -h: no usage line"
        "$t" --help 2>>err </dev/null | cmp - out || found "$t --help: not what -h says"
        "$t" -V >version 2>>err </dev/null || found "$t -V: exit status $?"
        grep -qx '[0-9]*\.[0-9]*\.[0-9]*' version || found "$t -V: no version alone"
        "$t" --version 2>>err </dev/null | cmp - version || found "$t --version: not what -V says"
        [ ! -s err ] || found "$t: -h or -V write to stderr"
        # What the usage has, with its long name, and whether it takes an argument.
        grep -v '^usage\|^  -\|^man' out | cat <(sed -n 's/^usage//p' out) - | grep -oE -- '-[A-Za-z]+\]?|-[A-Za-z] [A-Za-z0-9]+' |
            sed -E 's/^-(.) .+/\1=/; t; s/[]-]//g; s/./&\n/g' | grep . | sort -u >letters
        sed -nE 's/^  -(.), --[a-z0-9-]+(=?)$/\1\2/p' out | sort -u | grep -v '[hVvH]' >longs
        grep -v '[hVvH]' letters | cmp - longs || found "$t: options of the usage and of the list differ: $(diff letters longs)"
    done
    znorm -H -p slice <"$in/znorm.in" >short
    znorm --no-history --per=slice <"$in/znorm.in" | cmp - short || found "znorm: a long name is not its letter"
    judge
}

@test "contract: what is no stream is refused in one line that says so" {
    fails
    : >empty
    printf 'BraTS\tnot a stream, but text that is longer than one fixed part of a record, which is 64 bytes\n' >text
    printf '\037\213\010\000\000\000\000\000' >gzip
    printf '\211PNG\r\n\032\n and more' >png
    for t in $(tools filter reader file); do
        for f in empty text gzip png; do
            status=0
            act "$t" $f || status=$?
            [ $status = 1 ] || found "$t <$f: exit status $status"
            [ "$(wc -l <err)" = 1 ] || found "$t <$f: $(wc -l <err) lines on stderr"
            grep -qE "^$t: .*(not a tensor stream|empty)" err || found "$t <$f: says $(cat err)"
            ! ended out || found "$t <$f: wrote an end record"
        done
    done
    judge
}

# damaged cut|flip TOOL
damaged() {
    fails
    row "$2"
    "$PYTHON" "$ROOT/tests/lib/damage.py" "$1" "$in/$2.in" $kind "$2" "${args[@]}" >>findings || found "$2: not tried"
}

@test "contract: a stream cut anywhere is an error, and no end record goes out" {
    for t in $(tools filter reader file); do
        damaged cut "$t"
    done
    judge
}

@test "contract: a flipped bit in any part is an error, and no end record goes out" {
    for t in $(tools filter reader file); do
        # Tools that read keys alone hop over payloads in a file; through a pipe as well.
        [ "$t" = folds ] || damaged flip "$t"
    done
    judge
}

@test "contract: keys and tensors that a tool does not know pass bit for bit" {
    for t in $(tools filter file); do
        act "$t" "$in/$t.in" || found "$t: exit status $?"
        for f in "$in/$t.in" out; do
            dump <$f | grep -E '^  (x-lab|first_unknown|scalar|odd|half|nifti|generator|history=made)' | sort -u
        done >both
        [ "$(sort both | uniq -c | awk '$1 != 2' | wc -l)" = 0 ] || found "$t: $(sort both | uniq -u)"
        [ "$(wc -l <both)" -gt 20 ] || found "$t: nothing was compared"
    done
    judge
}

@test "contract: the output is a stream by the letter of the specification" {
    for t in $(tools filter file); do
        act "$t" "$in/$t.in"
        dump <out >/dev/null || found "$t: not as specified"
        ended out || found "$t: no end record"
        [ ! -s err ] || found "$t: says $(cat err)"
    done
    judge
}

@test "contract: two streams after one another are one stream, and stay two segments" {
    for t in $(tools filter); do
        cat "$in/$t.in" "$in/$t.more" >two
        act "$t" two || found "$t: exit status $?, says $(cat err)"
        [ "$(dump <out | grep -c '^header')" = 2 ] || found "$t: not two segments"
        [ "$(dump <out | grep -c '^record')" = 12 ] || found "$t: not twelve records"
        [ "$(dump <out | grep -E '^(more|end)' | tr '\n' ' ')" = "more end " ] || found "$t: does not say that more follows"
    done
    for t in $(tools reader file); do
        cat "$in/$t.in" "$in/$t.more" >two
        act "$t" two || found "$t: exit status $?, says $(cat err)"
    done
    judge
}

@test "contract: of two segments every part is cut, also where the output could not grow" {
    masks=masks.two
    for t in $(tools filter); do
        row "$t"
        make "${input[@]}" kind=1 cases=1 slices=2 >first
        make "${input[@]}" kind=1 cases=1 slices=1 first=10 >second
        cat first second >two
        "$PYTHON" "$ROOT/tests/lib/damage.py" grow two $kind "$t" "${args[@]}" >>findings || found "$t: not tried"
    done
    judge
}

@test "contract: a tool that fails leaves no whole stream behind another's" {
    echo "no stream" >text
    : >empty
    make >good
    mkdir -p no-case
    tried() { # COMMAND...: where standard input is no stream either
        cat good >both
        ! "$@" >>both 2>err <text || found "$*: does not fail"
        run -1 --separate-stderr tnsview -c <both
        [[ $stderr = "tnsview: stdin: "*"cut off in the middle"* ]] || found "after $*: $stderr"
        ! recode -s brats2017 <both >out 2>err || found "after $*: recode does not fail"
    }
    for t in $(tools filter); do
        row "$t"
        tried "$t" "${args[@]}"
    done
    tried nii2slices no-case
    tried nii2slices missing
    tried regrid no-case
    tried regrid -g missing no-case
    tried nii2slices -l msd no-case
    tried pick -m missing -f 0 val
    for f in missing text empty no-case; do
        tried epochs -b 0 -n 1 $f
        tried mislabel $f
        [ ! -x "$(command -v infer)" ] || tried infer -t none -m $f
    done
    judge
}

@test "contract: a mark that nobody knows is refused, by all alike" {
    fails
    for n in unsupported-mark-tensors unsupported-mark bad-mark-tensors; do
        hex tns-$n >marked
        for t in $(tools filter reader file); do
            status=0
            act "$t" marked || status=$?
            [ $status = 1 ] && grep -qE "^$t: .*: (unsupported: mark 'foo'|corrupt: a mark with tensors)" err || found "$t <$n: status $status, says $(cat err)"
            ! ended out || found "$t: wrote an end record"
        done
    done
    judge
}

@test "contract: a FIFO where a file is wanted is refused, and not waited for" {
    mkfifo fifo
    mkdir msd
    mkfifo msd/dataset.json
    echo "arch: unet" >u.yaml
    while read -r tool args; do
        [ -x "$(command -v "$tool")" ] || continue
        status=0
        # shellcheck disable=SC2086
        timeout 60 "$tool" $args <"$in/recode.in" >out 2>err || status=$?
        [[ $status = [12] ]] && [ "$(wc -l <err)" = 1 ] || found "$tool $args: status $status, says $(cat err)"
    done <<'LIST'
pick -m fifo -f 0 val
tidy -f fifo
measure -b fifo
folds -k 2 -s 1 -l fifo
epochs -b 0 -n 1 fifo
mislabel fifo
nii2slices fifo
nii2slices -l msd msd
nii2slices -l file fifo
nii2slices -w fifo fifo
regrid -g fifo fifo
infer -t none -m fifo
train -c fifo -o m
train -c u.yaml -e fifo -o m
LIST
    judge
}

@test "contract: no records in, no records out" {
    for t in $(tools filter reader file); do
        status=0
        act "$t" "$in/$t.zero" || status=$?
        row "$t"
        [ $zero = any ] && [ $status -le 1 ] || [ $status = $zero ] || found "$t: exit status $status"
        [ $kind != filter ] || [ "$(dump <out | grep -cE '^(header|record|end)')" = 2 ] || found "$t: not an empty stream"
        [ $status = 0 ] || [ "$(wc -l <err)" = 1 ] || found "$t: says $(cat err)"
    done
    judge
}

@test "contract: the mark that ends an epoch goes through untouched" {
    for t in $(tools filter); do
        row "$t"
        make "${input[@]}" marks=1 >marked
        act "$t" marked || found "$t: exit status $?, says $(cat err)"
        diff <(dump <marked | sed -n '/^record 6/,$p') <(dump <out | sed -n '/^record 6/,$p') >diff || found "$t: $(cat diff)"
    done
    judge
}

@test "contract: the history grows by one line, and -H leaves it as it is" {
    for t in $(tools filter file); do
        act "$t" "$in/$t.in"
        [ "$(dump <out | grep -c '^  history=')" = 2 ] || found "$t: not one history line more"
        dump <out | grep '^  history=' | tail -n 1 | grep -q "^  history=$t" || found "$t: history is not its own"
        ! dump <out | grep '^  history=' | grep -q / || found "$t: a path in the history"
        row "$t"
        if [ $kind = file ]; then "$t" -H "${args[@]}" "$in/$t.in" >out; else "$t" -H "${args[@]}" <"$in/$t.in" >out; fi
        [ "$(dump <out | grep -c '^  history=')" = 1 ] || found "$t -H: the history changed"
    done
    judge
}

@test "contract: a full disk is an error" {
    for t in $(tools filter reader file); do
        row "$t"
        [ $writes = yes ] || continue
        status=0
        if [ $kind = file ]; then
            "$t" "${args[@]}" "$in/$t.in" >/dev/full 2>err || status=$?
        else
            "$t" "${args[@]}" <"$in/$t.in" >/dev/full 2>err || status=$?
        fi
        [ $status = 1 ] || found "$t: exit status $status"
        grep -q "^$t: stdout: .*No space left" err || found "$t: says $(cat err)"
    done
    judge
}

@test "contract: a reader that goes away ends the tool, quietly" {
    masks=masks.large
    for t in $(tools filter); do
        row "$t"
        [ "$t" != recode ] || args=(-s brats2017)
        [[ " ${input[*]}" != *" scheme="* ]] && s=large || s=large.canonical
        bash -c 'timeout 60 "$@" <'"$in/$s"' 2>err | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}' - "$t" "${args[@]}" && s=0 || s=$?
        [ $s = 141 ] || found "$t: exit status $s"
        [ ! -s err ] || found "$t: says $(cat err)"
    done
    judge
}

@test "contract: a terminal is refused as a stream" {
    need_command script
    script -qec true /dev/null >/dev/null 2>&1 </dev/null || skip "no pseudo-terminal can be made here"
    for t in $(tools filter); do
        row "$t"
        status=0
        script -qec "$t ${args[*]} <$in/$t.in" /dev/null >out 2>&1 </dev/null || status=$?
        [ $status = 2 ] || found "$t on a terminal: exit status $status"
        grep -q terminal out || found "$t: says $(cat out)"
    done
    for t in $(tools filter reader); do
        row "$t"
        status=0
        script -qec "$t ${args[*]} >out" /dev/null >said 2>&1 </dev/null || status=$?
        [ $status = 2 ] || found "$t from a terminal: exit status $status"
        grep -q terminal said || found "$t: says $(cat said)"
    done
    judge
}

@test "contract: two runs give the same bytes" {
    for t in $(tools filter reader file); do
        act "$t" "$in/$t.in"
        mv out first
        act "$t" "$in/$t.in"
        cmp first out || found "$t: differ"
    done
    judge
}

@test "contract: a tensor that a tool has no use for takes no memory, and passes bit for bit" {
    need_release memory
    all=1
    need_command time
    "$PYTHON" - "$ROOT/tests/lib" <<'P'
import sys
sys.path.insert(0, sys.argv[1])
from mkstream import np, stream, study
def with_more(first):
    more = np.random.default_rng(9).standard_normal((64, 200, 200), dtype="f4") # 10 MB
    return [(m, {**t, "foreign": more, "last": np.arange(9, dtype="i2")}) for m, t in study(cases=2, slices=1, extra=0, kind=1, **first)]
open("raw", "wb").write(stream({"history": "made"}, with_more({}), 1))
open("canonical", "wb").write(stream({"history": "made"}, with_more(dict(scheme="canonical", pred=1)), 1))
P
    foreign='^record|  (foreign|last) ' masks=masks.one
    for t in $(tools filter reader); do
        [[ $t != @(tnsview|pack) ]] || continue # have a use for all
        row "$t"
        [[ " ${input[*]}" != *" scheme="* ]] && s=raw || s=canonical
        kib=$(cat $s | peak_kib "$t" "${args[@]}") || found "$t: exit status $?"
        [ $t = strip ] && most=4608 || most=4096 # the engine is in it
        [ "$kib" -le $most ] || found "$t: $kib KiB"
        [ "$kind" = filter ] || continue
        "$t" "${args[@]}" <$s >out
        diff <(dump <$s | grep -E "$foreign") <(dump <out | grep -E "$foreign") >>findings || found "$t: differs"
    done
    judge
}

# law TOOL SIDE BYTES: KiB that its page allows for slices of 4 channels of that many bytes a voxel, and a label.
law() {
    local n=$(($2 * $2)) in=$(($2 * $2 * (4 * $3 + 1))) bytes
    case $1 in
    pick | folds) bytes=0 ;;
    recode) bytes=$in ;;
    pack) bytes=$((5 * 1048576 + in + 12 * n * $3)) ;;
    znorm) bytes=$((in + ($3 == 4 ? 0 : 16 * n))) ;;
    crop) bytes=$((in + in * 9 / 16)) ;;
    augment) bytes=$((in + 12 * n)) ;;
    slices2nii) bytes=$((in + 2 * n * 4 * $3)) ;;
    tnsview) bytes=$in ;;
    stats) bytes=$((in + 4 * n)) ;;
    esac
    echo $((3072 + bytes / 1024))
}

@test "contract: memory grows with a list of cases as the pages say" {
    need_release memory
    all=1
    need_command time
    need_python numpy
    allows() { # LINES BYTES COMMAND...: 3 MiB and so many bytes a line
        local kib most=$((3072 + $1 * $2 / 1024))
        kib=$(peak_kib "${@:3}") || found "$3: exit status $?"
        [ "$kib" -le "$most" ] || found "${*:3}, $1 lines: $kib KiB (wanted at most $most)"
    }
    mkdir in
    phantom -n 1 -d 16x16x8 -o in
    nii2slices in/* >one
    for length in 12 200; do
        for n in 2000 10000; do
            "$PYTHON" -c 'import sys
n, length = map(int, sys.argv[1:])
for i in range(n):
    print(str(i).rjust(length, "p"), str(i).rjust(length, "p"), sep="\t")
print(*["BraTS20_Training_001"] * 2, sep="\t")' "$n" "$length" >list
            allows "$n" $((500 + 6 * length)) folds -k 5 -s 1 -l list
            folds -k 5 -s 1 -l list >manifest
            allows "$n" $((100 + 2 * length)) pick -m manifest -f 0 train <one
            nii=$(peak_kib nii2slices -w list in/*)
            [ "$nii" -le $((6144 + n * (64 + 2 * length) / 1024)) ] || found "nii2slices -w, $n lines: $nii KiB"
        done
    done
    "$PYTHON" "$ROOT/tests/lib/many.py" 5000 40 0 >s
    allows 5000 $((500 + 6 * 40)) folds -k 5 -s 1 <s
    allows 5000 $((20 + 400 + 4 * 40)) epochs -b 0 -n 1 s
    # each of the 5000 is a case of its own here
    allows 5000 $((16 + 4 + 8 + 400 + 4 * 40 + 100 + 4 * 40)) epochs -b 0 -n 1 -d 16 s
    allows 5000 $((16 + 4 + 400 + 4 * 40 + 100 + 4 * 40)) epochs -b 0 -n 1 -N 1 s
    tnsview -k patient <s | sed 's/$/\t2/' | sort -u >weights
    allows 5000 $((44 + 400 + 4 * 40 + 200 + 6 * 40)) epochs -b 0 -n 1 -p -w weights s
    judge
}

@test "contract: memory grows with the slice as the pages say, at three sizes" {
    need_release memory
    all=1
    need_command time
    for side in 160 320 640; do
        for type in i2 f4; do
            make cases=2 slices=1 h=$side w=$side extra=0 kind=1 dtype=$type >s
            for t in recode znorm crop pack pick augment folds slices2nii tnsview stats; do
                [ "$t" != augment ] || [ $type = f4 ] || continue
                row $t
                [ $t != crop ] || args=(-s $((side * 3 / 4))x$((side * 3 / 4)))
                [ $t != augment ] || args=(noise@1 brightness@1 contrast@1 gamma@1 blur@1 lowres@1 rotate@1 flip@1 scale@1 elastic@1)
                [ $t != slices2nii ] || { rm -rf o && args=(-n image -o o); }
                [ $t != tnsview ] || args=(-t)
                [ $t != stats ] || args=(-i)
                kib=$(peak_kib $t "${args[@]}" <s) || found "$t: exit status $?"
                most=$(law $t $side ${type#?})
                [ "$kib" -le "$most" ] || found "$t, $side $type: $kib KiB (wanted at most $most)"
            done
        done
    done
    judge
}

@test "contract: 8 MiB are enough for any number of full slices" {
    need_release memory
    all=1
    need_command time
    for t in $(tools filter reader); do
        row "$t"
        [ $memory = yes ] || continue
        kib=$(peak_kib "$t" "${args[@]}" <"$in/large") || found "$t: exit status $?"
        [ "$kib" -le 8192 ] || found "$t: $kib KiB"
        kib=$(cat "$in/large" | peak_kib "$t" "${args[@]}") || found "$t from a pipe: exit status $?"
        [ "$kib" -le 8192 ] || found "$t from a pipe: $kib KiB"
    done
    judge
}
