#!/usr/bin/python3
"""Two processes of one thread that train together (mpirun) beside one of two threads: at least 0.95 of its speed,
base 16 and base 64."""
import os

from peers import bench, stream

BOUND = 1 / 0.95
PASSES = 2  # of which the first warms up
WIDTHS = [(16, 8, 192), (64, 8, 72)]  # base, batch, slices of a pass
ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_plm": "isolated",
       "OMPI_MCA_btl": "^tcp", "OMPI_MCA_hwloc_base_binding_policy": "none", "OMP_WAIT_POLICY": "passive"}


def seconds(base, batch, length, groups, processes, data):
    """Of a slice, the median pass."""
    model = f"{bench.SCRATCH}/mpi.safetensors"
    for old in ("", ".tsv", ".last", ".previous"):
        if os.path.exists(model + old):
            os.remove(model + old)
    with open(f"{bench.SCRATCH}/mpi.yaml", "w", encoding="ascii") as f:
        f.write(f"arch: unet\nbase: {base}\nbatch: {batch}\ngroups: {groups}\ncheckpoint: 0\n")
    train = f"{bench.ROOT}/build/release/mpi/train -j {2 // processes} -c '{bench.SCRATCH}/mpi.yaml' -o '{model}'"
    pipe = f"epochs -b 0 -n {PASSES} -l {length} -r mpi -B {batch} '{data}' | {train} 2>/dev/null"
    stream.seconds(pipe if processes == 1 else f'mpirun -n {processes} sh -c "{pipe}"')
    with open(model + ".tsv", encoding="ascii") as f:
        took = [float(line.split("\t")[-1]) for line in f.readlines()[1:]]
    return bench.statistics.median(took[1:]) / length


def main(name):
    stream.tools("epochs", "phantom")
    if not os.path.exists(f"{bench.ROOT}/build/release/mpi/train"):
        raise bench.Missing("ours: build/release/mpi/train is not built (Debian: libopenmpi-dev openmpi-bin)")
    stream.ENV.update(ENV)
    where = f"{bench.SCRATCH}/mpi-cases"
    data = stream.stored("mpi.tns", f"rm -rf '{where}' && phantom -n 4 -s 1 -o '{where}' && nii2slices '{where}'/*/ | "
                                    f"recode -s brats2017 | znorm | crop -s 192x160")
    held = []
    for base, batch, length in WIDTHS:
        bench.say(f"{name}: base {base}, batch {batch}, {length} slices of 192x160 a pass")
        rows = [(f"two processes, groups: {groups}" if processes == 2 else f"one process, groups: {groups}",
                 lambda p=processes, g=groups: seconds(base, batch, length, g, p, data))
                for processes, groups in ((2, 2), (1, 1))]
        took = bench.turns(rows, min(bench.ROUNDS, 3))
        for label, values in took.items():
            bench.show(label, values, "s a slice")
        two, one = took.values()
        held.append((bench.statistics.median(two), bench.statistics.median(one), bench.ratio(two, one), BOUND))
    return bench.verdict(name, held)


bench.run("mpi", main)
