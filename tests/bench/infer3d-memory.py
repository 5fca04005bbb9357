#!/usr/bin/python3
"""infer with a 3-D network, kernels of 3x3x3, base 16, on volumes of 155 and of 1550 slices of 4x192x160: at most 200 MiB each, of one view
and of the four mirrored ones."""
import sys

from peers import bench, stream

LIMIT = 200
BLOBS = f"{sys.executable} {bench.ROOT}/tests/lib/blobs.py -l nii2slices -l 'znorm -p case' -k norm=case -p 1 -d 192x160"


def main(name):
    stream.tools("infer", "epochs", "train")
    model = stream.stored("unet3d16", f"d=$(mktemp -d) && printf 'arch: unet3d\\nbase: 16\\nbatch: 1\\n' >$d/c.yaml && "
                          f"{BLOBS} -n 2 >$d/s && epochs -b 0 -n 1 -d 2 $d/s | train -c $d/c.yaml -o $d/m && cat $d/m")
    bench.say(f"{name}: infer's peak resident memory, unet3d of base 16, slices of 192x160")
    held = []
    for slices in (155, 1550):
        volume = stream.stored(f"volume{slices}.tns", f"{BLOBS} -n {slices} -1 10")
        for views, options in ("one view", ("-t", "none")), ("four views", ()):
            if slices > 155 and not options:
                continue  # four times two minutes: the page's test has what it takes not grow
            mib = stream.peak_kib(["infer", *options, "-m", model], source=volume) / 1024
            bench.show(f"{slices} slices, {views}", [mib], "MiB")
            held.append((mib, LIMIT, mib / LIMIT, 1))
    return bench.verdict(name, held)


bench.run("infer3d-memory", main)
