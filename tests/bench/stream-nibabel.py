#!/usr/bin/python3
"""NIfTI to a cropped, normalised, recoded stream, beside nibabel and numpy: at most 0.2 of their time.

Ours is four processes in a pipe, a script with nibabel is one; so is shown too what as many of them take as there are
THREADS, each with its share of the cases."""
import subprocess

from peers import bench, stream

PIPE = 'nii2slices -t "$@" | recode -s brats2017 | znorm | crop -m 16 >/dev/null'
PEER = f'{bench.DEBIAN} {bench.ROOT}/tests/bench/peers/nibabel_stream.py'
ONE = f'{PEER} "$@" >/dev/null'
MANY = f'printf "%s\\0" "$@" | xargs -0 -P {bench.THREADS} -n $((($# + {bench.THREADS - 1}) / {bench.THREADS})) {PEER} >/dev/null'


def main(name):
    stream.tools("nii2slices", "recode", "znorm", "crop")
    cases = stream.cases()
    bench.say(f"{name}: {len(cases)} cases, NIfTI to a cropped, normalised, recoded stream of the tumour slices")
    version = subprocess.run([bench.DEBIAN, "-c", "import nibabel, numpy; print('nibabel', nibabel.__version__ +"
                              "', numpy', numpy.__version__)"], stdout=subprocess.PIPE, text=True).stdout.strip()
    if not version:
        raise bench.Missing("nibabel and numpy for " + bench.DEBIAN)
    stream.seconds('cat "$@" >/dev/null', *(f for c in cases for f in stream.files(c)))
    took = bench.turns([("ours, four processes", lambda: stream.seconds(PIPE, *cases)),
                        (version + ", one process", lambda: stream.seconds(ONE, *cases)),
                        (f"{version}, {bench.THREADS} processes", lambda: stream.seconds(MANY, *cases))])
    mine, one, many = took.values()
    for label, values in took.items():
        bench.show(label, values)
    bench.say(f"  ours takes {bench.ratio(mine, one):.3f} of one process, {bench.ratio(mine, many):.3f} of {bench.THREADS}")
    ours, peer = bench.statistics.median(mine), bench.statistics.median(one)
    return bench.verdict(name, [(ours, peer, bench.ratio(mine, one), 0.2)])


bench.run("stream-nibabel", main)
