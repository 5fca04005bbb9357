# What a tool cannot do any more once its files are open: a library is preloaded that, at every read of
# the input, tries what a hijacked parser would (tests/lib/probe.c).
load ../lib/common

setup_file() {
    [ "${CONFIG:-release}" = release ] || return 0
    cd "$BATS_FILE_TMPDIR"
    ${CC:-cc} -D_GNU_SOURCE -std=c11 -O1 -shared -fPIC -o probe.so "$ROOT/tests/lib/probe.c" || return 0
    phantom -n 4 -d 32x32x12 -s 3 -o cases
    phantom -n 2 -d 32x32x12 -s 3 -l msd -o msd
    nii2slices -t cases/*/ >raw.tns
    recode -s brats2017 <raw.tns | znorm >norm.tns
    folds -k 2 -s 1 <norm.tns >folds
    pick -m folds -f 0 train <norm.tns >train.tns
    pick -m folds -f 0 val <norm.tns >val.tns
    tnsview -k case <norm.tns | sort -u >list
    epochs -b 0 -n 1 -s 1 train.tns >epochs.tns
    printf 'arch: unet\nbase: 2\nbatch: 2\n' >unet.yaml
    train -j 2 -c unet.yaml -o model <epochs.tns 2>/dev/null
    infer -t none -j 2 -m model <val.tns >pred.tns
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_release "sanitizers need what tools give up"
    grep -q '^Seccomp:' /proc/self/status || skip "the kernel has no seccomp"
    case $(uname -m) in x86_64 | aarch64 | riscv64) ;; *) skip "no filter for $(uname -m)" ;; esac
    in=$BATS_FILE_TMPDIR
    [ -e "$in/probe.so" ] || skip "no C compiler for the preloaded library"
    mkdir -p secret
    echo "of another patient" >secret/file
}

landlock() {
    "$PYTHON" -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(444, None, 0, 1) < 1)'
}

# probed TOOL ARGS...: the tool with the library; what it tried goes to the file log.
probed() {
    rm -f log
    PROBE_LOG=$PWD/log PROBE_SECRET=$PWD/secret/file PROBE_NEW=$PWD/secret/new LD_PRELOAD=$in/probe.so "$@"
}

# refused PLACE [BUT]: at PLACE (a pattern) something was tried, and all of it was refused but BUT.
refused() {
    grep -E "^($1) " log >tried || { echo "nothing was read at $1:"; cat log; return 1; }
    sort -u tried | awk -v but="${2-}" '
        NF != 12 { print "tried too little:", $0; bad = 1 }
        { for (i = 2; i <= NF; i++) if ($i !~ /=(EPERM|EACCES)$/ && index(" " but " ", " " $i " ") == 0) { print $1, $i; bad = 1 } }
        END { exit bad }'
}

files() { # what only Landlock refuses to a tool that opens files
    landlock || echo "open=ok create=ok rename=ok rename=ENOENT unlink=ok unlink=ENOENT"
}

@test "confine: unconfined, what the library tries does succeed" {
    probed cat "$in/folds" >/dev/null
    sort -u log | grep -E ' open=ok create=ok rename=ok unlink=E?[a-zA-Z]* socket=ok unix=ok exec=ENOENT fork=ok kill=ok ptrace=E[A-Z]* code=ok$'
    [ ! -e secret/file ]
}

@test "confine: every tool is tried below" {
    for f in "$ROOT"/tools/*.c; do
        t=${f##*/} t=${t%.c}
        case $t in
        tool | *_*) ;;
        *) grep -qE "^ *(streams|files|probed) $t\b" "$BATS_TEST_FILENAME" || { echo "$t is not tried"; false; } ;;
        esac
    done
}

streams() { # TOOL INPUT ARGS...: reads one stream from standard input, and the same comes out as without the library
    local t=$1 from=$2
    shift 2
    "$t" "$@" <"$from" >want
    probed "$t" "$@" <"$from" >got
    cmp want got
    refused '[0-9]+|text' || { echo "in $t"; false; }
}

