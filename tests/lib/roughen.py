#!/usr/bin/env python3
"""roughen.py CASE OUT: of a BraTS case scans as a hospital has them: the head turned and shifted, a little otherwise for each sequence,
which no header says; 0.9 x 0.9 x 5 mm, each slice the mean over its thickness; a skull and a scalp around the brain; names of a scanner.
OUT/SCAN.nii.gz, OUT/brain_mask.nii.gz and OUT/truth/seg.nii.gz lie on the grid of the T1 with contrast agent."""
import glob, os, sys
from niftis import load, np, write

MM, SHAPE = np.array((0.9, 0.9, 5.0)), (256, 256, 33)
NAMES = {"t1ce": "9_T1_AX_POST_GAD", "t1": "5_T1_AX", "t2": "6_T2_TSE_TRA", "flair": "7_FLAIR_TRA"}
TURNS = {"t1ce": (6, -4, 9, 3, -5, 4), "t1": (5, -4, 10, 4, -5, 3), "t2": (7, -3, 8, 2, -6, 5), "flair": (6, -6, 9, 3, -3, 6)}  # degrees, mm


def turn(x, y, z, *shift):
    a, b, c = np.radians((x, y, z))
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx, np.array(shift, float)


def sample(volume, how, off, nearest=False):
    """The volume (1 mm) at the slices' centres, moved by `off` mm across them."""
    m, shift = turn(*how)
    middle = (np.array(volume.shape) - 1) / 2
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(SHAPE, MM)]
    axes[2] = axes[2] + off
    p = [sum(m[i, j] * axes[j].reshape([-1 if k == j else 1 for k in range(3)]) for j in range(3)) + shift[i] + middle[i] for i in range(3)]
    if nearest:
        q = [np.rint(a).astype(int) for a in p]
        inside = np.logical_and.reduce([(a >= 0) & (a < n) for a, n in zip(q, volume.shape)])
        return np.where(inside, volume[tuple(np.clip(a, 0, n - 1) for a, n in zip(q, volume.shape))], 0)
    low = [np.floor(a).astype(int) for a in p]
    out = np.zeros(SHAPE, "f4")
    for corner in np.ndindex(2, 2, 2):
        weight, at, inside = 1, [], True
        for a, l, d, n in zip(p, low, corner, volume.shape):
            weight = weight * ((a - l) if d else (1 - a + l))
            inside = inside & (l + d >= 0) & (l + d < n)
            at.append(np.clip(l + d, 0, n - 1))
        out += np.where(inside, weight * volume[tuple(at)], 0).astype("f4")
    return out


def grown(mask, n):
    for _ in range(n):
        wide = mask.copy()
        for axis in range(3):
            for step in 1, -1:
                part = np.roll(mask, step, axis)
                edge = [slice(None)] * 3
                edge[axis] = 0 if step == 1 else -1
                part[tuple(edge)] = False
                wide |= part
        mask = wide
    return mask


def main(case, out):
    name = os.path.basename(os.path.normpath(case))
    scans = {k: load(glob.glob(f"{case}/{name}_{k}.nii*")[0])[1].astype("f4") for k in NAMES}
    _, truth = load(glob.glob(f"{case}/{name}_seg.nii*")[0])
    pad = [(15, 15), (15, 15), (30, 30)]
    scans, truth = {k: np.pad(v, pad) for k, v in scans.items()}, np.pad(truth, pad)
    brain = np.logical_or.reduce([v > 0 for v in scans.values()])
    bone, scalp = grown(brain, 5), grown(brain, 11)
    r = np.random.default_rng(1)
    for k, bright in ("t1ce", 1.6), ("t1", 1.6), ("t2", 0.8), ("flair", 0.8):
        v = scans[k]
        usual = np.median(v[v > 0])
        v[bone & ~brain] = 0.12 * usual * r.random(int((bone & ~brain).sum()), "f4")
        v[scalp & ~bone] = bright * usual * (0.7 + 0.6 * r.random(int((scalp & ~bone).sum()), "f4"))
        v += 0.02 * usual * r.random(v.shape, "f4")
    grid = np.diag([*(-MM[:2]), MM[2], 1])
    grid[:3, 3] = np.array((1, 1, -1)) * (np.array(SHAPE) - 1) / 2 * MM
    put = lambda path, v: write(path, v, affine=grid, pixdim=tuple(MM))
    os.makedirs(out + "/truth", exist_ok=True)
    for k, v in scans.items():
        thick = sum(sample(v, TURNS[k], off) for off in (-2, -1, 0, 1, 2)) / 5
        put(f"{out}/{NAMES[k]}.nii.gz", np.rint(thick).astype("i2"))
    put(f"{out}/brain_mask.nii.gz", (sample(brain.astype("f4"), TURNS["t1ce"], 0) >= 0.5).astype("u1"))
    put(f"{out}/truth/seg.nii.gz", sample(truth, TURNS["t1ce"], 0, True).astype("u1"))


if __name__ == "__main__":
    main(*sys.argv[1:])
