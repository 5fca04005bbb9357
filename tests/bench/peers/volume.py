"""One volume, NIfTI in to NIfTI out, with a network of some width: seconds, and the largest process."""
import glob
import os
import shutil
import subprocess
import time

from peers import bench, stream

CONFIG = "arch: unet\nbase: {}\nbatch: 1\n"


def model(base):
    """A network that has hardly learned, with the contract of these cases: one pass over a small synthetic one."""
    path = f"{bench.SCRATCH}/volume{base}.safetensors"
    if not os.path.exists(path):
        with open(f"{bench.SCRATCH}/volume{base}.yaml", "w") as f:
            f.write(CONFIG.format(base))
        small = f"{bench.SCRATCH}/volume{base}.phantom"
        for old in glob.glob(f"{path}*"):
            os.remove(old)
        shutil.rmtree(small, ignore_errors=True)
        stream.seconds(f'phantom -n 1 -d 32x32x12 -o "{small}" && '
                       f'nii2slices -t "{small}"/*/ | recode -s brats2017 | znorm | crop -m 16 >"{path}.tns" && '
                       f'epochs -b 0 -n 1 -s 1 "{path}.tns" | train -c "{bench.SCRATCH}/volume{base}.yaml" -o "{path}"')
        shutil.rmtree(small)
        os.remove(path + ".tns")
    return path


def main(name, base, most_seconds, most_mib):
    stream.tools("nii2slices", "recode", "znorm", "crop", "infer", "slices2nii", "train", "epochs", "phantom")
    cases = stream.cases()
    os.makedirs(bench.SCRATCH, exist_ok=True)
    weights, out = model(base), f"{bench.SCRATCH}/volume"
    bench.say(f"{name}: 240x240x155, U-Net of base {base}, NIfTI in to NIfTI out, {bench.THREADS} threads")
    stages = (["nii2slices", cases[-1]], ["recode", "-s", "brats2017"], ["znorm"], ["crop", "-m", "16"],
              ["infer", "-t", "none", "-j", str(bench.THREADS), "-m", weights], ["crop", "-u"], ["slices2nii", "-n", "pred", "-o", out])
    took, peaks = [], {}
    for _ in range(3):
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        running, source, start = [], subprocess.DEVNULL, time.perf_counter()
        for stage in stages:
            p = subprocess.Popen(["time", "-q", "-o", f"{bench.SCRATCH}/{stage[0]}{len(running)}.kib", "-f", "%M", *stage],
                                 env=stream.ENV, stdin=source, stdout=subprocess.PIPE)
            if source is not subprocess.DEVNULL:
                source.close()
            source = p.stdout
            running.append(p)
        source.read()
        if any([p.wait() for p in running]) or not glob.glob(f"{out}/*.nii*"):
            raise bench.Missing("failed: " + " | ".join(s[0] for s in stages))
        took.append(time.perf_counter() - start)
        for i, stage in enumerate(stages):
            with open(f"{bench.SCRATCH}/{stage[0]}{i}.kib") as f:
                peaks.setdefault(" ".join(stage[:1]) + f" ({i + 1})", []).append(int(f.read()) / 1024)
    bench.show("NIfTI to NIfTI", took)
    for stage, values in peaks.items():
        bench.show(stage, values, "MiB")
    seconds, mib = bench.statistics.median(took), max(max(v) for v in peaks.values())
    held = [(seconds, most_seconds, seconds / most_seconds, 1)]
    if most_mib:
        held.append((mib, most_mib, mib / most_mib, 1))
    return bench.verdict(name, held)
