#!/usr/bin/env bats
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
}

# read FILE: the stream of one file in `out`
read_file() {
    nii2slices -l file "$1" >out
}

# refused FILE WORDS: exit 1, one line that says so, and no end record
refused() {
    run -1 --separate-stderr bash -c 'nii2slices -l file "$1" >out' _ "$1"
    [ "${#stderr_lines[@]}" = 1 ] || { echo "lines: $stderr"; return 1; }
    [[ $stderr == *"$2"* ]] || { echo "wanted '$2', got: $stderr"; return 1; }
    if [ -s out ]; then run ! pipe 'tnsview -c <out'; fi
}

@test "nifti: every voxel type in either byte order reads as it is" {
    py <<'P'
for t in CODE:
    for o in "<>":
        v = head(dtype=t) if t[0] != "f" else (head().astype(t) / 8)
        if t == "i1": v = (v.astype(int) - 60).astype(t)
        write("x.nii", v, order=o, affine=np.diag([-1, -1, 1, 1]))
        subprocess.run("nii2slices -l file x.nii >out", shell=True, check=True)
        assert (whole(records())[0] == v.astype(float)).all(), (t, o)
        narrow = t[0] in "iu"
        assert records()[0][1]["image"].dtype == ("<i2" if narrow else "<f4"), t
P
}

@test "nifti: whole numbers beyond int16 come as float32" {
    py <<'P'
v = head(dtype="u2"); v[3, 3, 3] = 40000
write("x.nii", v, affine=np.diag([-1, -1, 1, 1]))
subprocess.run("nii2slices -l file x.nii >out", shell=True, check=True)
assert records()[0][1]["image"].dtype == "<f4" and (whole(records())[0] == v).all()
P
}

@test "nifti: slope and intercept apply; a slope of 0 or NaN does not" {
    py <<'P'
v = head()
nan = float("nan")
for slope, inter, want in ((2, 5, v * 2.0 + 5), (0.25, 0, v / 4.0), (0, 7, v), (nan, 7, v), (1, 0, v), (2, nan, v * 2.0)):
    write("x.nii.gz", v, affine=np.diag([-1, -1, 1, 1]), slope=slope, inter=inter)
    subprocess.run("nii2slices -l file x.nii.gz >out", shell=True, check=True)
    assert (whole(records())[0] == want).all(), (slope, inter)
P
}

@test "nifti: the voxels start where vox_offset says, extensions ride along, what follows is passed over" {
    py <<'P'
v = head()
ext = bytes([1, 0, 0, 0]) + struct.pack("<2i", 32, 4) + b"a comment".ljust(24, b"\0")
for offset in (352, 384, 400, 11136):
    for name in ("x.nii", "x.nii.gz"):
        write(name, v, affine=np.diag([-1, -1, 1, 1]), offset=offset, ext=ext if offset > 352 else None, tail=b"more")
        subprocess.run(f"nii2slices -P -l file {name} >out", shell=True, check=True)
        assert (whole(records())[0] == v).all(), offset
        kept = records()[0][1]["nifti"].tobytes()
        assert len(kept) == offset and (offset == 352 or kept[348:348 + len(ext)] == ext)
P
}

@test "nifti: all 48 orientations of one head give the same records" {
    py <<'P'
v = head()
first = None
for codes in ALL:
    data, affine = turned(v, codes)
    write("x.nii.gz", data, affine=affine, pixdim=[SPACING[next(i for i, p in enumerate(("LR", "PA", "SI")) if c in p)] for c in codes])
    subprocess.run("nii2slices -l file x.nii.gz >out", shell=True, check=True)
    rs = [(m, t["image"].tobytes()) for m, t in records()]
    assert (whole(records())[0] == v).all(), codes
    first = first or rs
    assert rs == first, codes
    assert rs[0][0]["spacing"] == "1 2 3", rs[0][0]
P
}

@test "nifti: floats give the same statistics in every order of storage" {
    py <<'P'
v = (np.random.default_rng(1).normal(3, 1e4, (9, 8, 7))).astype("f4")
seen = set()
for codes in ALL[::5]:
    data, affine = turned(v, codes)
    write("x.nii", data, affine=affine)
    subprocess.run("nii2slices -l file x.nii >out", shell=True, check=True)
    m = records()[0][0]
    seen.add((m["mean"], m["std"]))
(mean, std), = seen
d = v.astype(float)
assert abs(float(mean) - d.mean()) < 1e-9 * d.std() and abs(float(std) / d.std() - 1) < 1e-12
P
}

