# Batches in groups, and several processes that share them: one model, whoever computes which.
load ../lib/common

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    "$PYTHON" -c 'import numpy' 2>/dev/null || return 0
    blobs -p 4 -n 4 -d 32x32 >train.tns
    blobs -p 3 -n 3 -1 10 -d 32x48 -e >val.tns
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_release "MPI knows no sanitizer"
    need_python numpy
    need_command mpicc
    need_command mpirun
    cp "$BATS_FILE_TMPDIR"/*.tns .
    export OMP_WAIT_POLICY=passive OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    # One machine, without ssh or a network, with fewer cores than processes.
    export OMPI_MCA_plm=isolated OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
    export OMPI_MCA_btl=^tcp OMPI_MCA_btl_base_warn_component_unused=0 OMPI_MCA_hwloc_base_binding_policy=none
    printf 'arch: unet\nbase: 2\nbatch: 5\nrate: 0.01\ngroups: 4\n' >c.yaml
    rank='epochs -b 0 -n ${PASSES-2} train.tns |'
    mpi="$ROOT/build/release/mpi/train -j 1 -c c.yaml -e val.tns"
}

# ranks N ARGS...: so many processes, each the pipeline $rank into train.
ranks() {
    timeout 120 mpirun -n "$1" sh -c "$rank $mpi ${*:2}"
}

# The lines of train about its end, in $output.
ends() {
    grep -aE '^train: rank [0-9]+ \(.*\): ' <<<"$output" | grep -v ' MiB$\|: epoch [0-9]*/'
}

same_log() { # A B: but for the seconds
    diff <(sed 's/[^\t]*$//' "$1") <(sed 's/[^\t]*$//' "$2")
}

@test "train by MPI: 1, 2, 3 and 4 processes, and one without MPI, make one model, one checkpoint and one log" {
    epochs -b 0 -n 2 train.tns | train -j 2 -c c.yaml -e val.tns -o alone 2>err
    grep -aq 'groups: 4' alone
    for n in 1 2 4; do
        ranks $n -o "m$n" 2>err || { cat err; false; }
        cmp alone "m$n"
        cmp alone.last "m$n.last"
        same_log alone.tsv "m$n.tsv"
    done
    # What each has a part of: gradients that are clipped, or added up, and averages; rounded ones, all of them.
    for more in 'clip: 0.5\naccumulate: 2\nema: 0.9' 'gradients: bf16\noptimiser: sgd'; do
        printf "arch: unet\nbase: 4\nbatch: 5\nrate: 0.01\ngroups: 4\n$more\n" >c.yaml
        rm -f half* whole*
        epochs -b 0 -n 2 train.tns | train -j 1 -c c.yaml -e val.tns -o whole 2>err
        ranks 2 -o half 2>err || { cat err; false; }
        cmp whole half
        cmp whole.last half.last
        run ! cmp -s alone whole
    done
    # Of three of them, each has two of six groups.
    printf 'arch: unet\nbase: 2\nbatch: 6\nrate: 0.01\ngroups: 6\nparameters: {instance_norm: 1}\n' >c.yaml
    epochs -b 0 -n 2 train.tns | train -j 1 -c c.yaml -e val.tns -o six 2>err
    ranks 3 -o m6 2>err || { cat err; false; }
    cmp six m6
}

@test "train by MPI: each process has its part of the stream, augmented, and nobody's is missing" {
    rank='epochs -n 2 -r mpi -B 5 train.tns | augment -s 3 noise flip |'
    epochs -n 2 -B 5 train.tns | augment -s 3 noise flip | train -j 1 -c c.yaml -e val.tns -o alone 2>err
    ranks 2 -o two 2>err || { cat err; false; }
    cmp alone two
    # Parts of a stream: no record twice, none in none; marks in each.
    epochs -n 2 -B 5 train.tns | tnsview -k epoch -k index -k mark | sort >all
    for r in 0 1 2; do epochs -n 2 -B 5 -r $r/3 train.tns | tnsview -k epoch -k index -k mark >part$r; done
    grep -hv epoch$ part? | sort >parts
    grep -v epoch$ all | cmp - parts
    [ "$(grep -c epoch$ part1)" = 2 ]
    # Whoever was told of other batches says so.
    rank='epochs -b 0 -n 2 -r mpi -B 8 train.tns |'
    run ! ranks 2 -o wrong
    grep -qE 'rank . \(.*\): .*records are missing' <<<"$output"
    [ ! -e wrong ]
    run -2 pipe 'epochs -n 2 -r 2/2 train.tns | cat'
    grep -qx "epochs: -r: (wanted RANK/RANKS such as 0/2, or mpi, got '2/2')" <<<"$output"
}