@test "confine: filters of streams can open nothing, connect to nothing and start nothing" {
    streams recode "$in/raw.tns" -s brats2017
    streams znorm "$in/raw.tns"
    streams pack "$in/raw.tns"
    streams crop "$in/norm.tns" -m 16
    streams augment "$in/norm.tns" -s 1 noise@1
    streams tnsview "$in/norm.tns" -t
    streams stats "$in/norm.tns"
    streams dice "$in/pred.tns" -L
    streams measure "$in/pred.tns"
    streams tidy "$in/pred.tns" -w 20 -i
    streams tidy "$in/pred.tns" -c -L
    streams folds "$in/norm.tns" -k 2 -s 1
    streams pick "$in/norm.tns" -m "$in/folds" -f 0 val
    streams epochs /dev/null -n 2 -s 1 "$in/norm.tns"
    streams mislabel /dev/null -s 1 "$in/norm.tns"
}

@test "confine: manifests and lists are read within" {
    probed pick -m "$in/folds" -f 0 val <"$in/norm.tns" >/dev/null
    refused text
    probed folds -k 2 -s 1 -l "$in/list" >/dev/null
    refused text
    dice -L <"$in/pred.tns" >scores
    cut -f 2 scores | sed 's/.*/&\there/' >sites
    probed compare -L -g sites A=scores B=scores >/dev/null
    refused text
}

@test "confine: nii2slices reads the cases that were named, and nothing else" {
    nii2slices "$in"/cases/*/ >want
    probed nii2slices "$in"/cases/*/ >got
    cmp want got
    refused '[0-9]+' "$(landlock || echo open=ok)"
}

@test "confine: strip reads the masks or the model that were named, and nothing else" {
    mkdir masks
    for c in "$in"/cases/*; do cp "$c"/*_seg.nii.gz "masks/${c##*/}.nii.gz"; done
    strip -k masks <"$in/raw.tns" >want 2>/dev/null
    probed strip -k masks <"$in/raw.tns" >got 2>/dev/null
    cmp want got
    refused '[0-9]+' "$(files)"
    run -1 probed strip -m "$in/model" <"$in/raw.tns"
    [[ "$output" = *"no network that tells brain"* ]]
}

@test "confine: regrid reads scans, maps and masks, and then nothing else" {
    cp -r "$in"/cases/BraTS20_Training_001 .
    printf '1 0 0 1\n0 1 0 0\n0 0 1 0\n' >BraTS20_Training_001/t1-to-t1gd.txt
    regrid -s 8 -k BraTS20_Training_001_seg.nii.gz BraTS20_Training_001 >want
    probed regrid -s 8 -k BraTS20_Training_001_seg.nii.gz BraTS20_Training_001 >got
    cmp want got
    refused '[0-9]+' "$(landlock || echo open=ok)"
}

@test "confine: nii2slices reads dataset.json without the means to write, connect or start" {
    nii2slices -l msd "$in/msd" >want
    probed nii2slices -l msd "$in/msd" >got
    cmp want got
    refused '[0-9]+' open=ok # until it is known which files there are
}

@test "confine: nii2slices follows a link that leads out of the case" {
    mkdir store
    cp -r "$in"/cases/BraTS20_Training_001 .
    nii2slices BraTS20_Training_001 >want
    for f in BraTS20_Training_001/*; do
        mv "$f" store
        ln -s "../store/${f##*/}" "$f"
    done
    nii2slices BraTS20_Training_001 >got
    cmp want got
}

@test "confine: infer reads its model and nothing else, then opens nothing" {
    infer -t none -j 2 -m "$in/model" <"$in/val.tns" >want
    probed infer -t none -j 2 -m "$in/model" <"$in/val.tns" >got
    cmp want got
    refused 0
    refused '[1-9][0-9]*' "$(landlock || echo open=ok)"
}

@test "confine: model2onnx reads its model, and then nothing else" {
    model2onnx "$in/model" >want
    probed model2onnx "$in/model" >got
    cmp want got
    refused '[0-9]+|text' "$(landlock || echo open=ok)"
}

@test "confine: train writes beside its model and nowhere else" {
    mkdir out
    probed train -j 2 -c "$in/unet.yaml" -e "$in/val.tns" -o out/model <"$in/epochs.tns" 2>/dev/null
    for place in text 0 '[1-9][0-9]*' fsync; do
        refused "$place" "$(files)"
    done
    train -j 2 -c "$in/unet.yaml" -e "$in/val.tns" -o want <"$in/epochs.tns" 2>/dev/null
    cmp want out/model
}

