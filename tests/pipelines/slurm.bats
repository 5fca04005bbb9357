# make slurm-GOAL: the pipelines as jobs, under a Slurm of this file's own with two nodes.
load ../lib/common
load ../lib/slurm

setup_file() {
    export OMP_WAIT_POLICY=passive
    cd "$BATS_FILE_TMPDIR"
    [ "${CONFIG:-release}" = release ] && command -v slurmctld slurmd munged sbatch mpicc >/dev/null || return 0
    # Sockets have short names.
    home=$(mktemp -d "${TMPDIR:-/tmp}/slurmXXXX")
    echo "$home" >home
    # Slurm finds no address where there is that of loopback alone.
    [ -n "$(hostname -I)" ] && slurm_begin "$home" >&2 || { slurm_end; touch none; return 0; }
    # The tools, and train with MPI; a table of few attempts.
    mkdir -p tree/bin
    cp -r "$ROOT/pipelines" tree
    for t in "${TOOLS:-$ROOT/bin}"/*; do ln -s "$t" tree/bin; done
    ln -sf "$ROOT/build/release/mpi/train" tree/bin/train
    [ -n "${LONG-}" ] || sed -i -E '/^(#|attempt2|combined)/!d' tree/pipelines/attempts
    cases="$PWD/it's \"here\" \$(touch x); y"
    phantom -n 5 -s 2 -d 32x32x8 -o "$cases"
}

teardown_file() {
    cd "$BATS_FILE_TMPDIR"
    [ -e home ] || return 0
    slurm=$(cat home)
    export SLURM_CONF=$slurm/slurm.conf
    slurm_end
    rm -rf "$slurm"
}

setup() {
    need_release "the tools run there in their own tests"
    for c in slurmctld slurmd munged sbatch mpicc gnuplot; do need_command $c; done
    [ ! -e "$BATS_FILE_TMPDIR/none" ] || skip "no Slurm can be started here"
    cd "$BATS_TEST_TMPDIR"
    given=$BATS_FILE_TMPDIR
    cases="$given/it's \"here\" \$(touch x); y"
    slurm=$(cat "$given/home")
    export SLURM_CONF=$slurm/slurm.conf
}

glio() { # GOAL NAME=VALUE...
    make -s --no-print-directory -C "$given/tree" -f pipelines/Makefile DATA="$cases" OUT="$PWD/out" BASE=2 EPOCHS=2 CROP='-s 32x32' "$@"
}
over() {
    slurm_over 120 || { tail -n 5 out/slurm/*.log; false; }
}
jobs() { # KIND: their numbers
    paste -sd ' ' "out/slurm/$1.jobs"
}
# A job's processes.
pids() { # JOB
    slurm_left | sed 's,.*,/proc/&/environ,' | xargs grep -lsz "^SLURM_JOB_ID=$1\$" | cut -d / -f 3
}

@test "slurm: folds and attempts are an array behind the streams, the page comes after it, and what is there is not done again" {
    # Nothing begins before all of this has been looked at.
    scontrol update nodename=ALL state=drain reason=later
    glio slurm-study FOLDS=2 >said
    read -r streams array page <<<"$(jobs study)"
    scontrol show job $array | grep -q "Dependency=afterok:$streams"
    scontrol show job $page | grep -q "Dependency=afterok:$array"
    [ "$(wc -l <out/slurm/study.tasks)" = "$((2 * $(grep -c '^[a-z0-9]' "$given/tree/pipelines/attempts")))" ]
    # A second submission while the first is on its way.
    run -2 glio slurm-study FOLDS=2
    [[ $output == *"study: slurm: what was submitted for $PWD/out is on its way (wait for it, or: scancel $streams $array $page)"* ]]
    scontrol update nodename=ALL state=resume
    over
    grep -q 'study.html' "out/slurm/study-$page.log"
    [ "$(awk -F '\t' '$1 == "combined"' out/study.tsv | wc -l)" = 3 ] # two folds and their mean
    [ ! -e "$given/tree/x" ]
    [ -z "$(find out -name '*.part')" ]
    # A model is that of make, which now finds all done.
    glio combined FOLDS=2 FOLD=1 OUT="$PWD/alone" >/dev/null 2>&1
    cmp alone/fold1/combined/model.safetensors out/fold1/combined/model.safetensors
    cmp alone/fold1/combined/volumes.tsv out/fold1/combined/volumes.tsv
    glio slurm-study FOLDS=2 >said
    grep -qx "study: nothing is left to do in $PWD/out" said
    rm out/fold1/combined/volumes.tsv
    glio slurm-study FOLDS=2 >said
    [ "$(cat out/slurm/study.tasks)" = "combined FOLD=1" ]
    [ "$(jobs study | wc -w)" = 2 ] # no streams this time
    over
    cmp alone/fold1/combined/volumes.tsv out/fold1/combined/volumes.tsv
}

@test "slurm: knobs and cases are refused when they are submitted, not in a job, and so is what sbatch will not have" {
    run -2 glio slurm-study EPOCHS=0
    [[ $output == *"study: EPOCHS: (wanted at least 1"* ]]
    run -2 glio slurm-combined SLURM='-p all; id'
    [[ $output == *"study: SLURM: (wanted letters"* ]]
    run -2 glio slurm-combined SLURM='-p nowhere'
    [[ $output == *"study: slurm: sbatch refused, nothing is submitted"* ]]
    ln -sf "${TOOLS:-$ROOT/bin}/train" "$given/tree/bin"
    run -2 glio slurm-combined RANKS=2
    ln -sf "$ROOT/build/release/mpi/train" "$given/tree/bin/train"
    [[ $output == *"study: RANKS: train was built without MPI (wanted: make MPI=1)"* ]]
    [ -z "$(squeue -h)" ]
    [ ! -e out/fold0 ]
}

@test "slurm: train on two nodes by srun makes the model of one process" {
    # Between nodes that are one machine messages go by its own address.
    export OMPI_MCA_btl_tcp_if_include=lo
    glio slurm-combined RANKS=2 SLURM='-N 2' >/dev/null
    over
    grep -q '^train: rank 0 (.*): unet base=2' out/slurm/study-*_0.log
    glio combined GROUPED=2 OUT="$PWD/alone" >/dev/null 2>&1
    cmp alone/fold0/combined/model.safetensors out/fold0/combined/model.safetensors
    # Tasks that do not know of each other would write over each other.
    for t in "$given/tree/bin/train" "${TOOLS:-$ROOT/bin}/train"; do
        run ! srun --mpi=none -n 2 "$t" -o m
        grep -qE '^train: one of 2 (tasks of srun|processes)' <<<"$output"
    done
}

@test "slurm: cases are predicted in parts, and only what failed comes again" {
    glio combined OUT="$PWD/m" >/dev/null 2>&1
    mkdir new
    i=0
    for c in "$cases"/*[1-3]; do
        i=$((i + 1))
        cp -r "$c" "new/a 'b' \"$i\" \$(touch x);"
    done
    mkdir new/broken
    for f in "$cases"/*1/*; do : >"new/broken/${f##*/}"; done
    predict() {
        glio slurm-predict DATA="$PWD/new" MODEL="$PWD/m/fold0/combined/model.safetensors" CHUNK=2
    }
    predict >said
    [ "$(cat out/slurm/predict.tasks | wc -l)" = 2 ]
    over
    ls out/predict/segmentations | wc -l >n
    [ "$(cat n)" = 3 ]
    grep -qx 'predict: 1 without a segmentation: broken' out/slurm/predict-*.log
    [ ! -e out/predict/report.html ]
    [ ! -e "$given/tree/x" ]
    (cd out/predict/segmentations && stat -c '%n %y' *) >before
    rm -r new/broken
    cp -r "$cases"/*3 new/broken
    predict >said
    [ "$(cat out/slurm/predict.part*)" = broken ]
    over
    [ -s out/predict/report.html ]
    (cd out/predict/segmentations && stat -c '%n %y' *) | grep -v '^broken_' | diff before -
    predict | grep -qx "predict: nothing is left to do in $PWD/out/predict"
    # One scan more, and the case is another.
    touch new/broken/*_t2.nii.gz
    predict >said
    [ "$(cat out/slurm/predict.part*)" = broken ]
    scancel $(jobs predict)
    over
}

# Training that stands still behind its first half, while out/hold is there.
hold() {
    mkdir out
    : >out/hold
    rm "$given/tree/bin/epochs"
    cat >"$given/tree/bin/epochs" <<END
#!/bin/sh
[ -e '$PWD/out/hold' ] || exec '${TOOLS:-$ROOT/bin}/epochs' "\$@"
'${TOOLS:-$ROOT/bin}/epochs' "\$@" | { head -c '$1'; exec sleep 600; }
END
    chmod +x "$given/tree/bin/epochs"
}

@test "slurm: a job that was killed, and one that comes again, go on where they stood, to the same model" {
    glio combined EPOCHS=4 OUT="$PWD/alone" >/dev/null 2>&1
    size=$(epochs -b 0 -n 4 -s 1 alone/fold0/crop/train.tns | wc -c)
    hold $((size * 5 / 8))
    glio slurm-combined EPOCHS=4 >/dev/null
    array=$(sed -n 2p out/slurm/study.jobs)
    slurm_until 60 test -e out/fold0/combined/model.safetensors.last
    cp out/fold0/combined/model.safetensors.last first
    kill -9 $(pids $array)
    over # the page's job is cancelled
    [ ! -e out/fold0/combined/trained ]
    glio slurm-combined EPOCHS=4 >/dev/null
    array=$(sed -n 1p out/slurm/study.jobs)
    slurm_until 60 eval "pids $array | xargs ps -o comm= -p 2>/dev/null | grep -qx train"
    rm out/hold
    if [ -n "${LONG-}" ]; then # its node dies, which the controller knows after 10 to 30 s
        node=$(squeue -h -j $array -o %N)
        kill -9 $(pgrep -f "^slurmd -D -N $node\$|^slurmstepd: .$array\." | grep -xFf <(slurm_left)) $(pids $array)
        slurm_until 120 eval "scontrol show job $array | grep -q Reason=BeginTime"
    else
        scontrol requeue $array
        slurm_until 60 eval "scontrol show job $array | grep -q JobState=PENDING && slurm_up"
    fi
    [ -z "$(pids $array)" ]
    # Slurm would wait for two minutes. A node tells its second run from the first by the second in which it began.
    scontrol update JobId=$array StartTime=now+2
    over
    grep -q 'Restarts=1' <<<"$(scontrol show job $array)"
    cmp alone/fold0/combined/model.safetensors out/fold0/combined/model.safetensors
    cmp alone/fold0/combined/volumes.tsv out/fold0/combined/volumes.tsv
    run ! cmp -s first out/fold0/combined/model.safetensors.last
    ln -sf "${TOOLS:-$ROOT/bin}/epochs" "$given/tree/bin/epochs"
}
