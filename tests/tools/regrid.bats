# Scans of several grids and places onto one, and what was found there back onto theirs. What a voxel should be is
# computed by numpy from the matrices that the test made the scans with.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
    cat >geometry.py <<'P'
def turn(degrees):
    (a, b, c), (x, y, z) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (np.array([[c, -z, 0], [z, c, 0], [0, 0, 1]]) @ np.array([[b, 0, y], [0, 1, 0], [-y, 0, b]]) @
            np.array([[1, 0, 0], [0, a, -x], [0, x, a]]))
def rigid(degrees, shift, about):
    m = np.eye(4)
    m[:3, :3] = turn(degrees)
    m[:3, 3] = np.array(shift) + about - m[:3, :3] @ about
    return m
def grid(spacing, shape, middle, tilt=(0, 0, 0)): # LPS, turned
    a = np.eye(4)
    a[:3, :3] = turn(tilt) @ np.diag([-1, -1, 1]) @ np.diag(spacing)
    a[:3, 3] = middle - a[:3, :3] @ ((np.array(shape) - 1) / 2)
    return a
def nearest(volume, affine, shape, at, to=np.eye(4)): # at: index to mm; to: those mm to the volume's
    m = np.linalg.inv(affine) @ to @ at
    p = np.rint(m[:3, :3] @ np.indices(shape).reshape(3, -1) + m[:3, 3:]).astype(int)
    ok = ((p >= 0) & (p < np.array(volume.shape)[:, None])).all(0)
    out = np.zeros(p.shape[1], volume.dtype)
    out[ok] = volume[tuple(p[:, ok])]
    return out.reshape(shape)
def affine_of(header):
    return np.vstack([np.array(struct.unpack_from("<12f", header, 280)).reshape(3, 4), [0, 0, 0, 1]])
def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())
P
}

geo() { # as py, with geometry.py
    { cat geometry.py; cat; } | py
}

@test "regrid: scans turned, cut, thin or thick come back: labels .95 by Dice at 1 mm, .9 at 5, from its own grid and an atlas's" {
    phantom -n 1 -s 3 -d 112x112x72 -o whole
    geo <<'P'
n = os.listdir("whole")[0]
vol = {k: load(f"whole/{n}/{n}_{k}.nii.gz")[1] for k in ("flair", "t1", "t1ce", "t2", "seg")}
mid = np.array([3.0, -5, 20])
home = grid((1, 1, 1), (112, 112, 72), mid)  # a small head
write("atlas.nii", np.zeros((112, 112, 72), "u1"), affine=home, pixdim=(1, 1, 1))
def trip(inplane, thick, atlas):
    case = {"t1ce": ((inplane, inplane, thick), (104, 108, 68), (0, 0, 0), rigid((6, -8, 10), (4, -7, 10), mid)),
            "flair": ((inplane, inplane, thick), (100, 106, 68), (12, -4, 5), rigid((-3, 5, 2), (-5, 3, 4), mid)),
            "t1": ((1, 1, thick), (104, 108, 68), (0, 5, 0), rigid((6, -7, 10), (4, -7, 5), mid)),
            "t2": ((.8, 1.1, thick), (104, 108, 68), (5, 0, 0), np.eye(4))}
    os.makedirs("P", exist_ok=True)
    label = {}
    for k, (mm, extent, tilt, to) in case.items():
        shape = tuple(int(e / s) for e, s in zip(extent, mm))
        at = grid(mm, shape, np.linalg.inv(to)[:3] @ [*mid, 1], tilt)
        write(f"P/P_{k}.nii.gz", nearest(vol[k], home, shape, at, to), affine=at, pixdim=mm)
        label[k] = nearest(vol["seg"], home, shape, at, to)
        if k == "t1ce":
            write("P/P_seg.nii.gz", label[k], affine=at, pixdim=mm)
        else:
            np.savetxt(f"P/{k}-to-t1gd.txt", np.linalg.inv(to) @ case["t1ce"][3])
    np.savetxt("P/t1gd-to-atlas.txt", np.linalg.inv(case["t1ce"][3]))
    if not atlas:
        os.remove("P/t1gd-to-atlas.txt")
    subprocess.run(["regrid", *(["-g", "atlas.nii"] if atlas else []), "P"], check=True, stdout=open("s", "wb"), stderr=open("said", "w"))
    for k, name, least in (("t1ce", "t1gd", .95 if thick == 1 else .9), ("flair", "flair", .9))[:2 if thick == 1 else 1]:
        subprocess.run(["slices2nii", "-g", name, "-o", "back"], check=True, stdin=open("s"))
        (h, d), (was, _) = load("back/P.nii.gz"), load(f"P/P_{k}.nii.gz")
        assert h[40:70] == was[40:70] and h[76:108] == was[76:108] and h[252:328] == was[252:328], k
        whole = dice(d > 0, label[k] > 0)
        each = [dice(d == v, label[k] == v) for v in (1, 2, 4)]
        print(inplane, thick, atlas, name, whole, each)
        assert whole >= least and (k != "t1ce" or min(each) >= least), (whole, each)
for inplane, thick, atlas in (1, 1, True), (.9, 5, True), (.9, 5, False):
    trip(inplane, thick, atlas)
P
}

