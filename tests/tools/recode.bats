#!/usr/bin/env bats
# recode: what each number of each year's data sets means, as their papers say.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
}

# Python with put(FILE, tensors, keys): a stream of one slice; got(FILE): its keys and tensors. TO: what the values of
# each scheme become; BACK: what 0, 1, 2, 3 become by -i.
coded() {
    cat >rest
    cat - rest >code <<'P'
TO = {"canonical": {0: 0, 1: 1, 2: 2, 3: 3},        # 1 necrosis and non-enhancing, 2 oedema, 3 enhancing
      "brats2012": {0: 0, 1: 1, 2: 2, 3: 1, 4: 3},  # 1 necrosis, 2 oedema, 3 non-enhancing, 4 enhancing (Menze 2015)
      "brats2017": {0: 0, 1: 1, 2: 2, 4: 3},        # 1 NCR/NET, 2 ED, 4 ET
      "brats2023": {0: 0, 1: 1, 2: 2, 3: 3},        # 1 NCR, 2 ED, 3 ET
      "brats2024": {0: 0, 1: 1, 2: 2, 3: 3},        # 1 NETC, 2 SNFH, 3 ET, 4 RC
      "bratsped": {0: 0, 1: 3, 2: 1, 3: 1, 4: 2},   # 1 ET, 2 NET, 3 CC, 4 ED
      "msd": {0: 0, 1: 2, 2: 1, 3: 3},              # 1 edema, 2 non-enhancing, 3 enhancing
      "nnunet": {0: 0, 1: 2, 2: 1, 3: 3}}
BACK = {"canonical": [0, 1, 2, 3], "brats2012": [0, 1, 2, 4], "brats2017": [0, 1, 2, 4], "brats2023": [0, 1, 2, 3],
        "brats2024": [0, 1, 2, 3], "bratsped": [0, 2, 4, 1], "msd": [0, 2, 1, 3], "nnunet": [0, 2, 1, 3]}
def put(path, tensors, **keys):
    open(path, "wb").write(mkstream.stream([], [({"case": "P1", "slice": 0, **keys}, {k: np.array([v], "u1") for k, v in tensors.items()})]))
def got(path="out"):
    (m, t), = records(path)
    return m, {k: v[0].tolist() for k, v in t.items()}
def recode(line, source="in"):
    return subprocess.run(f"recode {line} <{source} >out", shell=True, stderr=subprocess.PIPE, text=True)
P
    py <code
}

@test "recode: every value of every scheme becomes its class, and every other is refused by its number" {
    coded <<'P'
for scheme, to in TO.items():
    put("in", {"label": list(to)}, scheme="raw")
    assert recode(f"-s {scheme}").returncode == 0
    m, t = got()
    assert t["label"] == list(to.values()) and m["scheme"] == "canonical", (scheme, t)
    for v in {*range(6), 255} - {*to}:
        put("in", {"label": [0, v]}, scheme="raw")
        r = recode(f"-s {scheme}")
        assert r.returncode == 1 and f"{v} " in r.stderr and len(r.stderr.splitlines()) == 1, (scheme, v, r.stderr)
P
}

@test "recode: -i brings back labels and predictions, the first number of a class" {
    coded <<'P'
for scheme, back in BACK.items():
    for tensors in ({"label": [3, 2, 1, 0], "pred": [0, 1, 2, 3]}, {"pred": [0, 1, 2, 3]}, {"label": [3, 2, 1, 0]}):
        put("in", tensors, scheme="canonical")
        assert recode(f"-i -s {scheme}").returncode == 0
        m, t = got()
        assert m["scheme"] == scheme and t == {k: [back[v] for v in w] for k, w in tensors.items()}, (scheme, t)
    for name in ("label", "pred"): # a class that does not exist is refused in either
        put("in", {"label": [0], "pred": [0], name: [5]}, scheme="canonical")
        r = recode(f"-i -s {scheme}")
        assert r.returncode == 1 and f"{name}: value outside" in r.stderr, r.stderr
P
}

@test "recode: the scheme speaks of predictions too, read from files or brought back before" {
    coded <<'P'
for scheme in ("raw", "msd"): # what -i -s msd wrote
    put("in", {"label": [0, 1, 2, 3], "pred": [3, 2, 1, 0]}, scheme=scheme)
    assert recode("-s msd").returncode == 0 and got()[1] == {"label": [0, 2, 1, 3], "pred": [3, 1, 2, 0]}
put("in", {"pred": [5]}, scheme="raw")
r = recode("-s msd")
assert r.returncode == 1 and "pred: value outside the scheme" in r.stderr, r.stderr
P
}

@test "recode: a resection cavity is what -r says, and an error without it" {
    coded <<'P'
put("in", {"label": [4, 3, 0]}, scheme="raw")
r = recode("-s brats2024")
assert r.returncode == 1 and "resection cavity (wanted -r background or -r keep)" in r.stderr
for how, want in (("background", 0), ("keep", 4)):
    assert recode(f"-r {how} -s brats2024").returncode == 0 and got()[1]["label"] == [want, 3, 0]
    assert got()[0]["tumour"] == str(1 + (want > 0)) # what is not background by now
os.rename("out", "kept")
assert recode("-i -s brats2024", "kept").returncode == 0 and got()[1]["label"] == [4, 3, 0]
P
}

@test "recode: a scheme that the data set's own names contradict is refused, unless forced" {
    coded <<'P'
MSD = "1 edema, 2 non-enhancing tumor, 3 enhancing tumour"
fits = {MSD: ("msd", "nnunet"), "2 tumor core, 3 enhancing tumor": ("msd", "nnunet"), "1 ET, 2 NET, 3 cystic component, 4 ED": ("bratsped",),
        "1 necrotic tumor core (NCR), 2 peritumoral edematous tissue, 4 GD-enhancing tumor": ("brats2012", "brats2017"),
        "1 NETC, 2 SNFH, 3 ET, 4 RC": ("brats2024",), "1 tumour, 2 lesion": tuple(TO), "": tuple(TO)}
for names, good in fits.items():
    for scheme in TO:
        put("in", {"label": [0, 1, 2]}, scheme="raw", labels=names)
        r = recode(f"-s {scheme}")
        if scheme in good:
            m, t = got()
            assert r.returncode == 0 and not r.stderr and "labels" not in m, (names, scheme, r.stderr)
        else:
            assert r.returncode == 1 and len(r.stderr.splitlines()) == 1 and "the data set calls" in r.stderr, (names, scheme, r.stderr)
put("in", {"label": [0, 1, 2, 3]}, scheme="raw", labels=MSD)
r = recode("-s brats2023")
assert "record 0 (P1 slice 0): the data set calls 1 'edema', which is oedema; in brats2023 1 is core" in r.stderr, r.stderr
r = recode("-F -s brats2023")
assert r.returncode == 0 and "warning" in r.stderr and got()[1]["label"] == [0, 1, 2, 3] and "labels" not in got()[0]
P
}
