#!/usr/bin/env bats
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
}

@test "phantom: the same seed gives the same bytes, whatever the count and the threads" {
    OMP_NUM_THREADS=1 phantom -n 2 -d 32x32x16 -o a
    OMP_NUM_THREADS=2 phantom -n 3 -d 32x32x16 -o b
    rm -r b/*003
    diff -r a b
    phantom -n 2 -d 32x32x16 -s 2 -o c
    run ! cmp -s a/BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz c/BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz
}

@test "phantom: the layouts hold the same patients, each in its own numbering" {
    need_python numpy
    phantom -n 3 -d 40x40x24 -o old
    phantom -n 6 -d 40x40x24 -l brats2023 -o new
    phantom -n 3 -d 40x40x24 -l msd -o msd
    nii2slices old/* | recode -s brats2017 >old.tns
    nii2slices new/* | recode -s brats2023 >new.tns
    nii2slices -l msd msd | recode -s msd >msd.tns
    py <<'P'
def cases(f):
    out = {}
    for m, t in records(f):
        out.setdefault(m["case"], []).append((t["image"].tobytes(), t["label"].tobytes()))
    return out
old, new, msd = cases("old.tns"), cases("new.tns"), cases("msd.tns")
assert list(new) == ["BraTS-GLI-%05d-%03d" % p for p in ((0, 0), (1, 0), (1, 1), (2, 0), (3, 0), (4, 0))]
assert list(msd) == ["BRATS_001", "BRATS_002", "BRATS_003"]
for i in range(3):
    assert old["BraTS20_Training_%03d" % (i + 1)] == new["BraTS-GLI-%05d-000" % i] == msd["BRATS_%03d" % (i + 1)]
assert new["BraTS-GLI-00001-000"] != new["BraTS-GLI-00001-001"]
P
}

@test "phantom: air is zero, and tissues differ in the modalities as real ones do" {
    need_python numpy
    phantom -n 12 -o p
    nii2slices p/* | recode -s brats2017 >out
    py <<'P'
per = {}
for m, t in records():
    per.setdefault(m["case"], []).append((t["image"], t["label"]))
plain, ratios, rims = 0, [], []
for c, s in per.items():
    v, l = np.stack([a for a, _ in s], 1).astype(float), np.stack([b for _, b in s])
    brain = (v > 0).all(0)
    assert ((v == 0).all(0) | brain).all() and 0.08 < brain.mean() < 0.3 and not l[~brain].any(), c
    mean = lambda k, ch: v[ch][l == k].mean()
    healthy = [v[ch][brain & (l == 0)].mean() for ch in range(4)]
    assert (l == 1).any() and (l == 2).any(), c
    ratios.append([mean(2, 0) / healthy[0], mean(2, 3) / healthy[3], healthy[1] / mean(1, 1)])
    if (l == 3).sum() > 20:
        rims.append(mean(3, 2) / healthy[2])
    plain += not (l == 3).any()
assert 0 < plain < 6, plain
# contrast and bias differ from patient to patient, so not every one shows it as clearly
assert (np.median(ratios, 0) > 1.15).all() and np.median(rims) > 1.15, (ratios, rims)
P
}

@test "phantom: wrong usage gives 2, a folder that cannot be made 1" {
    run -2 phantom
    run -2 phantom -d 10x10 -o x
    run -2 phantom -d 4x40x40 -o x
    run -2 phantom -l brats1999 -o x
    run -1 phantom -o /dev/null/x
}
