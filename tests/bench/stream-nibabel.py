#!/usr/bin/python3
"""NIfTI to a cropped, normalised, recoded stream, beside nibabel and numpy: at most 0.2 of their time."""
import subprocess

from peers import bench, stream

PIPE = 'nii2slices -t "$@" | recode -s brats2017 | znorm | crop -m 16 >/dev/null'
PEER = f'{bench.DEBIAN} {bench.ROOT}/tests/bench/peers/nibabel_stream.py "$@" >/dev/null'


def main(name):
    stream.tools("nii2slices", "recode", "znorm", "crop")
    cases = stream.cases()
    bench.say(f"{name}: {len(cases)} cases, NIfTI to a cropped, normalised, recoded stream of the tumour slices")
    version = subprocess.run([bench.DEBIAN, "-c", "import nibabel, numpy; print('nibabel', nibabel.__version__ +"
                              "', numpy', numpy.__version__)"], stdout=subprocess.PIPE, text=True).stdout.strip()
    if not version:
        raise bench.Missing("nibabel and numpy for " + bench.DEBIAN)
    stream.seconds('cat "$@" >/dev/null', *(f for c in cases for f in stream.files(c)))
    took = bench.turns([("ours", lambda: stream.seconds(PIPE, *cases)), (version, lambda: stream.seconds(PEER, *cases))])
    for label, values in took.items():
        bench.show(label, values)
    ours, peer = (bench.statistics.median(took[k]) for k in ("ours", version))
    return bench.verdict(name, [(ours, peer, bench.ratio(took["ours"], took[version]), 0.2)])


bench.run("stream-nibabel", main)