@test "nifti: an oblique grid keeps its voxels and takes the nearest axes" {
    py <<'P'
a = 0.3
r = np.diag([1.0, 1, 1, 1]); r[:2, :2] = [[-np.cos(a), np.sin(a)], [-np.sin(a), -np.cos(a)]]
v = head()
write("x.nii", v, affine=r)
subprocess.run("nii2slices -l file x.nii >out", shell=True, check=True)
assert (whole(records())[0] == v).all()
P
}

@test "nifti: sform goes before qform, qform before nothing" {
    py <<'P'
v = head()
quat = dict(_256=("6f", 0, 0, 1, 0, 0, 0))  # half a turn about z: LPS
for sform, qform, want in ((1, 1, v[::-1]), (0, 1, v), (2, 0, v[::-1])):
    write("x.nii", v, affine=np.diag([1, -1, 1, 1]), sform=sform, qform=qform, **quat)
    subprocess.run("nii2slices -l file x.nii >out", shell=True, check=True)
    assert (whole(records())[0] == want).all(), (sform, qform)
P
}

@test "nifti: without qform and sform x runs to the left, as nibabel has it, with a warning" {
    py <<'P'
v = head()
write("x.nii", v, sform=0)
r = subprocess.run("nii2slices -l file x.nii >out", shell=True, check=True, stderr=subprocess.PIPE, text=True)
assert "warning" in r.stderr and "orientation" in r.stderr, r.stderr
assert (whole(records())[0] == v[:, ::-1]).all()
P
}

@test "nifti: a header in metres or micrometres gives the records of one in millimetres" {
    py <<'P'
v = head()
data, affine = turned(v, "LPS")
seen = set()
for unit, mm in ((0, 1), (2, 1), (10, 1), (1, 1000), (9, 1000), (3, 1e-3)):
    for codes in ((1, 0), (0, 1), (0, 0)): # sform, qform (half a turn about z: LPS), neither
        a = np.diag([1 / mm] * 3 + [1]) @ affine
        write("x.nii", data, affine=a, sform=codes[0], qform=codes[1], pixdim=[s / mm for s in SPACING],
              _123=("B", unit), _256=("6f", 0, 0, 1, *a[:3, 3]))
        r = subprocess.run("nii2slices -l file x.nii >out", shell=True, check=True, stderr=subprocess.PIPE, text=True)
        assert ("warning" in r.stderr) == (codes == (0, 0)), r.stderr
        seen.add((sum(codes), *(f"{k}={w}" for k, w in records()[0][0].items())))
        assert records()[0][0]["spacing"] == "1 2 3", (unit, records()[0][0]["spacing"])
assert len(seen) == 2, seen
# The volumes of a case may name the unit differently: the grid is one.
case("P1")
a = np.diag([1e-3] * 3 + [1]) @ affine
write("P1/P1_t1.nii.gz", data, affine=a, pixdim=[s / 1000 for s in SPACING], _123=("B", 1))
subprocess.run("nii2slices P1 >out", shell=True, check=True)
P
}

@test "nifti: voxels and grids that no head can have are refused" {
    py <<'P'
v = head()
def put(name, spacing, unit=2, shape=v.shape, sform=1):
    write(name + ".nii", np.ones(shape, "i2"), affine=np.diag([-spacing[0], -spacing[1], spacing[2], 1]), pixdim=spacing, sform=sform, qform=1 - sform,
          _123=("B", unit), _256=("6f", 0, 0, 1, 0, 0, 0))
put("metres", (.001, .001, .005)); put("metres0", (.001, .001, .005), 0); put("micro", (900, 900, 5000))
put("mm_m", (1, 1, 1), 1); put("mm_um", (1, 1, 1), 3, sform=0); put("nothing", (1, 2, 3), 3); put("small", (1, .049, 1)); put("large", (1, 1, 50.5)); put("long", (1, 1, 10), shape=(2, 2, 151))
put("least", (.05, .1, .05)); put("most", (20, 20, 50)); put("longest", (1, 1, 10), shape=(2, 2, 150))
P
    for f in metres metres0; do refused $f.nii "voxels of 0.001x0.001x0.005 mm (wanted 0.05 to 50)"; done
    refused micro.nii "voxels of 900x900x5000 mm (wanted 0.05 to 50)"
    refused mm_m.nii "voxels of 1000x1000x1000 mm, by a header in metres (wanted"
    refused mm_um.nii "voxels of 0.001x0.001x0.001 mm, by a header in micrometres (wanted"
    refused nothing.nii "voxels of 0.001x0.002x0.003 mm, by a header in micrometres (wanted"
    refused small.nii "voxels of 1x0.049x1 mm"
    refused large.nii "voxels of 1x1x50.5 mm"
    refused long.nii "a grid of 2x2x1510 mm (wanted at most 1500)"
    for f in least most longest; do read_file $f.nii; done
}

