"""Learning on real patients beside PyTorch: what accuracy16 and combined16 share.

The development split: 13 patients to train on, 4 to validate on, named below. Base 16, Adam 1e-3 with a cosine rate,
batch 8, 160x192 crops, and a recipe. The peer is the newest PyTorch present, with the allocator's settings that suit it.
It takes half a minute to one and a half an epoch, so its results are stored below build/bench-data and used again (the
machine's speed that day is stored with them; remove the files to repeat). EPOCHS and SEEDS make a shorter trial, which
is no proof.

The line's ratio is either the Dice that PyTorch is ahead (bound 0.01) or, where the times are held, their ratio,
whichever is nearer to failing. Ours includes reading NIfTI; PyTorch's data is ready in memory.
"""
import csv
import glob
import json
import os
import shutil
import statistics
import subprocess

from peers import bench, stream

VALIDATION = ("BraTS2021_00003", "BraTS2021_01478", "BraTS2021_01481", "BraTS19_CBICA_BHQ_1")
# Of the 60 patients of the larger folder these are validated on, too.
MORE = ("Brats18_2013_11_1", "Brats18_2013_3_1", "Brats18_TCIA01_425_1", "Brats18_TCIA02_135_1", "Brats18_TCIA10_628_1",
        "Brats18_CBICA_AOP_1", "Brats18_CBICA_ARZ_1", "Brats18_CBICA_ATB_1")
SEEDS = os.environ.get("SEEDS", "1 2 3").split()
REGIONS = ("WT", "TC", "ET")
CONFIG = """arch: unet
base: 16
batch: 8
loss: {}
optimiser: adam
rate: 0.001
schedule: cosine
regions: none
ema: 0
"""
# Of each recipe the loss, and what augment(1) does; torch_accuracy.py says the same.
RECIPES = {"light": ("dice+ce", "noise brightness contrast gamma"), "combined": ("dice", "-T 1,3 noise")}
# In ours, rows run from front to back: 192 of them.
PREPARE = 'nii2slices {} "$@" | recode -s brats2017 | znorm | crop -s 192x160'


def newest():
    """The interpreter that has the newest PyTorch."""
    for python in (bench.VENV, bench.DEBIAN):
        if os.path.exists(python) and not subprocess.call([python, "-c", "import torch, nibabel"], stderr=subprocess.DEVNULL):
            return python
    raise bench.Missing("PyTorch and nibabel")


def peer(recipe, epochs, seed, validation, training):
    out = f"{bench.SCRATCH}/accuracy16-{recipe}-{epochs}-{seed}.json"
    if not os.path.exists(out):
        subprocess.check_call([newest(), f"{bench.ROOT}/tests/bench/peers/torch_accuracy.py", out, recipe, seed,
                               str(epochs), str(bench.THREADS), f"{bench.SCRATCH}/accuracy16.npz", ":".join(validation),
                               ":".join(training)], env={**os.environ, **bench.KEEP_MEMORY})
    with open(out) as f:
        return json.load(f)


def ours(recipe, epochs, seed, train, validation):
    model = f"{bench.SCRATCH}/accuracy16-{seed}.safetensors"
    config = f"{bench.SCRATCH}/accuracy16.yaml"
    loss, operations = RECIPES[recipe]
    with open(config, "w") as f:
        f.write(CONFIG.format(loss))
    for old in glob.glob(f"{model}*"):
        os.remove(old)
    seconds = stream.seconds(f'epochs -b 0 -n {epochs} -s {seed} "$1" | augment -s {seed} {operations} | '
                             f'train -s {seed} -j {bench.THREADS} -c "$2" -o "$3"', train, config, model)
    table = f"{bench.SCRATCH}/accuracy16-{seed}.tsv"
    stream.seconds(f'({PREPARE.format("")}) | infer -t none -j {bench.THREADS} -m "{model}" | dice -d none -l none >"{table}"',
                   *validation)
    with open(table) as f:
        mean = {row["part"]: float(row["dice"]) for row in csv.DictReader(f, delimiter="\t") if row["row"] == "mean"}
    return {r: mean[r] for r in REGIONS}, seconds