@test "train by MPI: what each process takes is planned, buffers and all; others than the first hold their part of the moments alone" {
    rank='epochs -b 0 -n 2 train.tns | command time -q -f %M -o peak.$OMPI_COMM_WORLD_RANK'
    for base in 16 ${LONG:+64}; do
        printf "arch: unet\nbase: $base\nbatch: 4\ngroups: 4\n" >c.yaml
        for n in 1 2 4; do
            rm -f m m.* peak.*
            ranks $n -o m 2>err || { cat err; false; }
            read -r first others < <(sed -n 's/.* thread, \([0-9]*\) MiB\(, others \([0-9]*\) MiB\)\?$/\1 \3/p' err)
            [ $n = 1 ] || [ "$others" -lt "$first" ]
            for r in peak.*; do
                [ $r = peak.0 ] && plan=$first || plan=$others
                [ "$(cat $r)" -le $((plan * 1024)) ] || { echo "base $base, $n processes: planned $plan MiB, $r is $(cat $r) KiB"; false; }
            done
            [ "$(ls peak.* | wc -l)" = $n ]
        done
    done
}

@test "train by MPI: processes with messages alone between them make the same model as those that share memory" {
    unshare -Uru true 2>/dev/null || skip "no namespaces can be made here"
    printf 'arch: unet\nbase: 4\nbatch: 5\nrate: 0.01\ngroups: 4\n' >c.yaml
    for more in '' 'gradients: bf16' 'accumulate: 2'; do
        echo "$more" >>c.yaml
        rm -f half* apart*
        ranks 2 -o half 2>err || { cat err; false; }
        timeout 120 mpirun -n 2 unshare -Uru sh -c "hostname host\$OMPI_COMM_WORLD_RANK; $rank $mpi -o apart" 2>err || { cat err; false; }
        grep -q 'rank 0 (host0)' err
        cmp half apart
        cmp half.last apart.last
    done
}

@test "train by MPI: MPICH's processes on one machine make the same model, and name one that dies" {
    need_command mpicc.mpich
    need_command mpirun.mpich
    make -s -C "$ROOT" MPICC=mpicc.mpich MPI_DIR=mpich build/release/mpich/train
    epochs -b 0 -n 2 train.tns | train -j 1 -c c.yaml -e val.tns -o alone 2>err
    mpi="$ROOT/build/release/mpich/train -j 1 -c c.yaml -e val.tns"
    for n in 1 2 4; do
        timeout 120 mpirun.mpich -n $n sh -c "$rank $mpi -o m$n" >said 2>&1 || { cat said; false; }
        cmp alone m$n
        [ $n = 1 ] || grep -q 'rank 0 (.*): unet' said
        run ! grep -i 'ucx *error' said
    done
    rank='epochs -b 0 -n 2 train.tns | if [ $PMI_RANK = 1 ]; then head -c 400000; else cat; fi |'
    run ! timeout 60 mpirun.mpich -n 2 sh -c "$rank $mpi -o m"
    [ "$(grep -acE '^train: rank [01] .*cut off' <<<"$output")" = 1 ]
    [ ! -e m ]
}

@test "train by MPI: a run goes on with another number of processes, to the same model" {
    export PASSES=3
    epochs -b 0 -n 3 train.tns | train -j 1 -c c.yaml -e val.tns -o alone 2>err
    ranks 2 -x 1 -o m 2>err || { cat err; false; }
    [ ! -e m ]
    ranks 4 -r -x 2 -o m 2>err || { cat err; false; }
    epochs -b 0 -n 3 train.tns | train -r -j 1 -c c.yaml -e val.tns -o m 2>err
    cmp alone m
    cmp alone.last m.last
}