@test "nifti: a head in centimetres is doubted, a slab and a small cut-out are not" {
    py <<'P'
def said(spacing, shape):
    write("x.nii", np.ones(shape, "i2"), affine=np.diag([-spacing[0], -spacing[1], spacing[2], 1]), pixdim=spacing)
    return subprocess.run("nii2slices -l file x.nii >out", shell=True, check=True, stderr=subprocess.PIPE, text=True).stderr
assert said((.1, .1, .1), (240, 240, 5)).rstrip() == \
    "nii2slices: warning: x: a grid of 24x24x0.5 mm is small for a head: is the header's unit right?"
assert "small for a head" in said((.09, .09, .5), (24, 24, 3))
assert said((.9, .9, .9), (60, 60, 2)) == "" and said((1, 1, 1), (16, 16, 3)) == ""
P
}

@test "nifti: what pixdim, sform and qform contradict is said, and which of them counts" {
    py <<'P'
v = head()
data, affine = turned(v, "PSR")
half = dict(_256=("6f", 0, 0, 1, 0, 0, 0)) # a quaternion: half a turn about z, LPS
size = [SPACING[i] for i in (1, 2, 0)]
def read(**kw):
    write("x.nii", data, affine=affine, **kw)
    r = subprocess.run("nii2slices -l file x.nii >out", shell=True, check=True, stderr=subprocess.PIPE, text=True)
    assert (whole(records())[0] == v).all(), kw
    return records()[0][0]["spacing"], r.stderr
assert read(pixdim=size) == ("1 2 3", "")
assert read(pixdim=[1.0005 * s for s in size])[1] == "" # what rounding makes of an oblique grid
for code in (1, 2): # rigid: its columns are voxels
    spacing, said = read(pixdim=(1, 0.1, 1), sform=code)
    assert spacing == "1 2 3" and len(said.splitlines()) == 1 and "x: voxels are 1x1x0.1 mm by pixdim, 1x2x3 by the sform (the sform counts)" in said, said
for code in (3, 4): # a template's space may stretch what the scanner saw
    spacing, said = read(pixdim=[1.1 * s for s in size], sform=code)
    assert spacing == "1.1 2.2 3.3" and "1.1x2.2x3.3 mm by pixdim, 1x2x3 by the sform (pixdim counts)" in said, said
spacing, said = read(pixdim=size, qform=1, **half)
assert spacing == "1 2 3" and "the sform turns the axes to PSR, the qform to LPS (the sform counts)" in said, said
spacing, said = read(pixdim=(1, 1, 1), qform=1, **half)
assert spacing == "1 2 3" and len(said.splitlines()) == 1 and "to PSR" in said and "by pixdim" in said, said
P
}