def compare(name, recipe, epochs, time_bound=None):
    epochs = int(os.environ.get("EPOCHS", epochs))
    stream.tools("nii2slices", "recode", "znorm", "crop", "epochs", "augment", "train", "infer", "dice")
    cases = stream.cases()
    validation = [c for c in cases if os.path.basename(c) in VALIDATION]
    training = [c for c in cases if os.path.basename(c) not in VALIDATION]
    if len(validation) != len(VALIDATION):
        raise bench.Missing("the cases of the development split: " + " ".join(VALIDATION))
    os.makedirs(bench.SCRATCH, exist_ok=True)
    bench.say(f"{name}: base 16, {epochs} epochs, recipe {recipe}, {len(training)} patients, seeds {' '.join(SEEDS)}")
    train = f"{bench.SCRATCH}/accuracy16.tns"
    prepare = stream.seconds(f'({PREPARE.format("-t")}) >"{train}"', *training)
    mine, theirs = [], []
    for seed in SEEDS:
        score, seconds = ours(recipe, epochs, seed, train, validation)
        other = peer(recipe, epochs, seed, validation, training)
        for label, s, t in (("ours", score, prepare + seconds), (f"PyTorch {other['version']}", other, other["seconds"])):
            bench.say(f"  seed {seed}: {label:24s} " + "  ".join(f"{r} {s[r]:.4f}" for r in REGIONS) + f"  {t:.0f} s")
        mine.append((statistics.mean(score[r] for r in REGIONS), prepare + seconds))
        theirs.append((statistics.mean(other[r] for r in REGIONS), other["seconds"]))
    dice, dice_peer = (statistics.mean(d for d, _ in x) for x in (mine, theirs))
    took, took_peer = (statistics.median(t for _, t in x) for x in (mine, theirs))
    bench.say(f"  mean Dice {dice:.4f} (PyTorch {dice_peer:.4f}), seconds {took:.0f} (PyTorch {took_peer:.0f})")
    held = [(dice, dice_peer, dice_peer - dice, 0.01)]
    if time_bound:
        held.append((took, took_peer, took / took_peer, time_bound))
    return bench.verdict(name, held)


def same_time(name):
    """MINUTES (20) for each side: `make best` of one model, and PyTorch with its network, loss, stream and augmentation.

    Both are used as the recipe says, mirrored and tidied, by the same tools. Ours includes reading the cases and measuring
    the machine; PyTorch begins with a prepared stream. The line holds what each lacks of a mean Dice of 1.
    """
    minutes, seed = float(os.environ.get("MINUTES", "20")), SEEDS[0]
    cases = stream.cases()
    validation = [c for c in cases if os.path.basename(c) in VALIDATION + MORE]
    training = [c for c in cases if c not in validation]
    folder, out = f"{bench.SCRATCH}/recipe-cases", f"{bench.SCRATCH}/recipe"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(folder)
    for case in training:
        os.symlink(os.path.realpath(case), f"{folder}/{os.path.basename(case)}")
    bench.say(f"{name}: {minutes:g} minutes, {len(training)} patients, {len(validation)} to validate on, seed {seed}")
    took = stream.seconds('make --no-print-directory best DATA="$1" OUT="$2" HOURS="$3" FOLDS=1 SEED="$4" JOBS="$5" >/dev/null', folder,
                          out, str(minutes / 60), seed, str(bench.THREADS))
    with open(f"{out}/best/plan.tsv") as f:
        plan = dict(line.rstrip("\n").split("\t", 1) for line in f)
    ours, theirs = f"{out}/best/model/whole.safetensors", f"{out}/torch.safetensors"
    words = [open(f"{out}/best/whole/{part}").read().strip() for part in ("sampling", "augmentation")]
    with open(f"{out}/best/whole/train.yaml") as f:
        settings = dict(line.split("#")[0].strip().split(": ", 1) for line in f if ": " in line)
    learn = (f'epochs -n 1000 -s {seed} {words[0]} "$1" | {words[1] or "cat"} | "$2" "$3" "$4" "$5" {seed} {minutes * 60:g} '
             f'{bench.THREADS} {settings["base"]} {settings["rate"]} {settings.get("ema", 0)}')
    said = subprocess.run(["bash", "-c", learn, "bench", f"{out}/best/all-{plan['stream']}.tns", newest(),
                           f"{bench.ROOT}/tests/bench/peers/torch_recipe.py", theirs, ours], check=True, stdout=subprocess.PIPE,
                          env={**stream.ENV, **bench.KEEP_MEMORY}).stdout
    other = json.loads(said)
    views, rules = f"-t {plan['views'] or 'none'}", (f"| tidy {plan['tidy']}" if plan["tidy"] else "")
    means = []
    for label, model, seconds in (("ours", ours, took), (f"PyTorch {other['version']}", theirs, other["seconds"])):
        table = f"{model}.scores.tsv"
        stream.seconds(f'nii2slices "$@" | recode -s brats2017 | znorm | crop -F -s 192x160 | infer {views} -j {bench.THREADS} '
                       f'-m "{model}" {rules} | dice -c brats2023 -d none -l none >"{table}"', *validation)
        with open(table) as f:
            score = {row["part"]: float(row["dice"]) for row in csv.DictReader(f, delimiter="\t") if row["row"] == "mean"}
        means.append(statistics.mean(score[r] for r in REGIONS))
        bench.say(f"  {label:16s} " + "  ".join(f"{r} {score[r]:.4f}" for r in REGIONS) + f"  mean {means[-1]:.4f}  {seconds:.0f} s")
    bench.say(f"  recipe {plan['recipe']}: ours {plan['passes']} passes, PyTorch {other['steps'] * 8 / int(plan['slices']):.1f}")
    return bench.verdict(name, [(1 - means[0], 1 - means[1], (1 - means[0]) / (1 - means[1]), 1)])
