"""The filters: what the benchmarks of the stream share."""
import glob
import os
import subprocess
import time

from peers.bench import ROOT, SCRATCH, Missing, say

ENV = {**os.environ, "PATH": f"{ROOT}/bin:{os.environ['PATH']}"}


def cases(least=1):
    """The case folders below DATA."""
    found = sorted({os.path.dirname(f) for f in glob.glob(f"{os.environ.get('DATA', '/nonexistent')}/*/*seg.nii*")})
    if len(found) < least:
        raise Missing("real cases: DATA names no folder that holds them")
    return found


def files(case):
    return sorted(glob.glob(f"{case}/*.nii*"))


def tools(*names):
    for name in names:
        if not os.path.exists(f"{ROOT}/bin/{name}"):
            raise Missing(f"ours: bin/{name} is not built")


def seconds(command, *args):
    """Wall clock of a shell line; $@ are the arguments."""
    t = time.perf_counter()
    if subprocess.call(["bash", "-o", "pipefail", "-c", command, "bench", *args], env=ENV):
        raise Missing(f"failed: {command}")
    return time.perf_counter() - t


def peak_kib(command, *args, source=None):
    """Peak resident memory of one program, its output thrown away."""
    out = f"{SCRATCH}/peak"
    with open(source or os.devnull, "rb") as stdin:
        if subprocess.call(["time", "-q", "-o", out, "-f", "%M", *command, *args], env=ENV, stdin=stdin,
                           stdout=subprocess.DEVNULL):
            raise Missing(f"failed: {' '.join(command)}")
    with open(out) as f:
        return int(f.read())


def stored(name, command, *args):
    """A stream below build/bench-data, made once."""
    os.makedirs(SCRATCH, exist_ok=True)
    path = f"{SCRATCH}/{name}"
    if not os.path.exists(path):
        say(f"  making {os.path.relpath(path, ROOT)}")
        seconds(f"({command}) >'{path}.tmp'", *args)
        os.rename(path + ".tmp", path)
    with open(path, "rb") as f:  # into the page cache
        while f.read(1 << 24):
            pass
    return path