@test "regrid: a case that lies on the grid already is what nii2slices makes of it" {
    phantom -n 1 -d 48x40x24 -o cases
    nii2slices cases/* >want
    regrid -g cases/*/*_seg.nii.gz cases/* >got
    py <<'P'
for (a, s), (b, t) in zip(records("want"), records("got")):
    assert {k: v for k, v in a.items() if k not in ("mean", "std")} == {k: v for k, v in b.items() if k not in ("mean", "std")}
    for k in "mean", "std":
        assert np.allclose([*map(float, a[k].split())], [*map(float, b[k].split())], rtol=1e-12)
    assert (s["image"] == t["image"]).all() and s["image"].dtype == t["image"].dtype and (s["label"] == t["label"]).all()
P
    slices2nii -o out <got
    py <<'P'
n = os.listdir("cases")[0]
(h, d), (h2, d2) = load(f"cases/{n}/{n}_seg.nii.gz"), load(f"out/{n}.nii.gz")
assert (d == d2).all() and h[280:328] == h2[280:328] and h[256:280] == h2[256:280]
P
}

@test "regrid: how files are turned and in what order of bytes changes nothing" {
    py <<'P'
made = set()
for i, codes in enumerate(ALL[::5]):
    case("P1", codes, order="<>"[i % 2], _80=("3f", *[dict(zip("LPS", SPACING))[{"R": "L", "A": "P", "I": "S"}.get(c, c)] for c in codes]))
    subprocess.run("regrid -s 1.7 -n cubic P1 2>said", shell=True, check=True, stdout=open("s", "wb"))
    made.add(b"".join(t["image"].tobytes() + t["label"].tobytes() for _, t in records("s")))
assert len(made) == 1
P
}

@test "regrid: each scan is read where the composed map says: to the atlas first, then to the scan" {
    geo <<'P'
mid, shape = np.array([10.0, 5, -8]), (70, 66, 30)
slope, place = np.array([0.7, -0.4, 1.1]), {}
t = rigid((4, 9, -6), (3, -2, 6), mid)
os.makedirs("P")
np.savetxt("P/t1gd-to-atlas.mat", t)
for i, k in enumerate(("flair", "t1", "t1gd", "t2")):
    at = grid((2, 2.2, 5), shape, mid, (3 * i, 2, -i))
    place[k] = np.eye(4) if k == "t1gd" else rigid((2 * i, -i, 5), (i, 2, -3), mid)
    if k != "t1gd":
        np.savetxt(f"P/{k}-to-t1gd.txt", place[k][:3])
    p = np.tensordot(at[:3, :3], np.indices(shape), 1) + at[:3, 3].reshape(3, 1, 1, 1)
    write(f"P/P_{k}.nii", (500 + 100 * i + np.tensordot(slope, p, 1)).astype("f4"), affine=at, pixdim=(2, 2.2, 5))
at = grid((2, 2, 2), (40, 38, 36), mid)
write("atlas.nii", np.zeros((40, 38, 36), "u1"), affine=at, pixdim=(2, 2, 2))
for kernel, off in ("linear", 2e-3), ("cubic", 2e-3), ("lanczos", .2):
    subprocess.run(["regrid", "-n", kernel, "-g", "atlas.nii", "P"], check=True, stdout=open("s", "wb"), stderr=open("said", "w"))
    rs = records("s")
    got = whole(rs)
    p = np.tensordot(at[:3, :3], np.indices(got.shape[1:]), 1) + at[:3, 3].reshape(3, 1, 1, 1)
    for i, k in enumerate(("flair", "t1", "t1gd", "t2")):
        m = place[k] @ t
        q = np.tensordot(m[:3, :3], p, 1) + m[:3, 3].reshape(3, 1, 1, 1)
        assert np.abs(got[i] - (500 + 100 * i + np.tensordot(slope, q, 1))).max() < off, (kernel, k)
    assert rs[0][0]["spacing"] == "2 2 2" and rs[0][0]["slices"] == "36"
P
}

@test "regrid: the T1's own field in cubes of -s mm" {
    geo <<'P'
os.makedirs("P")
at = grid((0.9, 0.9, 5.5), (200, 180, 26), np.array([-119.5, 119.5, 77]), (7, 3, -5))
for k in ("flair", "t1", "t1gd", "t2"):
    write(f"P/P_{k}.nii", np.ones((200, 180, 26), "i2"), affine=at, pixdim=(0.9, 0.9, 5.5))
def go(*args):
    subprocess.run(["regrid", *args, "P"], check=True, stdout=open("s", "wb"), stderr=open("said", "w"))
    m, t = records("s")[0]
    return m, t, affine_of(t["nifti"].tobytes())
m, t, a = go("-s", "2")
assert t["image"].shape == (4, 81, 90) and m["slices"] == "72" and m["spacing"] == "2 2 2"
middle = lambda a, n: a[:3, :3] @ ((np.array(n) - 1) / 2) + a[:3, 3]
assert np.allclose(middle(a, (90, 81, 72)), middle(at, (200, 180, 26)), atol=1e-3)
assert np.allclose(a[:3, :3] / 2, at[:3, :3] / (0.9, 0.9, 5.5), atol=1e-5)
P
}

@test "regrid: brats and mni152 are grids by name" {
    need_release "it is only the numbers of two grids, and they are large"
    geo <<'P'
os.makedirs("P")
for k in ("flair", "t1", "t1gd", "t2"):
    write(f"P/P_{k}.nii", np.ones((30, 30, 10), "i2"), affine=grid((2, 2, 6), (30, 30, 10), np.array([-50.0, 50, 40])), pixdim=(2, 2, 6))
for name, n, place in ("brats", (240, 240, 155), (0, 239, 0)), ("mni152", (197, 233, 189), (98, 98, -72)):
    s = subprocess.run(f"regrid -g {name} P 2>said | head -c 900000", shell=True, check=True, stdout=subprocess.PIPE).stdout
    h = s[s.rindex(b"n+1\0") - 344:][:348]
    assert struct.unpack_from("<8h", h, 40)[:4] == (3, *n)
    assert (affine_of(h)[:3] == [[-1, 0, 0, place[0]], [0, -1, 0, place[1]], [0, 0, 1, place[2]]]).all()
P
}

@test "regrid: a mask takes away what is not brain, of every scan; air stays air" {
    geo <<'P'
os.makedirs("P")
at = grid((2, 2, 2), (30, 30, 30), np.zeros(3))
v = np.full((30, 30, 30), 100, "i2")
v[:, :15] = 0
for k in ("flair", "t1", "t1gd", "t2"):
    write(f"P/P_{k}.nii", v, affine=at, pixdim=(2, 2, 2))
mask = np.zeros((20, 20, 20), "u1")
mask[5:15] = 1
write("P/mask.nii", mask, affine=grid((3, 3, 3), mask.shape, np.zeros(3)), pixdim=(3, 3, 3))
subprocess.run("regrid -n lanczos -k mask.nii P >s; regrid -n lanczos P >plain", shell=True, check=True, stderr=open("said", "w"))
got, plain = whole(records("s")), whole(records("plain"))
want = np.zeros((60, 60, 60), bool)
want[15:45, 30:] = True
assert all(((g != 0) == want).all() for g in got)
assert all(((g != 0) == (np.arange(60) >= 30)[None, :, None]).all() for g in plain)
assert records("s")[0][0]["brain"] == "30 15 30 30"
P
    tnsview -H <s | grep -q 'history.*regrid -g scan -s 1 -n lanczos -k$'
}

@test "regrid: what was done stands in the files and comes into the history again; what was made in two ways is two segments, and epochs mixes no skulls" {
    phantom -n 2 -d 48x40x24 -o cases
    set -- cases/*
    mv "$1" A && mv "$2" B
    printf '1 0 0 0\n0 1 0 0\n0 0 1 0\n' | tee A/t1-to-t1gd.txt >B/t1-to-t1gd.txt
    printf '1 0 0 0\n0 1 0 0\n0 0 1 0\n' >A/t2-to-t1gd.txt
    regrid -n cubic -s 4 A B | slices2nii -c -n image -o out
    regrid -s 4 -k "${2##*/}_seg.nii.gz" B | znorm | slices2nii -c -n image -o other
    mv other/B out/C
    lines() { tnsview -H | sed -n 's/^ *history=//p' | tr '\n' ';'; }
    nii2slices out/A out/B out/C >s
    lines <s | grep -qx 'regrid -g scan -s 4 -n cubic t1-to-t1gd.txt;nii2slices -l brats;regrid -g scan -s 4 -n linear -k t1-to-t1gd.txt;nii2slices -l brats;'
    tnsview -c <s | grep -q 'in 2 segments'
    nii2slices -l file out/C/*_t1.nii.gz | slices2nii -n image -o again
    gunzip again/*
    grep -aqx 'made regrid -g scan -s 4 -n linear -k t1-to-t1gd.txt' again/*.nii
    run -1 --separate-stderr pipe 'epochs -b 0 -n 1 s >out.tns'
    [[ $stderr = *"record "*"prepared differently: the skull is off (wanted it on"* ]]
    # Words that are none of theirs stay behind, what was done does not.
    py <<'P'
rs = [(m, t) for m, t in records("s") if m["case"] == "A"]
open("named", "wb").write(mkstream.stream([("history", "strip -m mindgrab:unknown -c t1gd,t1 JANE")], rs))
P
    slices2nii -c -n image -o named.d <named
    nii2slices named.d/A | lines | grep -qx 'regrid -g scan -s 4 -n cubic t1-to-t1gd.txt;strip -m mindgrab:unknown -c;nii2slices -l brats;'
    # Only words of these two tools are taken.
    for word in SECRET 'JANE DOE' -kx 1950-01-01 jane:doe; do
        sed "s/-n linear -k/-n $(printf '%-9.9s' "$word")/" again/*.nii >bad.nii
        run -1 --separate-stderr pipe 'nii2slices -l file bad.nii >out.tns'
        [[ $stderr = *"extension is damaged"* ]]
    done
}

@test "regrid: into files that are read as a case, and labels of those back onto the scans" {
    phantom -n 1 -d 48x40x24 -o cases
    regrid -s 3 cases/* >s
    slices2nii -c -n image -o out <s
    slices2nii -c -o out <s
    n=$(ls cases)
    [ "$(ls out/"$n" | tr '\n' ' ')" = "${n}_flair.nii.gz ${n}_seg.nii.gz ${n}_t1.nii.gz ${n}_t1gd.nii.gz ${n}_t2.nii.gz " ]
    nii2slices out/"$n" | tee again | slices2nii -g flair -o again.d
    slices2nii -g flair -o first.d <s
    cmp again.d/"$n".nii.gz first.d/"$n".nii.gz
    py <<'P'
for (_, a), (_, b) in zip(records("s"), records("again")):
    assert (a["image"] == b["image"]).all() and (a["label"] == b["label"]).all()
P
    znorm <again | crop -m 8 | crop -u | slices2nii -g flair -o crop.d
    cmp crop.d/"$n".nii.gz first.d/"$n".nii.gz
}

@test "regrid: texts of a scan's header that may tell whom it shows go nowhere" {
    py <<'P'
case("P1", _4=("10s", b"SECRETtype"), _14=("18s", b"SECRETdb"), _148=("80s", b"SECRET^NAME 1950"), _228=("24s", b"SECRETaux"), _328=("16s", b"SECRETint"),
     _32=("6s", b"SECRET"), _140=("8s", b"SECRET"), _256=("24s", b"SECRET"),
     offset=400, ext=bytes([1, 0, 0, 0]) + struct.pack("<2i", 32, 4) + b"SECRET".ljust(24, b"\0"))
P
    regrid P1 >s 2>said
    slices2nii -g t1 -o back <s
    slices2nii -c -n image -o files <s
    gunzip back/*.gz files/*/*.gz
    run grep -rlaE 'SECRET|534543524554' s back files
    [ -z "$output" ]
}