@test "nifti: a pair is read by either name" {
    py <<'P'
v = head()
data = v.tobytes(order="F")
open("p.hdr", "wb").write(header(v.shape, "i2", affine=np.diag([-1, -1, 1, 1]), offset=0, magic=b"ni1\0"))
open("p.img", "wb").write(data)
for n in ("p.hdr", "p.img"):
    subprocess.run(f"nii2slices -l file {n} >out", shell=True, check=True)
    assert (whole(records())[0] == v).all()
    assert records()[0][0]["case"] == "p"
P
    rm p.img
    refused p.hdr "p.img: No such file"
    py <<'P'
v = head()
h, data = header(v.shape, "i2", affine=np.diag([-1, -1, 1, 1]), offset=0, magic=b"ni1\0", pixdim=(1, 1, 1)), v.tobytes(order="F")
pack = lambda name, b: open(name, "wb").write(gzip.compress(b) if name.lower().endswith(".gz") else b)
pairs = (("X.HDR", "X.IMG"), ("X.hdr", "X.IMG"), ("X.HDR", "X.img"), ("X.HDR.gz", "X.IMG.gz"), ("X.HDR.GZ", "X.IMG.GZ"), ("X.hdr", "X.img.gz"), ("X.HDR", "X.IMG.gz"))
for i, pair in enumerate(pairs):
    os.mkdir(str(i)); os.chdir(str(i))
    pack(pair[0], h); pack(pair[1], data)
    for n in pair:
        subprocess.run(["nii2slices", "-l", "file", n], stdout=open("out", "wb"), check=True)
        assert (whole(records())[0] == v).all(), pair
    os.chdir("..")
# A case folder in capitals.
os.mkdir("P1")
for m in ("FLAIR", "T1", "T1CE", "T2"):
    pack(f"P1/P1_{m}.HDR", h); pack(f"P1/P1_{m}.IMG", data)
subprocess.run("nii2slices P1 >out", shell=True, check=True)
assert (whole(records()) == v).all()
P
    refused X.HDR "X.HDR: No such file"
    mv 0/X.IMG .
    refused X.IMG "X.HDR: No such file"
}

@test "nifti: headers that lie or ask for too much are refused, each with its reason" {
    py <<'P'
v = head()
def bad(name, **put):
    write(f"{name}.nii", v, affine=np.diag([-1, -1, 1, 1]), **put)
inf, nan = float("inf"), float("nan")
bad("dims0", _40=("h", 0)); bad("dims8", _40=("h", 8)); bad("dims2", _40=("h", 2)); bad("dims-", _42=("h", -3)); bad("zero", _46=("h", 0))
bad("huge", _40=("8h", 7, *[32767] * 7)); bad("large", _42=("3h", 1400, 1400, 1400)); bad("plane", _42=("3h", 16385, 32767, 1)); bad("five", _40=("8h", 5, 8, 7, 2, 1, 3, 1, 1))
bad("complex", _70=("h", 32)); bad("rgb", _70=("h", 128)); bad("unknown", _70=("h", 99))
bad("offset", _108=("f", 100)); bad("offset-", _108=("f", -1)); bad("offsetnan", _108=("f", nan)); bad("half", _108=("f", 352.5)); bad("far", _108=("f", 1e30))
bad("slope", _112=("f", inf)); bad("affine", _280=("f", nan)); bad("flat", _280=("12f", *[0] * 12)); bad("pixdim", _80=("f", inf))
bad("nifti2", _0=("i", 540)); bad("size", _0=("i", 349)); bad("magic", _344=("4s", b"\0\0\0\0")); bad("pair", _344=("4s", b"ni1\0"))
write("four.nii", np.stack([v, v], -1), affine=np.diag([-1, -1, 1, 1]))
open("empty.nii", "wb"); open("short.nii", "wb").write(header(v.shape, "i2")[:300]); open("text.nii.gz", "w").write("hello")
open("cut.nii", "wb").write(open("four.nii", "rb").read()[:1000])
f = v.astype("f4"); f[3, 2, 4] = nan; write("nan.nii.gz", f, affine=np.diag([-1, -1, 1, 1]))
f[3, 2, 4] = inf; write("inf.nii.gz", f, affine=np.diag([-1, -1, 1, 1]))
d = v.astype("f8"); d[3, 2, 4] = 1e300; write("beyond.nii.gz", d, affine=np.diag([-1, -1, 1, 1]))
P
    refused dims0.nii "number of dimensions"
    refused dims8.nii "number of dimensions"
    refused dims2.nii "too few dimensions"
    refused dims-.nii "bad dimension 1"
    refused zero.nii "bad dimension 3"
    refused huge.nii "dimensions"
    refused large.nii "cut"
    refused plane.nii "a plane of 1073774590 bytes"
    refused five.nii "too many dimensions"
    refused four.nii "wrong number of volumes (wanted 1, got 2)"
    refused complex.nii "COMPLEX64"
    refused rgb.nii "RGB24"
    refused unknown.nii "voxel type"
    for f in offset offset- offsetnan half far; do refused $f.nii "vox_offset"; done
    refused slope.nii "infinite"
    refused affine.nii "not finite"
    refused flat.nii "singular"
    refused pixdim.nii "pixdim[1]"
    refused nifti2.nii "NIfTI-2"
    refused size.nii "not a NIfTI file"
    refused magic.nii "ANALYZE"
    refused pair.nii ".hdr"
    refused empty.nii "not a NIfTI file"
    refused short.nii "got 300"
    refused text.nii.gz "not a gzip file"
    refused cut.nii "cut"
    refused nan.nii.gz "slice 4: voxel 3,2,4 is not a number"
    refused inf.nii.gz "slice 4: voxel 3,2,4 is infinite"
    refused beyond.nii.gz "beyond float32"
    refused nowhere.nii "No such file"
    mkfifo fifo.nii
    refused fifo.nii "is a pipe or a device (wanted a regular file)"
}

