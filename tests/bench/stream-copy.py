#!/usr/bin/python3
"""A filter that changes little, from the page cache to /dev/null: at least 2 GB/s."""
import os

from peers import bench, stream

WANTED = 2.0


def main(name):
    stream.tools("nii2slices", "recode")
    path = stream.stored("canonical.tns", 'nii2slices -t "$@" | recode -s brats2017 | recode -i -s brats2023',
                         *stream.cases()[:6])
    size = os.path.getsize(path) / 1e9
    bench.say(f"{name}: recode on canonical labels, {size:.2f} GB")
    took = bench.turns([("ours", lambda: stream.seconds('recode -s brats2023 <"$1" >/dev/null', path)),
                        ("cat to a pipe", lambda: stream.seconds('cat "$1" | cat >/dev/null', path))])
    rates = {k: [size / t for t in v] for k, v in took.items()}
    for label, values in rates.items():
        bench.show(label, values, "GB/s")
    rate = bench.statistics.median(rates["ours"])
    return bench.verdict(name, [(rate, WANTED, WANTED / rate, 1)])


bench.run("stream-copy", main)
