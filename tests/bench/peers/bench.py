"""What the benchmarks share: peers that wait in their own processes, turns, medians of ratios, the report.

A benchmark states rows (label, function that runs one turn and returns seconds); turns() calls them one
after the other, round by round, so that a slow minute of the machine hits all alike, and ratio() is the
median over the rounds of ours divided by a peer's in the same round.
"""
import os
import re
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
PEERS = os.environ.get("PEERS", f"{ROOT}/build/peers")
SCRATCH = f"{ROOT}/build/bench-data"
DEBIAN = "/usr/bin/python3"
VENV = f"{PEERS}/bin/python"
WORKER = f"{ROOT}/tests/bench/peers/worker.py"
THREADS = int(os.environ.get("THREADS", "2"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
# What keeps glibc from handing large blocks back to the system after every operation.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
               "MALLOC_TOP_PAD_": str(256 << 20)}
MIB = 1 << 20


class Missing(Exception):
    pass


def say(text):
    print(text, flush=True)


class Worker:
    """A peer: one line in, one piece of work done, its seconds out."""

    def __init__(self, label, python, *args, env=None):
        if not os.path.exists(python):
            raise Missing(f"{label}: no {os.path.relpath(python, ROOT)}")
        self.process = subprocess.Popen(
            [python, WORKER, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "OMP_NUM_THREADS": str(THREADS), **(env or {})})
        version = self.process.stdout.readline().strip()
        if not version:
            lines = self.process.stderr.read().strip().splitlines()
            self.process.wait()
            raise Missing(f"{label}: {lines[-1] if lines else 'did not start'}")
        self.label = label.replace("VERSION", version)

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def turn(self, steps):
        return statistics.median(self.step() for _ in range(steps))

    def close(self):
        """Ends the process; its peak resident memory in MiB."""
        self.process.stdin.close()
        peak = int(self.process.stdout.readline()) / 1024
        self.process.wait()
        return peak


def workers(wanted):
    """Starts those that are there, names those that are not. wanted: (label, python, arguments, environment)."""
    there = []
    for label, python, args, env in wanted:
        try:
            there.append(Worker(label, python, *args, env=env))
        except Missing as why:
            say(f"  missing: {str(why).replace(' VERSION', '')}")
    return there


def onnx_model(base, n, h, w):
    """The network as PyTorch writes it for the others; None where Debian's PyTorch is not installed."""
    os.makedirs(SCRATCH, exist_ok=True)
    path = f"{SCRATCH}/unet{base}-{n}x{h}x{w}.onnx"
    if not os.path.exists(path):
        args = [str(a) for a in (base, n, h, w, path + ".tmp")]
        if subprocess.call([DEBIAN, WORKER, "export", *args], stderr=subprocess.DEVNULL):
            return None
        os.rename(path + ".tmp", path)
    return path


def engine(work, arch, base, n, h, w, *options, env=None):
    """Our engine, one process: the numbers that tests/bench/nn.c prints, by name."""
    program = f"{ROOT}/build/release/bench/nn"
    if not os.path.exists(program):
        raise Missing("ours: build/release/bench/nn is not built")
    args = [program, work, arch, *map(str, (base, n, h, w)), "-j", str(THREADS), *map(str, options)]
    r = subprocess.run(args, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    if r.returncode:
        raise Missing(f"ours: {' '.join(args[1:])}: exit status {r.returncode}")
    return {k: float(v) for k, v in re.findall(r"^(\w+)[\s=:]+([0-9.e+-]+)", r.stdout, re.M)}


def turns(rows, rounds=None):
    """rows: (label, function). Calls each in turn, round by round; label -> list of results."""
    out = {label: [] for label, _ in rows}
    for _ in range(rounds or ROUNDS):
        for label, run in rows:
            out[label].append(run())
    return out


def ratio(ours, peer):
    return statistics.median(a / b for a, b in zip(ours, peer))


def show(label, values, unit="s", note=""):
    say(f"  {label:54s} {statistics.median(values):9.4g} {unit}  ({min(values):.4g} .. {max(values):.4g}){note}")


def verdict(name, held):
    """held: (ours, peer, ratio, bound), one for each thing that is bound; the one nearest to or farthest over
    its bound makes the line. A smaller ratio is better; at most the bound passes."""
    if not held:
        say(f"{name}\t-\t-\t-\t-")
        return 1
    ours, peer, r, bound = max(held, key=lambda h: h[2] / h[3])
    say(f"{name}\t{ours:.4g}\t{peer:.4g}\t{r:.3g}\t{bound:g}")
    return r > bound


def run(name, main):
    try:
        sys.exit(main(name))
    except Missing as why:
        say(f"  missing: {why}")
        say(f"{name}\t-\t-\t-\t-")
        sys.exit(1)