@test "nifti: gzip data are read whole, checked, and refused when cut or changed anywhere" {
    py <<'P'
v = head((20, 20, 20))
write("x.nii.gz", v, affine=np.diag([-1, -1, 1, 1]))
raw = gzip.open("x.nii.gz").read()
z = open("x.nii.gz", "rb").read()
def run(b, name="y.nii.gz"):
    open(name, "wb").write(b)
    return subprocess.run(["nii2slices", "-l", "file", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False)
good = run(z).stdout
for parts in (gzip.compress(raw[:100]) + gzip.compress(raw[100:5000]) + gzip.compress(raw[5000:]), z + bytes(512), gzip.compress(raw, 0), gzip.compress(raw, 9)):
    assert run(parts).stdout == good
for n in [1, 2, 5, 9, 10, 11, 50, 200, len(z) // 2, len(z) - 9, len(z) - 8, len(z) - 4, len(z) - 1]:
    r = run(z[:n])
    assert r.returncode == 1 and len(r.stderr.splitlines()) == 1 and r.stderr, (n, r.stderr)
    assert r.stdout[-64:] != good[-64:]
for at in (len(z) - 8, len(z) - 5, len(z) - 4, len(z) - 1):
    r = run(z[:at] + bytes([z[at] ^ 1]) + z[at + 1:])
    assert r.returncode == 1 and b"checksum" in r.stderr, r.stderr
r = run(z + b"junk")
assert r.returncode == 1 and b"after the gzip data" in r.stderr
P
}

@test "nifti: hundreds of damaged headers end in a stream or in one line" {
    py <<'P'
v = head((6, 5, 4))
write("x.nii", v, affine=np.diag([-1, -1, 1, 1]))
b = open("x.nii", "rb").read()
r = np.random.default_rng(7)
n = 1000 if os.environ.get("LONG") else 200
for i in range(n):
    c = bytearray(b)
    for _ in range(r.integers(1, 4)):
        c[r.integers(0, 352)] = r.integers(0, 256)
    open("y.nii", "wb").write(c)
    p = subprocess.run(["nii2slices", "-l", "file", "y.nii"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert p.returncode in (0, 1), (i, p.returncode, p.stderr)
    assert p.returncode == 0 or len(p.stderr.splitlines()) == 1, p.stderr
P
}

@test "nifti: odd files are read as nibabel reads them, or refused in one line" {
    need_data
    need_python nibabel
    py <<'P'
import glob, nibabel as nib
files = sorted(f for f in glob.glob(os.environ["DATA"] + "/edge/**/*", recursive=True) if os.path.isfile(f))
assert files
lps = nib.orientations.axcodes2ornt("LPS")
for f in files:
    p = subprocess.run(["nii2slices", "-l", "file", f], stdout=open("out", "wb"), stderr=subprocess.PIPE, text=True)
    if p.returncode:
        assert p.returncode == 1 and len(p.stderr.splitlines()) == 1, (f, p.stderr)
        continue
    n = nib.load(f)
    turn = nib.orientations.ornt_transform(nib.io_orientation(n.affine), lps)
    want = nib.apply_orientation(n.get_fdata(), turn)
    got = whole(records())[0]
    assert got.shape == want.shape and (got == want.astype("f4")).all(), f
P
}