@test "regrid: a case may lack what -a names, and that is said, in the files too" {
    phantom -n 1 -d 32x32x20 -o cases
    mv cases/* P
    rm P/*_t2.nii.gz P/*_flair.nii.gz
    run -1 --separate-stderr regrid -s 8 -a t2 P
    [[ $stderr = "regrid: "*"no file for flair"* ]]
    regrid -s 8 -a any P >s 2>err
    grep -qx 'regrid: warning: P: no scan of flair,t2' err
    tnsview -k missing,modalities <s | sort -u | diff - <(printf 'flair,t2\tflair,t1,t1gd,t2\n')
    slices2nii -c -n image -o out <s
    [ "$(ls out/P | tr '\n' ' ')" = "P_t1.nii.gz P_t1gd.nii.gz " ]
    nii2slices -a any out/P 2>err | tnsview -k missing | sort -u | grep -qx flair,t2
    run -1 slices2nii -g flair -o back <s
    rm P/*_t1ce.nii.gz
    run -1 --separate-stderr regrid -a any P
    [[ $stderr = "regrid: P: no t1gd, on which the others are to lie" ]]
}

@test "regrid: the same bytes from any number of threads" {
    phantom -n 1 -d 48x40x24 -o cases
    regrid -j 1 -n cubic -s 4 cases/* >one
    regrid -j 3 -n cubic -s 4 cases/* >three
    cmp one three
}

@test "regrid: memory grows with a slice of the grid and of a scan, never with their number, as the page says; however a file lies" {
    need_release memory
    need_command time
    py <<'P'
def scan(path, shape, codes, mm):
    v = np.arange(np.prod(shape), dtype="i4").astype("i2").reshape(shape, order="F")
    data, at = turned(v, codes)
    at[:3, 3] *= mm / np.array(SPACING)
    at[:3, :3] = np.sign(at[:3, :3]) * mm
    write(path, data, affine=at, pixdim=(mm, mm, mm))
for name, shape, mm, other in ("few", (64, 64, 40), 2, "LPS"), ("more", (64, 64, 120), 2, "LPS"), ("many", (64, 64, 360), 2, "LPS"), ("deep", (128, 128, 128), 1.5, "SAL"), ("wide", (256, 256, 24), 2, "LPS"):
    if name == "wide" and not os.environ.get("LONG"):
        break
    os.makedirs(name)
    for k, codes in ("flair", "LPS"), ("t1", other), ("t1gd", "LPS"), ("t2", "LPS"):
        scan(f"{name}/P_{k}.nii", shape, codes, mm)
    c, s = np.cos(.2), np.sin(.2)
    open(f"{name}/t1-to-t1gd.txt", "w").write(f"{c} 0 {-s} 9\n0 1 0 0\n{s} 0 {c} -5\n")
    if name == "deep": # a quarter of a turn: each slice of the grid sees all of the scan's
        y, z = ORIGIN[1] * mm / SPACING[1] - mm * 63.5, ORIGIN[2] * mm / SPACING[2] + mm * 63.5
        open(f"{name}/flair-to-t1gd.txt", "w").write(f"1 0 0 0\n0 0 -1 {y + z}\n0 1 0 {z - y}\n")
P
    local name kib=()
    for name in few more many deep ${LONG:+wide}; do kib+=("$(peak_kib regrid -s 2 "$name" 2>said)"); done
    echo "${kib[*]} KiB"
    # slices of the grid; planes of a file, or what eight slices look at, which is all of a scan turned so, but for its width
    law() { echo $((6144 + 22 * $1 / 1024 + $2 / 1024)); }
    for i in 0 1 2; do [ "${kib[i]}" -le "$(law 64*64 64*64*64)" ]; done
    [ "${kib[2]}" -le $((kib[0] + 1024)) ]
    [ "${kib[3]}" -le "$(law 96*96 4*128*128*82)" ]
    [ -z "${LONG-}" ] || [ "${kib[4]}" -le "$(law 256*256 4*256*256*24)" ]
    regrid -s 2 deep 2>said >turned
    cp deep/P_t2.nii deep/P_t1.nii # the same, stored as the others are
    regrid -s 2 deep 2>said >plain
    py <<'P'
assert all((a["image"] == b["image"]).all() for (_, a), (_, b) in zip(records("turned"), records("plain")))
P
    regrid -s 2 many 2>said >s
    kib=$(peak_kib sh -c 'exec slices2nii -c -n image -g t1 -o back <s')
    echo "slices2nii: $kib KiB"
    [ "$kib" -le 5120 ]
}

@test "regrid: scans and results wait in files that leave nothing behind; a folder for them that is full is one line" {
    phantom -n 1 -d 48x40x24 -o cases
    mkdir t
    regrid -s 4 cases/* >want
    TMPDIR=$PWD/t regrid -s 4 cases/* | cmp - want
    [ -z "$(ls -A t)" ]
    run -1 --separate-stderr env TMPDIR="$PWD/none" regrid cases/*
    [ "$stderr" = "regrid: $PWD/none: temporary file: No such file or directory" ]
    unshare -m sh -c 'mount -t tmpfs -o size=16k none .' 2>/dev/null || return 0
    run -1 unshare -m sh -c 'mount -t tmpfs -o size=200k none t && TMPDIR=$PWD/t exec regrid -s 1 cases/* 2>said >out'
    [ "$(cat said)" = "regrid: $PWD/t: temporary file: No space left on device" ]
    run -1 tnsview -c <out
}

@test "regrid: what is no case, no map, or another part of the body is one line and no stream" {
    fails
    phantom -n 1 -d 32x32x20 -o cases
    mv cases/* P
    refused() { # PATTERN ARGS...
        local p=$1
        shift
        status=0
        regrid "$@" >out 2>err || status=$?
        [ $status = 1 ] && [ "$(grep -vc ': warning: ' err)" = 1 ] && grep -qE "^regrid: .*$p" err || { echo "$*: $status $(cat err)"; return 1; }
        run -1 tnsview -c <out
    }
    printf '1 0 0 0\n0 1 0 0\n0 0 1 0\n' >P/t1-to-t1gd.txt
    cp P/t1-to-t1gd.txt P/t1-to-t1gd.mat
    refused 'two transforms for t1 ' P
    rm P/t1-to-t1gd.mat
    ln -sf nowhere P/t1-to-t1gd.txt
    refused 't1-to-t1gd.txt: No such file' P
    rm P/t1-to-t1gd.txt
    printf -- '-1 0 0 0\n0 1 0 0\n0 0 1 0\n' >P/t1-to-t1gd.txt
    refused 't1-to-t1gd.txt: it mirrors' P
    printf '1 0 0 0\n0 1 0 0\n0 0 1 300\n' >P/t1-to-t1gd.txt
    refused 'P: t1 has 0 % of what t1gd shows .*part of the body' -s 8 P
    rm P/t1-to-t1gd.txt
    printf '1 0 0 0\n0 1 0 0\n0 0 1 0\n' >P/t1gd-to-atlas.txt
    refused 'wanted -g' P
    printf '1 0 0 900\n0 1 0 0\n0 0 1 0\n' >P/t1gd-to-atlas.txt
    refused 'the grid has 0 % of scan t1gd' -g P/*_seg.nii.gz P
    rm P/t1gd-to-atlas.txt
    refused 'no mask' -k mask.nii P
    refused 'nonesuch' -g nonesuch P
    rm P/*_t2.nii.gz
    refused 'no file for t2' P
    run -2 regrid -n nearest P
    run -2 regrid -s 0 P
    run -2 regrid -s 2 -g brats P
    run -2 regrid
}

@test "regrid: a field that is no head's, and maps that no head needs, are warned of" {
    geo <<'P'
os.makedirs("P")
at = grid((4, 4, 4), (14, 60, 60), np.zeros(3))
for k in ("flair", "t1", "t1gd", "t2"):
    write(f"P/P_{k}.nii", np.ones((14, 60, 60), "i2"), affine=at, pixdim=(4, 4, 4))
np.savetxt("P/t1-to-t1gd.txt", rigid((0, 0, 60), (0, 0, 0), np.zeros(3)))
np.savetxt("P/t2-to-t1gd.txt", np.diag([1, 1, 1.9, 1]))
P
    regrid -s 4 P 2>err >s
    grep -q 'warning: P: the scan t1gd shows 56x240x240 mm .*whole head' err
    grep -q 'warning: P: t1 is turned by 60 degrees' err
    grep -q 'warning: P: t2 is stretched by 1.9' err
    grep -q 'warning: P: t1 has [0-9]* % of what t1gd shows' err
}

@test "regrid: an end that all scans lack is told by the atlas: of its brain, or of the upper half of its head" {
    geo <<'P'
z, y, x = np.indices((56, 56, 56)) - 27.5
r = 4 * np.sqrt(z * z + y * y + x * x)
middle = np.zeros(3)
for name, radius in ("brain", 70), ("head", 105):
    write(f"{name}.nii", (r.T <= radius).astype("u1"), affine=grid((4, 4, 4), (56, 56, 56), middle), pixdim=(4, 4, 4))
def said(atlas, low, high): # slices of 4 mm that all scans have, of 56
    os.makedirs("P", exist_ok=True)
    at = grid((4, 4, 4), (56, 56, high - low), middle + (0, 0, 2 * (low + high - 56)))
    for k in ("flair", "t1", "t1gd", "t2"):
        write(f"P/P_{k}.nii", np.ones((56, 56, high - low), "i2"), affine=at, pixdim=(4, 4, 4))
    np.savetxt("P/t1gd-to-atlas.txt", np.eye(4))
    p = subprocess.run(["regrid", "-g", f"{atlas}.nii", "P"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return p.stderr
def cap(h, radius): # of a ball's volume
    return h * h * (3 * radius - h) / (4 * radius ** 3)
assert said("brain", 8, 48) == ""
for cut in (8, 41), (15, 48):
    want = 100 * cap(70 - 52, 70)
    got = said("brain", *cut)
    assert "warning: P: no scan shows " in got and "of the brain that the atlas has" in got, got
    assert abs(float(got.split()[6]) - want) < 2.5, (got, want)
assert said("head", 15, 56) == "" and "upper half of the head" in said("head", 0, 46)
P
}

@test "slices2nii: -g wants slices that tell of that scan, -c channels that have names" {
    fails
    phantom -n 1 -d 32x32x20 -o cases
    nii2slices cases/* >plain
    regrid -s 8 cases/* >s 2>said
    run -1 slices2nii -g t1 -o out <plain
    [[ $output = "slices2nii: "*"nothing tells of an original scan"* ]]
    run -1 slices2nii -g pet -o out <s
    [[ $output = "slices2nii: "*"no scan 'pet'"* ]]
    py <<'P'
rs = [(m, {**t, "prob": np.zeros((3, *t["label"].shape), "f4")}) for m, t in records("s")]
open("p", "wb").write(mkstream.stream([], rs))
P
    run -1 slices2nii -c -n prob -o out <p
    [[ $output = "slices2nii: "*"have no names"* ]]
    [ -z "$(find out -type f)" ]
}
