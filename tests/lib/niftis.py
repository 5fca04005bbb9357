"""Writes NIfTI files and reads streams for the tests; from the standard (nifti1.h) alone.

Volumes are numpy arrays indexed [x, y, z] on the canonical axes (left, posterior, superior), or, for
write(), on the file's own."""
import gzip, struct, sys
import numpy as np
import mkstream

CODE = {"u1": (2, 8), "i2": (4, 16), "i4": (8, 32), "f4": (16, 32), "f8": (64, 64), "i1": (256, 8), "u2": (512, 16),
        "u4": (768, 32), "i8": (1024, 64), "u8": (1280, 64)}
SPACING, ORIGIN = (1.0, 2.0, 3.0), (60.0, 50.0, -40.0)  # of canonical voxels; where (0,0,0) lies


def header(shape, dtype, order="<", affine=None, slope=1, inter=0, offset=352, sform=1, qform=0, magic=b"n+1\0",
           pixdim=None, **put):
    """348 bytes; put: OFFSET as _N=(format, value...) overrides what stands at byte N."""
    b = bytearray(348)
    p = lambda at, fmt, *v: struct.pack_into(order + fmt, b, at, *v)
    p(0, "i", 348)
    p(40, "8h", len(shape), *shape, *[1] * (7 - len(shape)))
    p(70, "2h", *CODE[dtype])
    p(76, "8f", 1, *(pixdim or SPACING), 1, 1, 1, 1)
    p(108, "3f", offset, slope, inter)
    b[123] = 10
    b[148:156] = b"a phrase"
    p(252, "2h", qform, sform)
    if affine is not None:
        p(280, "12f", *np.asarray(affine, float)[:3].ravel())
    b[344:348] = magic
    for k, (fmt, *v) in put.items():
        p(int(k[1:]), fmt, *v)
    return bytes(b)


def write(path, data, order="<", offset=352, ext=None, tail=b"", head=None, **kw):
    dtype = data.dtype.str[1:]
    h = head or header(data.shape, dtype, order, offset=offset, **kw)
    body = data.astype(data.dtype.newbyteorder(order)).tobytes(order="F")
    between = (ext if ext is not None else b"").ljust(max(offset - 348, 0), b"\0")
    whole = h + between + body + tail
    open(path, "wb").write(gzip.compress(whole, 6, mtime=0) if path.endswith(".gz") else whole)


def turned(volume, codes):
    """The canonical volume as a file of that orientation stores it, and the file's affine."""
    order = [("LR", "PA", "SI").index(next(p for p in ("LR", "PA", "SI") if c in p)) for c in codes]
    flips = [c in "RAI" for c in codes]
    data = np.transpose(volume, order)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    sign = (-1, -1, 1)
    affine[:3, 3] = ORIGIN
    for i, (a, f) in enumerate(zip(order, flips)):
        affine[a, i] = sign[a] * SPACING[a] * (-1 if f else 1)
        if f:
            affine[a, 3] += sign[a] * SPACING[a] * (data.shape[i] - 1)
            data = np.flip(data, i)
    return data, affine


ALL = ["".join(p) for q in __import__("itertools").permutations(("LR", "PA", "SI")) for p in __import__("itertools").product(*q)]


def head(shape=(8, 7, 6), dtype="i2", seed=1):
    """A volume of values that all differ in place, with air around."""
    r = np.random.default_rng(seed)
    v = r.integers(1, 120, shape).astype(dtype)
    v[0] = v[:, -1] = 0
    return v


def mask(shape=(8, 7, 6), first=2, last=4):
    v = np.zeros(shape, "u1")
    v[2:5, 2:4, first:last] = 1
    v[3, 3, first] = 4
    v[4, 2, last - 1] = 2
    return v


def case(folder, codes="LPS", volumes=None, seg=None, names="{}_flair {}_t1 {}_t1ce {}_t2 {}_seg", ending=".nii.gz", **kw):
    """A case folder; its four volumes, canonical."""
    import os
    os.makedirs(folder, exist_ok=True)
    volumes = volumes if volumes is not None else [head(seed=i) for i in range(4)]
    seg = mask(volumes[0].shape) if seg is None else seg
    for v, n in zip([*volumes, seg], names.split()):
        if v is False:
            continue
        data, affine = turned(v, codes)
        write(f"{folder}/{n.format(os.path.basename(folder))}{ending}", data, affine=affine, **kw)
    return volumes


def records(path="out"):
    return [(dict(p), t) for kind, _, p, t, _ in mkstream.parse(open(path, "rb").read()) if kind == "R"]


def whole(rs, name="image"):
    """[c, x, y, z] of records that hold every slice in order; of a rank-2 tensor [x, y, z]."""
    a = np.stack([t[name] for _, t in rs], -1)
    return np.swapaxes(a, -3, -2)


def load(path):
    """(header bytes and extensions, data on the file's axes)."""
    b = gzip.open(path).read() if path.endswith(".gz") else open(path, "rb").read()
    o = "<" if struct.unpack_from("<i", b)[0] == 348 else ">"
    dim = struct.unpack_from(o + "8h", b, 40)
    dtype = next(k for k, v in CODE.items() if v[0] == struct.unpack_from(o + "h", b, 70)[0])
    at = int(struct.unpack_from(o + "f", b, 108)[0])
    shape = dim[1:1 + dim[0]]
    return b[:at], np.frombuffer(b, np.dtype(dtype).newbyteorder(o), int(np.prod(shape)), at).reshape(shape, order="F")
