#!/usr/bin/python3
"""train with a 3-D network, kernels of 3x3x3, base 16, on slabs of 16 slices of 4x192x160: at most 1000 MiB, and it keeps a ceiling of 500;
under one of 400 it recomputes maps, and its model is the same bytes."""
import glob
import os
import sys

from peers import bench, stream

BLOBS = f"{sys.executable} {bench.ROOT}/tests/lib/blobs.py -l nii2slices -l 'znorm -p case' -k norm=case -p 1 -d 192x160"


def main(name):
    stream.tools("train", "epochs")
    slabs = stream.stored("slabs16", f"f=$(mktemp) && {BLOBS} -n 32 >$f && epochs -n 1 -b 0 -d 16 $f && rm $f")
    config = stream.stored("unet3d16.yaml", "printf 'arch: unet3d\\nbase: 16\\nbatch: 1\\n'")
    bench.say(f"{name}: train's peak resident memory, unet3d of base 16, one slab of 16 slices of 192x160")
    held, models = [], set()
    for label, options, limit in (("as it likes", (), 1000), ("-M 500M", ("-M", "500M"), 500), ("-M 400M", ("-M", "400M"), 400)):
        for old in glob.glob(f"{bench.SCRATCH}/train3d.*") + glob.glob(f"{bench.SCRATCH}/train3d"):
            os.remove(old)
        mib = stream.peak_kib(["train", "-c", config, "-o", f"{bench.SCRATCH}/train3d", *options], source=slabs) / 1024
        bench.show(label, [mib], "MiB", f"  (at most {limit})")
        held.append((mib, limit, mib / limit, 1))
        with open(f"{bench.SCRATCH}/train3d", "rb") as f:
            models.add(f.read())
    if len(models) != 1:
        bench.say("  the models differ")
        held.append((len(models), 1, len(models), 1))
    return bench.verdict(name, held)


bench.run("train3d-memory", main)
