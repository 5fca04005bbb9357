#!/usr/bin/python3
"""Peak resident memory of each filter over records of 4x240x240 float32: at most 8 MiB."""
import os

from peers import bench, stream

LIMIT = 8 * 1024
FILTERS = [["recode", "-s", "brats2023"], ["crop", "-m", "16"], ["crop", "-s", "256x256"], ["augment", "-s", "1", "noise", "gamma"], ["tnsview"], ["tnsview", "-c"]]


def main(name):
    stream.tools("nii2slices", "recode", "znorm")
    cases = stream.cases()
    path = stream.stored("float32.tns", 'nii2slices -t "$@" | recode -s brats2017 | znorm | recode -i -s brats2023',
                         *cases[:6])
    raw = stream.stored("raw.tns", 'nii2slices -t "$@"', *cases[:6])
    bench.say(f"{name}: each filter's peak resident memory")
    held = []
    for command, source in [(["nii2slices", *cases], None), (["nii2slices", "-t", *cases], None),
                            (["epochs", "-n", "1", path], None), (["znorm"], raw),
                            (["znorm", "-p", "slice"], raw)] + [(f, path) for f in FILTERS]:
        shown = " ".join(a for a in command if "/" not in a)
        if not os.path.exists(f"{bench.ROOT}/bin/{command[0]}"):
            bench.say(f"  missing: {shown}")
            continue
        kib = stream.peak_kib(command, source=source)
        bench.show(shown, [kib / 1024], "MiB")
        held.append((kib / 1024, LIMIT / 1024, kib / LIMIT, 1))
    return bench.verdict(name, held)


bench.run("stream-memory", main)
