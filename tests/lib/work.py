"""Every tool at its work, for those who make that work hard: what it is given and what comes of it."""
import os, pathlib, re, shutil, subprocess

PLAN = re.compile(r"train: (\w+( \w+=[\d.]+)*, .* MiB|begins from .*|epoch \d+/\d+: .*)$")
END = b"\x89TNS\r\n\x1a\n\x01\x00E"


def shell(text, cwd, **env):
    return subprocess.run(["/bin/sh", "-c", text], cwd=cwd, env={**os.environ, **env}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)


def prepare(d):
    """Inputs, made once without faults."""
    os.mkdir(f"{d}/empty")
    os.mkdir(f"{d}/half")
    with open(f"{d}/tiny.yaml", "w") as f:
        f.write("arch: unet\nbase: 1\nbatch: 8\n")
    shell("phantom -n 2 -d 32x32x12 -s 3 -o cases && phantom -n 1 -d 16x16x8 -l msd -o msd && nii2slices -t cases/*/ >raw.tns &&"
          "mkdir masks && for c in cases/*; do cp $c/*_seg.nii.gz masks/${c#cases/}.nii.gz; done &&"
          "recode -s brats2017 <raw.tns >label.tns && znorm <label.tns >norm.tns && crop -m 16 <norm.tns >crop.tns &&"
          "tnsview -k patient <label.tns | sort -u | sed 's/$/\t2/' >weights &&"
          "folds -k 2 -s 1 <label.tns >folds && epochs -b 0 -n 3 -s 1 crop.tns >epochs.tns && train -j 1 -c tiny.yaml -o model <epochs.tns &&"
          "infer -t none -j 1 -m model <crop.tns >pred.tns && infer -t none -j 1 -u -m model <crop.tns >sure.tns &&"
          "dice -L <pred.tns >scores && dice -b 2 <pred.tns >constant", d).check_returncode()
    # A run that stopped in its third pass at the latest, where its stream was cut.
    shell("head -c $(($(wc -c <epochs.tns) * 5 / 6)) epochs.tns | train -j 1 -c tiny.yaml -o half/m; test -e half/m.last", d).check_returncode()


# Commands: {} is where the tool under test stands. What it leaves behind lies in out/,
# which is a copy of the folder `before` when it begins.
COMMANDS = [
    ("nii2slices", "{} -j 1 -t cases/*/", None),
    ("nii2slices", "{} -j 1 -l msd msd", None),
    ("regrid", "{} -j 1 -s 8 cases/*/", None),
    ("recode", "{} -s brats2017 <raw.tns", None),
    ("strip", "{} -k masks <label.tns", None),
    ("znorm", "{} <label.tns", None),
    ("crop", "{} -m 16 <norm.tns", None),
    ("crop", "{} -u <crop.tns", None),
    ("folds", "{} -k 2 -s 1 <label.tns", None),
    ("pick", "{} -m folds -f 0 train <label.tns", None),
    ("epochs", "{} -n 2 -s 1 label.tns", None),
    ("epochs", "{} -n 2 -s 1 -b 0.5 -B 4 label.tns", None),
    ("epochs", "{} -n 2 -s 1 -l 3 -p -w weights -b 0.5 -c label.tns", None),
    ("augment", "{} -s 1 noise@1 gamma@1 <crop.tns", None),
    ("augment", "{} -s 1 elastic@1 rotate@1 blur@1 lowres@1 <crop.tns", None),
    ("augment", "{} -s 1 -j 2 -w 16x16 -f 0.5 histogram@1 <crop.tns", None),
    ("mislabel", "{} -s 1 label.tns", None),
    ("tnsview", "{} <label.tns", None),
    ("stats", "{} <label.tns", None),
    ("dice", "{} -L <pred.tns", None),
    ("measure", "{} <pred.tns", None),
    ("measure", "{} -J -l <label.tns", None),
    ("tidy", "{} -w 20 -E 20 -i <pred.tns", None),
    ("tidy", "{} -c -L <pred.tns", None),
    ("compare", "{} -L -m dice,hd95 A=scores B=constant", None),
    ("compare", "{} -L -J -G 1 A=scores B=constant", None),
    ("slices2nii", "{} -o out <label.tns", "empty"),
    ("overlay", "{} -n 1 -o out <pred.tns", "empty"),
    ("overlay", "{} -n 1 -u entropy -o out <sure.tns", "empty"),
    ("overlay", "{} -I out/labels.txt", "empty"),
    ("phantom", "{} -n 1 -d 32x32x12 -o out", "empty"),
    ("phantom", "{} -n 1 -d 32x32x12 -l msd -o out", "empty"),
    ("infer", "{} -j 1 -m model <crop.tns", None),
    ("model2onnx", "{} model", None),
    ("model2onnx", "{} -e model", None),
    ("model2onnx", "{} -l model", None),
    ("infer", "{} -j 1 -t x -u -m model -m model <crop.tns", None),
    ("train", "{} -j 1 -c tiny.yaml -o out/m <epochs.tns", "empty"),
    ("train", "{} -j 1 -c tiny.yaml -e crop.tns -L -o out/m <epochs.tns", "empty"),
    ("train", "{} -j 1 -i model -c tiny.yaml -o out/m <epochs.tns", "empty"),
    ("train", "{} -r -j 1 -c tiny.yaml -o out/m <epochs.tns", "half"),
]


def tree(d, name):
    """Files under their final names (temporary ones start with a dot), as path -> bytes. The log of train tells
    the time; its best weights so far go when it ends."""
    return {str(p.relative_to(f"{d}/{name}")): p.read_bytes() for p in sorted(pathlib.Path(d, name or ".").rglob("*"))
            if name and p.is_file() and not p.name.startswith(".") and p.suffix not in (".tsv", ".best", ".previous")}


def lines(err):
    """What was said of the end: neither a warning, nor what train prints before it starts."""
    return [l for l in err.decode(errors="replace").split("\n") if l.strip() and ": warning: " not in l and not PLAN.match(l)]
