# submit.sh - what slurm-GOAL does in place of GOAL: the guard has looked at knobs and cases and noted them, and has the folder to itself;
# then this gives the work to Slurm, as runs of the same make (job). For guard alone, whose knobs, names and die it uses.
#
# In OUT/slurm: KIND.tasks, a line of goals and knobs for each task of an array; KIND.jobs, the numbers of the jobs; what each job said.

free() { # nothing that was submitted before is on its way
    queue=$OUT/slurm
    command -v sbatch >/dev/null || die "slurm: no sbatch here (Debian: slurm-client)"
    on_way=$(squeue -h -o %F) || die "slurm: squeue does not answer (wanted a machine of the cluster)"
    on_way=$(printf '%s\n' "$on_way" | sort -u | grep -Fxf "$queue/$kind.jobs" 2>/dev/null | paste -sd ' ')
    [ -z "$on_way" ] || die "slurm: what was submitted for $dir is on its way (wait for it, or: scancel $on_way)"
    [ "${RANKS:-1}" = 1 ] || grep -qa MPI_Init "$(command -v train)" || die "RANKS: train was built without MPI (wanted: make MPI=1)"
    mkdir -p "$queue" && : >"$queue/$kind.jobs" || exit 1
}

# Sets $job to its number. What was submitted before it goes when it is refused.
send() { # OPTION... -- WORD...
    at=$queue/$kind-%j.log sent=
    for word; do # options first, then the job, its words, the knobs
        shift
        case $word in
        --array=*) at=$queue/$kind-%A_%a.log ;;
        --)
            set -- "$@" "$here/slurm/job"
            sent=1 word=$here/Makefile
            ;;
        esac
        set -- "$@" "$word"
    done
    for name in $NAMES; do
        case $name in FOLD | ONLY | WAIT | SLURM | RANKS | CHUNK | WORKERS) continue ;; esac
        eval "value=\$$name"
        [ -z "$value" ] || set -- "$@" "$name=$value"
    done
    # (From within a job its own numbers would be taken for those of this one.)
    job=$(unset SLURM_NTASKS SLURM_CPUS_PER_TASK && set -f && exec sbatch --parsable --job-name="gliopipe-$kind" --output="$at" --kill-on-invalid-dep=yes $SLURM "$@") || {
        scancel $(cat "$queue/$kind.jobs")
        die "slurm: sbatch refused, nothing is submitted"
    }
    job=${job%%;*}
    echo "$job" >>"$queue/$kind.jobs"
}

most() { # tasks of an array, as this cluster has it
    scontrol show config | awk '$1 == "MaxArraySize" { print $3 - 1 }'
}
submitted() { # WHAT
    echo "$kind: $1, as jobs $(paste -sd ' ' "$queue/$kind.jobs") of Slurm"
    echo "what they say:  $queue"
    echo "what is not done when they are over is submitted by the same command"
}

submit_study() {
    stamp "$OUT"
    free
    n=0 after= one=${RANKS:+--nodes=1 --ntasks=1}
    printf '%s\n' $TODO | awk -F / 'NF { print $2 " FOLD=" $1 }' >"$queue/study.tasks"
    n=$(wc -l <"$queue/study.tasks")
    [ "$n" -le "$(most)" ] || die "slurm: $n tasks (wanted at most $(most), MaxArraySize of this cluster: fewer FOLDS, or one FOLD after the other)"
    if [ "$n" = 0 ] && [ -z "$FIRST" ] && { [ -z "$LAST" ] || [ -e "$OUT/study.html" ]; }; then
        echo "study: nothing is left to do in $OUT"
        return
    fi
    [ -z "$FIRST" ] || { send $one -- -j FOLD="$LIST" $FIRST && after=--dependency=afterok:$job; }
    [ "$n" = 0 ] || { send --array=0-$((n - 1)) ${RANKS:+--ntasks="$RANKS"} $after -- -t "$queue/study.tasks" && after=--dependency=afterok:$job; }
    send $one $after -- $STUDY FOLD="$LIST"
    submitted "attempts to do: $n"
}

# Cases that have no segmentation, or of other scans, in parts; and the report.
submit_predict() {
    stamp "$dir"
    sweep_predict
    free
    mkdir -p "$dir/done" || return # now it is somebody's
    [ -z "$LAYOUT" ] || { send -- predict && submitted "one run"; return; }
    undone "$DATA" "$dir/done" >"$queue/predict.undone" || return
    n=$(wc -l <"$queue/predict.undone") most=$(most)
    if [ "$n" = 0 ] && [ -e "$dir/report.html" ]; then
        echo "predict: nothing is left to do in $dir"
        return
    fi
    rm -f "$queue"/predict.part* "$dir/report.html"
    [ $((CHUNK * most)) -ge "$n" ] || CHUNK=$(((n + most - 1) / most))
    after=
    [ "$n" = 0 ] || {
        command split -l "$CHUNK" -d -a 6 "$queue/predict.undone" "$queue/predict.part" || return
        printf 'predict ONLY=%s\n' "$queue"/predict.part* >"$queue/predict.tasks"
        send --array=0-$((($(wc -l <"$queue/predict.tasks")) - 1)) -- -t "$queue/predict.tasks" && after=--dependency=afterany:$job
    }
    send $after -- predict ONLY=-
    submitted "cases to do: $n"
}

# Workers on one folder.
submit_search() {
    free
    seq "$WORKERS" | sed 's/.*/search/' >"$queue/search.tasks"
    send --array=0-$((WORKERS - 1)) -- -t "$queue/search.tasks"
    submitted "workers: $WORKERS"
}
submit_explore() {
    free
    send -- "$kind"
    submitted "one run"
}
submit_best() { submit_explore; }
submit_streams() {
    free
    send -- -j streams
    submitted "one run"
}
submit_external() { submit_explore; }