@test "confine: train follows a link that leads to another folder" {
    mkdir store
    ln -s store link
    train -j 2 -c "$in/unet.yaml" -o link/model <"$in/epochs.tns" 2>/dev/null
    [ -L link ]
    cmp store/model "$in/model"
}

@test "confine: what writes into a folder writes nowhere else" {
    probed slices2nii -o volumes <"$in/norm.tns" 2>/dev/null
    [ -n "$(ls volumes)" ]
    refused 0 "$(files)"
    refused fsync "$(files)"
    probed overlay -o pictures <"$in/norm.tns"
    [ -n "$(ls pictures)" ]
    refused 0 "$(files)"
    refused fsync "$(files)"
    probed phantom -n 2 -d 32x32x12 -o studies
    [ -n "$(ls studies)" ]
    refused fsync "$(files)"
}

# Without anything preloaded: the tool has written a record, and waits for the next.
@test "confine: the kernel says so of a filter at work" {
    for t in recode znorm crop; do
        rm -f to from
        mkfifo to from
        args=()
        [ $t != recode ] || args=(-s brats2017)
        $t "${args[@]}" <to >from &
        pid=$!
        exec 8>to 9<from
        head -c -64 "$in/raw.tns" >&8 # all but the end record
        head -c 64 <&9 >header
        grep -qE '^Seccomp:[[:space:]]+2$' /proc/$pid/status
        grep -qE '^NoNewPrivs:[[:space:]]+1$' /proc/$pid/status
        tail -c 64 "$in/raw.tns" >&8
        exec 8>&-
        cat <&9 >rest
        exec 9<&-
        wait $pid
    done
}

# older CALL... -- COMMAND: where the kernel has none of these calls.
older() {
    cat >older.c <<'C'
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct sock_filter f[64] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    int n = 1, i = 1;
    for (; i < argc && strcmp(argv[i], "--"); i++) {
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)atoi(argv[i]), 0, 1);
        f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
    }
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog p = {(unsigned short)n, f};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p))
        return 126;
    execvp(argv[i + 1], argv + i + 1);
    return 127;
}
C
    [ -x older ] || ${CC:-cc} -o older older.c
    ./older "$@"
}

@test "confine: a kernel that has neither seccomp nor Landlock, or one of them, changes nothing" {
    seccomp=$(printf '#include <sys/syscall.h>\nSYS_seccomp\n' | ${CC:-cc} -E - | tail -n 1)
    nii2slices "$in"/cases/*/ >want
    for calls in "$seccomp" 444 "$seccomp 444"; do
        # shellcheck disable=SC2086
        run -0 --separate-stderr older $calls -- sh -c 'nii2slices "$1"/cases/*/ >got' _ "$in"
        [ -z "$stderr" ]
        cmp want got
        older $calls -- train -j 2 -c "$in/unet.yaml" -o model <"$in/epochs.tns" 2>/dev/null
        cmp model "$in/model"
        rm model*
        older $calls -- infer -t none -j 2 -m "$in/model" <"$in/val.tns" >pred.tns
        cmp pred.tns "$in/pred.tns"
    done
}

@test "confine: a library that would tidy up at the end, and cannot, keeps no tool from ending well" {
    ${CC:-cc} -shared -fPIC -o end.so -x c - <<<'#include <stdlib.h>
__attribute__((destructor)) static void end(void) { abort(); }'
    recode -s brats2017 <"$in/raw.tns" >want
    LD_PRELOAD=$PWD/end.so recode -s brats2017 <"$in/raw.tns" >got
    cmp want got
    LD_PRELOAD=$PWD/end.so tnsview -k case <"$in/raw.tns" >list
    [ "$(sort -u list | wc -l)" = 4 ]
    LD_PRELOAD=$PWD/end.so phantom -n 1 -d 32x32x12 -s 3 -o p
    # Files go first, and the status is the tool's.
    head -c 3000 "$in/raw.tns" >cut.tns
    LD_PRELOAD=$PWD/end.so run -1 slices2nii -o volumes <cut.tns
    [ -z "$(ls -A volumes 2>/dev/null)" ]
}