@test "train by MPI: a process that hangs, or whose stream is cut, ends all, is named, and -r goes on" {
    export PASSES=3
    epochs -b 0 -n 3 train.tns | train -j 1 -c c.yaml -e val.tns -o alone 2>err
    ranks 2 -x 1 -o m 2>err || { cat err; false; }
    rank='case $OMPI_COMM_WORLD_RANK in 1) { epochs -b 0 -n 3 train.tns | head -c 400000; exec sleep 60; } ;; *) epochs -b 0 -n 3 train.tns ;; esac |'
    run ! ranks 2 -t 2 -r -o m
    [ "$(ends | wc -l)" = 1 ]
    ends | grep -qE '^train: rank 0 \(.*\): rank 1 \(.*\) has not been heard of for [0-9.]* s: it hangs'
    [ ! -e m ]
    rank=${rank/exec sleep 60/true}
    run ! ranks 2 -r -o m
    [ "$(ends | wc -l)" = 1 ]
    ends | grep -qE '^train: rank 1 \(.*\): stdin: .*cut off'
    [ ! -e m ]
    # The disk of rank 0, who writes, is gone.
    rank='epochs -b 0 -n 3 train.tns |'
    local whole=$mpi
    mpi="env \$([ \$OMPI_COMM_WORLD_RANK = 1 ] || echo FAULT=fsync:1 LD_PRELOAD=$ROOT/build/release/shim.so) $mpi"
    run ! ranks 2 -r -o m
    [ "$(ends | wc -l)" = 1 ]
    ends | grep -qE '^train: rank 0 \(.*\): m[.a-z]*: .*Input/output error'
    [ ! -e m ]
    mpi=$whole
    ranks 2 -r -o m 2>err || { cat err; false; }
    cmp alone m
}

@test "train by MPI: a disk that is full on one ends all within a minute, is named, and -r goes on once there is room" {
    unshare -m sh -c 'mount -t tmpfs -o size=16k none .' 2>/dev/null || skip "no file system may be mounted here"
    export PASSES=2 rank mpi
    epochs -b 0 -n 2 train.tns | train -j 1 -c c.yaml -e val.tns -o alone 2>err
    mkdir full
    cat >run.sh <<'SH'
set -e
mount -t tmpfs -o size=8m none full
go() { timeout 60 mpirun -n 2 sh -c "$rank $mpi -r -o full/m $*"; }
go -x 1
mount -o remount,size=$(($(du -sk full | cut -f 1) + 8))k full
go 2>said && exit 3
[ $? -ne 124 ] && [ ! -e full/m ]
mount -o remount,size=8m full
go
cmp alone full/m
SH
    unshare -m sh run.sh 2>err || { cat err said; false; }
    output=$(cat said)
    [ "$(ends | wc -l)" = 1 ]
    ends | grep -qE '^train: rank 0 \(.*\): full/m[.a-z]*: .*No space left on device'
}

