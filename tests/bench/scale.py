#!/usr/bin/python3
"""1, 17, 170 and 1700 synthetic cases through preparation (make streams) and one pass (epochs, augment, train): what each further case
costs in time must not grow by more than a tenth, and in memory be no more than the lists of cases and slices take. SIZES names others."""
import os
import shutil
import subprocess

from peers import bench, stream

SIZES = [int(n) for n in os.environ.get("SIZES", "1 17 170 1700").split()]
LIST = 2.0  # KiB a case: names, fingerprints, places of its eight slices, in whichever tool holds most of them


def timed(command, *args):
    """Processor seconds, seconds and peak MiB (of the largest process) of a shell line."""
    out = f"{bench.SCRATCH}/scale.time"
    line = ["time", "-q", "-o", out, "-f", "%U %S %e %M", "bash", "-o", "pipefail", "-c", command, "bench", *args]
    if subprocess.call(line, env=stream.ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        raise bench.Missing(f"failed: {command}")
    with open(out) as f:
        user, system, wall, kib = map(float, f.read().split())
    return user + system, wall, kib / 1024


def steps(top, n):
    """What is timed: label and command. Each process is waited for, so that time(1) sees them all."""
    make = f"make -s -C {bench.ROOT} -f pipelines/Makefile streams DATA={top}/cases OUT={top}/out CROP='-s 32x32' JOBS=1"
    return [("prepare", f"{make} -j{bench.THREADS}"), ("again", f"{make} -j{bench.THREADS}"), ("index", f"epochs -b 0 -n 1 -l 1 {top}/out/streams"),
            ("pass", f"epochs -b 0 -n 1 -s 1 {top}/out/streams | augment -s 1 noise flip | train -j 1 -s 1 -c {bench.SCRATCH}/scale.yaml -o {top}/model")]


def main(name):
    stream.tools("phantom", "nii2slices", "recode", "znorm", "crop", "pack", "epochs", "augment", "train")
    os.makedirs(bench.SCRATCH, exist_ok=True)
    with open(f"{bench.SCRATCH}/scale.yaml", "w") as f:
        f.write("arch: unet\nbase: 1\n")
    bench.say(f"{name}: cases of 8 slices of 32x32; processor milliseconds a case, milliseconds, MiB of the largest process")
    found = {}
    for n in SIZES:
        top = f"{bench.SCRATCH}/scale{n}"
        shutil.rmtree(top, ignore_errors=True)
        os.makedirs(top)
        subprocess.check_call([f"{bench.ROOT}/bin/phantom", "-n", str(n), "-s", "1", "-d", "32x32x8", "-o", f"{top}/cases"])
        for label, command in steps(top, n):
            found[label, n] = timed(command)
            cpu, wall, mib = found[label, n]
            bench.say(f"  {n:6} {label:8} {1e3 * cpu / n:10.2f} {1e3 * wall / n:10.2f} {mib:8.1f}")
        shutil.rmtree(top)
    held = []
    a, b, c = SIZES[-3:]
    for label, _ in steps("", 0):
        slope = [(found[label, y][0] - found[label, x][0]) / (y - x) for x, y in ((a, b), (b, c))]
        grown = (found[label, c][2] - found[label, b][2]) * 1024 / (c - b)
        bench.say(f"  {label:8} a further case: {1e3 * slope[0]:8.3f} ms, then {1e3 * slope[1]:8.3f} ms, {grown:.2f} KiB")
        if label in ("prepare", "pass"):
            held.append((1e3 * slope[1], 1e3 * slope[0], slope[1] / slope[0], 1.10))
        held.append((grown, LIST, max(grown, 0) / LIST, 1))
    return bench.verdict(name, held)


bench.run("scale", main)
