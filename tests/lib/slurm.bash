# slurm.bash - a Slurm of one's own on this machine: munged, slurmctld and two nodes, with all their files in a folder, for who runs it,
# root or not. Its commands ask SLURM_CONF, which slurm_begin exports.

PATH=$PATH:/usr/sbin:/sbin
# Nothing of a Slurm in a job of which the tests run.
unset ${!SLURM*} ${!SBATCH_*} ${!SRUN_*} ${!PMI*}

# slurm_begin FOLDER: fails, with a line that says why, where it cannot run here.
slurm_begin() {
    slurm=$1
    local host user n cgroup=cgroup/v1
    host=$(uname -n) && host=${host%%.*} user=$(id -un)
    mkdir -p "$slurm"/{state,n1,n2,tmp.n1,tmp.n2}
    (umask 077 && head -c 1024 /dev/urandom >"$slurm/key")
    local port=($("$PLAIN_PYTHON" -c '
import socket
s = [socket.socket() for _ in range(3)]
for x in s: x.bind(("127.0.0.1", 0))
print(*[x.getsockname()[1] for x in s])'))
    slurmd -V | grep -q ' 2[0-2]\.' || cgroup=disabled
    echo "CgroupPlugin=$cgroup" >"$slurm/cgroup.conf"
    cat >"$slurm/slurm.conf" <<E
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${port[0]}
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$slurm/munge
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/%n
TmpFS=$slurm/tmp.%n
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/%n.pid
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=1000
ReturnToService=2
KillWait=1
SlurmdTimeout=5
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=${port[1]} CPUs=2 RealMemory=1000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=${port[2]} CPUs=2 RealMemory=1000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=60
E
    export SLURM_CONF=$slurm/slurm.conf
    munged --foreground --force --key-file="$slurm/key" --socket="$slurm/munge" --pid-file="$slurm/munged.pid" --seed-file="$slurm/seed" \
        --num-threads=1 >"$slurm/munged.log" 2>&1 3>&- &
    # Ends all when who began it is gone, however.
    setsid "$BASH" -c "$(declare -f slurm_end slurm_until slurm_idle slurm_left)
        slurm='$slurm'; tail --pid=$$ -s 1 -f /dev/null; rm '$slurm/watcher'; slurm_end; rm -rf '$slurm'" >/dev/null 2>&1 3>&- &
    echo $! >"$slurm/watcher"
    slurm_until 5 test -S "$slurm/munge" || { echo "munged: $(tail -n 1 "$slurm/munged.log")"; return 1; }
    slurmctld -D >"$slurm/slurmctld.log" 2>&1 3>&- &
    for n in n1 n2; do slurm_node $n; done
    slurm_until 30 slurm_up || { echo "$(tail -qn 1 "$slurm"/slurmctld.log "$slurm"/n?.log | paste -sd ';')"; return 1; }
}
slurm_node() { # NAME
    slurmd -D -N "$1" >>"$slurm/$1.log" 2>&1 3>&- &
}
slurm_up() {
    [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ]
}

# slurm_until SECONDS COMMAND...: succeeds when it does. Five looks a second: a command of Slurm costs as much as a small tool.
slurm_until() {
    local i
    for ((i = 0; i < 5 * $1; i++)); do
        ! "${@:2}" || return 0
        read -rt 0.2 <> <(:) || true
    done
    return 1
}

# Waits until no job is left; says what there is after SECONDS.
slurm_over() { # SECONDS
    slurm_until "$1" slurm_idle || { squeue; return 1; }
}
slurm_idle() {
    [ -z "$(squeue -h 2>/dev/null || echo ?)" ]
}

# Ends jobs and daemons, whatever they are at.
slurm_end() {
    local p
    [ ! -e "$slurm/watcher" ] || kill -- -"$(cat "$slurm/watcher")" || true
    ! timeout 5 scancel -u "$(id -un)" 2>/dev/null || slurm_until 5 slurm_idle || true
    for p in $(slurm_left); do kill "$p" 2>/dev/null || true; done
    slurm_until 5 eval '[ -z "$(slurm_left)" ]' || kill -9 $(slurm_left) 2>/dev/null || true
}
# What is there of them: what was begun with this SLURM_CONF and is Slurm's own, or in a job.
slurm_left() {
    local p
    for p in $(grep -lszx -- "SLURM_CONF=$slurm/slurm.conf" /proc/[0-9]*/environ | cut -d / -f 3); do
        case $(cat "/proc/$p/comm" 2>/dev/null) in
        munged | slurmctld | slurmscriptd | slurmd | slurmstepd*) echo "$p" ;;
        *) ! grep -qsz '^SLURM_JOB_ID=' "/proc/$p/environ" || echo "$p" ;;
        esac
    done
}