@test "train by MPI: killed (LONG: 50 times) at any moment, one of two ends all in a minute and is named, and -r goes on" {
    export PASSES=${LONG:+200}; PASSES=${PASSES:-4}
    epochs -b 0 -n $PASSES train.tns | train -j 1 -c c.yaml -e val.tns -o alone 2>err
    "$PYTHON" - "$ROOT/build/release/mpi/train" $PASSES ${LONG:+50} <<'PY'
import os, random, re, signal, subprocess, sys
train, passes, kills = sys.argv[1], sys.argv[2], int((sys.argv + [1])[3])
run = f"epochs -b 0 -n {passes} -r mpi -B 5 train.tns | exec {train} -r -t 10 -j 1 -c c.yaml -e val.tns -o m"
def trains(): # rank -> process
    found = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{p}/exe") == train and os.getcwd() == os.readlink(f"/proc/{p}/cwd"):
                said = open(f"/proc/{p}/environ", "rb").read().split(b"OMPI_COMM_WORLD_RANK=")[1]
                found[int(said.split(b"\0")[0])] = int(p)
        except (OSError, IndexError): # gone, or just begun
            pass
    return found
def over(job, seconds):
    try:
        return job.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
random.seed(1)
killed = 0
while killed < kills:
    job = subprocess.Popen(["mpirun", "-n", "2", "sh", "-c", run], stderr=subprocess.PIPE, text=True, start_new_session=True)
    while len(trains()) < 2 and over(job, 0.02) is None:
        pass
    over(job, random.random() * 0.3)
    rank, there = random.randrange(2), trains()
    if rank not in there:
        break  # it was over before
    os.kill(there[rank], signal.SIGKILL)
    try:
        said = job.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired: # mpirun of Open MPI 4.1 waits for a lock of its own now and then, when all are gone
        assert not trains(), f"{trains()} go on"
        job.kill()
        said = job.communicate()[1]
    assert not os.path.exists("m"), "a model of a run that was killed"
    ours = [l for l in said.splitlines() if re.match(r"train: rank \d+ \(.*\): ", l) and not l.endswith(" MiB")]
    assert len(ours) < 2, "more than one line:\n" + said
    if " MiB\n" in said:  # else it was killed as it began
        assert f"rank {rank} (" in said.split(" MiB\n", 1)[1] or f",{rank}]" in said, f"rank {rank} is not named:\n{said}"
    killed += 1
assert killed, "nothing was killed"
PY
    [ -e m ] || ranks 2 -r -o m 2>err || { cat err; false; }
    cmp alone m
}

@test "train by MPI: one that is stopped is named, and so is one that is slow" {
    [ -n "${LONG-}" ] || skip "it wants LONG=1"
    export PASSES=2
    printf '#!/bin/sh\necho $$ >pid$OMPI_COMM_WORLD_RANK\nexec "%s" "$@"\n' "$ROOT/build/release/mpi/train" >one
    chmod +x one
    mpi='./one -j 1 -c c.yaml'
    rank='epochs -b 0 -n 2 train.tns | { if [ $OMPI_COMM_WORLD_RANK = 1 ]; then head -c 300000; kill -STOP $(cat pid1); sleep 60; else cat; fi; } |'
    run ! ranks 2 -t 3 -o m
    [ "$(ends | wc -l)" = 1 ]
    ends | grep -qE '^train: rank 0 \(.*\): rank 1 \(.*\) has not been heard of'
    rm -f m.*
    printf 'import sys, time\nwhile b := sys.stdin.buffer.read(4096):\n    sys.stdout.buffer.write(b), sys.stdout.flush(), time.sleep(0.2)\n' >slow.py
    rank="epochs -b 0 -n 2 train.tns | { if [ \$OMPI_COMM_WORLD_RANK = 1 ]; then "$PYTHON" slow.py; else cat; fi; } |"
    run ranks 2 -o m
    grep -qE 'warning: rank 1 \(.*\) is slow: others wait for it [0-9]* % of the time, and it for its stream' <<<"$output"
}

@test "train by MPI: what cannot be shared is refused in a line" {
    run ! ranks 3 -o m
    grep -qE '^train: rank [012] \(.*\): groups: \(wanted 3, or that times 2, 4, ..., for 3 processes, got 4\)$' <<<"$output"
    sed -i 's/groups: 4/groups: 6/' c.yaml
    run ! pipe 'epochs -b 0 -n 2 train.tns | train -c c.yaml -o m'
    grep -qx 'train: c.yaml: groups: (wanted at most 5, as a batch has items, got 6)' <<<"$output"
    run ! pipe 'epochs -b 0 -n 2 train.tns | OMPI_COMM_WORLD_SIZE=2 train -o m'
    grep -qx 'train: one of 2 processes, but built without MPI (wanted: make MPI=1)' <<<"$output"
    printf 'arch: unet\nbase: 2\nbatch: 5\ngroups: 4\n' >c.yaml
    mpi="$ROOT/build/release/mpi/train -j 1 -c c.yaml -e train.tns" # a leak
    run ! ranks 2 -o m
    grep -qE '^train: rank [01] \(.*\): patient .* of the training stream is .* of the validation stream' <<<"$output"
    [ ! -e m ]
}
