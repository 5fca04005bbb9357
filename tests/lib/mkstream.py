#!/usr/bin/env python3
"""A second implementation of formats/tns.md, for tests: shares no line with the codec in C.

  mkstream.py make [OPTION=VALUE]... >STREAM   a small study, see study()
  mkstream.py dump <STREAM                     keys and tensors as text, with a hash of every payload; strict
  mkstream.py get RECORD TENSOR <STREAM        the bytes of one tensor
  mkstream.py cuts <STREAM                     every byte offset at which a part of the format ends
  mkstream.py join FILE... >STREAM             one stream of the segments of all

As a module: stream(), record(), parse().
"""
import ctypes, hashlib, math, re, struct, sys, zlib
import numpy as np

MAGIC = b"\x89TNS\r\n\x1a\n"
DTYPES = {1: "u1", 2: "<i2", 3: "<i4", 4: "<f2", 5: "bf16", 6: "<f4", 7: "<f8"}
CODES = {np.dtype(v): k for k, v in DTYPES.items() if v != "bf16"}
try:
    _xxh = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    _xxh.restype, _xxh.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
except (OSError, AttributeError):
    _xxh = None
_zstd = ctypes.CDLL("libzstd.so.1")
for _f in (_zstd.ZSTD_getFrameContentSize, _zstd.ZSTD_findFrameCompressedSize, _zstd.ZSTD_decompress):
    _f.restype = ctypes.c_size_t
_zstd.ZSTD_getFrameContentSize.argtypes = _zstd.ZSTD_findFrameCompressedSize.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_zstd.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]


def check(kind, b):
    return _xxh(b, len(b)) if kind == 1 else zlib.crc32(b)


def pad(b):
    return b + bytes(-len(b) % 64)


def fixed(kind, meta, n, front, rest, count):
    b = MAGIC + struct.pack("<HcxIIIQQ20x", 1, kind, meta, n, zlib.crc32(front), rest, count)
    return b + struct.pack("<I", zlib.crc32(b))


def lines(meta):
    pairs = meta.items() if isinstance(meta, dict) else meta
    return "".join(f"{k}={v}\n" for k, v in pairs).encode()


def record(meta, tensors, ordinal, kind=2):
    text = lines(meta)
    front, payloads = pad(text), b""
    for name, a in tensors.items():
        a = np.asarray(a, order="C")
        b = a.tobytes()
        dim = list(a.shape) + [0] * (8 - a.ndim)
        k = 1 if kind == 1 and _xxh else 2
        front += struct.pack("<64sBBB5x8IQ8xQ", name.encode(), CODES[a.dtype], a.ndim, k, *dim, len(b), check(k, b))
        payloads += pad(b)
    return fixed(b"R", len(text), len(tensors), front, len(front) + len(payloads), ordinal) + front + payloads


def stream(header, records, kind=2, end=b"E"):
    text = lines(header)
    out = [fixed(b"H", len(text), 0, pad(text), len(pad(text)), 0) + pad(text)]
    out += [record(m, t, i, kind) for i, (m, t) in enumerate(records)]
    return b"".join(out) + fixed(end, 0, 0, b"", 0, len(records))


class Bad(Exception):
    """corrupt, unless its first word is foreign, unsupported or cut."""


def need(ok, what):
    if not ok:
        raise Bad(what)


def metadata(text, kind):
    """Section 4: pairs."""
    need(len(text) <= {b"H": 1048576, b"R": 65536}.get(kind, 0), "corrupt: metadata length")
    need(text[-1:] in (b"", b"\n"), "corrupt: last line not ended")
    pairs = []
    for line in text.split(b"\n")[:-1]:
        m = re.fullmatch(rb"([a-z][a-z0-9_.-]{0,62})=([^\r\0]{0,32768})", line, re.S)
        need(m, "corrupt: no key=value")
        try:
            pairs.append((m[1].decode(), m[2].decode()))
        except UnicodeDecodeError:
            raise Bad("corrupt: no UTF-8")
    once = [k for k, _ in pairs if kind != b"H" or k != "history"]
    need(len(once) == len(set(once)) and len(pairs) <= 4096, "corrupt: key twice, or too many lines")
    return pairs


def descriptor(d):
    """Section 5: name, dtype, dimensions, length, check, its value."""
    name, code, rank, how = d[:64], *d[64:67]
    need(re.fullmatch(rb"[a-z][a-z0-9_]{0,62}\0+", name), "corrupt: name")
    need(code in DTYPES and rank <= 8 and how in (1, 2), "unsupported dtype, rank or check")
    encoding, crc, stored = *struct.unpack("<BI", d[67:72]), struct.unpack("<Q", d[112:120])[0]
    need(encoding in (1, 3, 5, 7) if encoding else not crc and not stored, "unsupported: reserved, or encoding")
    dim = struct.unpack("<8I", d[72:104])
    size, value = struct.unpack("<Q8xQ", d[104:])
    need(not any(dim[rank:]) and all(1 <= x <= 1 << 24 for x in dim[:rank]), "corrupt: dimensions")
    dtype = np.dtype("<u2" if code == 5 else DTYPES[code])
    need(size == math.prod(dim[:rank]) * dtype.itemsize, "corrupt: length of a payload")
    width = 2 if encoding & 4 else dtype.itemsize
    need(not encoding & 4 or code == 6, "corrupt: halves")
    need(not encoding & 2 or width > 1, "corrupt: planes")
    need(not encoding or 0 < stored < size, "corrupt: stored length")
    return name.rstrip(b"\0").decode(), dtype, dim[:rank], size, how, value, stored if encoding else size, (encoding, crc, width)


def unpack(p, encoding, crc, width, size, dtype):
    """Section 6.4: the payload of what is stored."""
    need(zlib.crc32(p) == crc, "corrupt: check of what is stored")
    wanted = size // dtype.itemsize * width
    need(_zstd.ZSTD_getFrameContentSize(p, len(p)) == wanted and _zstd.ZSTD_findFrameCompressedSize(p, len(p)) == len(p), "corrupt: no frame of that size")
    out = ctypes.create_string_buffer(wanted)
    need(_zstd.ZSTD_decompress(out, wanted, p, len(p)) == wanted, "corrupt: frame")
    b = out.raw
    if encoding & 2:
        b = np.frombuffer(b, "u1").reshape(width, -1).T.tobytes()
    return np.frombuffer(b, "<f2").astype("<f4").tobytes() if encoding & 4 else b


def parse(b):
    """Yields (kind, offset, metadata as pairs, {name: array}, part ends) for each record; strict."""
    at, inside, owed, ordinal = 0, False, False, 0
    need(b, "cut: empty")
    while at < len(b):
        f = b[at:at + 64]
        need(f[:8] == MAGIC[:len(f)], "corrupt: no record" if at else "foreign")
        need(len(f) == 64, "cut")
        need(struct.unpack("<I", f[60:])[0] == zlib.crc32(f[:60]), "corrupt: fixed part")
        version, kind, zero, meta, n, front_crc, rest, count = struct.unpack("<HcBIIIQQ", f[8:40])
        need(version, "corrupt: version 0")
        need(version == 1, "unsupported version")
        need(kind in (b"H", b"R", b"E", b"M"), "corrupt: kind")
        need(zero == 0 and not any(f[40:60]), "unsupported: reserved")
        need(n <= (64 if kind == b"R" else 0) and meta <= {b"H": 1048576, b"R": 65536}.get(kind, 0), "corrupt: lengths")
        text_end = at + 64 + meta + -meta % 64
        need(64 + rest <= 1 << 30 and rest >= text_end + 128 * n - at - 64 and rest % 64 == 0, "corrupt: length")
        front = b[at + 64:text_end + 128 * n]
        need(len(front) == text_end + 128 * n - at - 64, "cut")
        need(zlib.crc32(front) == front_crc, "corrupt: front")
        need(not any(b[at + 64 + meta:text_end]), "corrupt: padding")
        pairs = metadata(b[at + 64:at + 64 + meta], kind)
        ends = [at + 64, text_end, text_end + 128 * n]
        tensors, pos = {}, ends[-1]
        parts = [descriptor(b[text_end + 128 * i:text_end + 128 * (i + 1)]) for i in range(n)]
        need(len({p[0] for p in parts}) == n, "corrupt: name twice")
        need(sum(p[3] + -p[3] % 64 for p in parts) <= 1 << 30, "corrupt: larger than a record may be")
        need(rest == ends[-1] - at - 64 + sum(p[6] + -p[6] % 64 for p in parts), "corrupt: length")
        need(at + 64 + rest <= len(b), "cut")
        for name, dtype, dim, size, how, value, stored, encoding in parts:
            p = b[pos:pos + stored]
            p = unpack(p, *encoding, size, dtype) if encoding[0] else p
            need((how == 1 and _xxh is None) or check(how, p) == value, f"corrupt: check of {name}")
            need(not any(b[pos + stored:pos + stored + -stored % 64]), "corrupt: padding")
            tensors[name] = np.frombuffer(p, dtype).reshape(dim)
            pos += stored + -stored % 64
            ends += [pos]
        if kind == b"H":
            need(not inside and count == 0, "corrupt: header")
            inside, owed, ordinal = True, False, 0
        elif kind == b"R":
            need(inside and count == ordinal, "corrupt: ordinal")
            meta = dict(pairs)
            if "mark" in meta:
                need(meta["mark"] == "epoch", "unsupported mark")
                need(not tensors and {"epoch", "index", "epochs"} <= meta.keys(), "corrupt: mark")
            ordinal += 1
        else:
            need(inside and count == ordinal, "corrupt: end record")
            inside, owed = False, kind == b"M"
        yield kind.decode(), at, pairs, tensors, ends
        at = pos
    need(not inside and not owed, "cut: no end record")


def study(cases=2, slices=3, h=24, w=20, dtype="f4", seed=1, extra=1, kind=2, first=0, names="case{:03d}", scheme="raw", bare=0, pred=0, marks=0, mm=1):
    """Cases with four modalities, a head in the middle, a tumour in it, and every key that tools need."""
    r = np.random.default_rng(seed)
    records = []
    for c in range(first, first + cases):
        name = names.format(c)
        brain = np.zeros((slices, h, w), bool)
        brain[:, h // 6:h - h // 5, w // 5:w - w // 6] = True
        image = np.where(brain[:, None], r.integers(1, 1000, (slices, 4, h, w)), 0).astype(dtype)
        label = np.zeros((slices, h, w), "u1")
        label[:, h // 3:h // 2, w // 3:w // 2] = r.choice([1, 2, 4] if scheme == "raw" else [1, 2, 3], (slices, h // 2 - h // 3, w // 2 - w // 3))
        v = [image[:, m][image[:, m] != 0].astype("f8") for m in range(4)]
        ys, xs = np.nonzero(brain.any(0))
        hdr = np.zeros(352, "u1")
        hdr[:348] = np.frombuffer(nifti(h, w, slices, mm), "u1")
        for z in range(slices):
            meta = {"case": name, "patient": name, "slice": z, "slices": slices, "modalities": "flair,t1,t1gd,t2",
                    "scheme": scheme, "spacing": f"{mm} {mm} {mm}",
                    "brain": f"{ys.min()} {xs.min()} {ys.max() - ys.min() + 1} {xs.max() - xs.min() + 1}",
                    "mean": " ".join(repr(float(x.mean())) for x in v), "std": " ".join(repr(float(x.std())) for x in v),
                    "fingerprint": ",".join(hashlib.sha256(f"{name} {m}".encode()).hexdigest()[:16] for m in range(4))}
            t = {"image": image[z], "label": label[z], "nifti": hdr}
            if extra:
                meta["x-lab.note"] = "größe = 3 µm"
                t = {"first_unknown": r.integers(0, 255, 77, dtype="u1"), **t, "scalar": np.float64(2.5),
                     "odd": r.standard_normal((2, 3, 1, 5)), "half": r.standard_normal(9).astype("f2")}
            if bare:
                t = {"image": image[z]}
            if pred:
                t["pred"] = np.roll(label[z], 1, axis=1)
            records.append((meta, t))
    if marks:
        records.append(({"mark": "epoch", "epoch": 0, "index": len(records), "epochs": 1, "x-lab.note": "kept"}, {}))
    return records


def nifti(h, w, slices, mm=1):
    b = bytearray(348)
    struct.pack_into("<i", b, 0, 348)
    struct.pack_into("<8h", b, 40, 3, w, h, slices, 1, 1, 1, 1)
    struct.pack_into("<hh", b, 70, 4, 16)
    struct.pack_into("<8f", b, 76, 1, mm, mm, mm, 0, 0, 0, 0)
    struct.pack_into("<f", b, 108, 352)
    struct.pack_into("<hh", b, 252, 0, 1)
    struct.pack_into("<12f", b, 280, -mm, 0, 0, 0, 0, -mm, 0, 0, 0, 0, mm, 0)
    b[344:348] = b"n+1\0"
    return bytes(b)


def main(argv):
    job, out = argv[1], sys.stdout.buffer
    if job == "make":
        o = dict(a.split("=", 1) for a in argv[2:])
        o = {k: v if k in ("dtype", "names", "scheme") else int(v) for k, v in o.items()}
        out.write(stream([("generator", "mkstream"), ("history", "made -x 1"), ("x-lab.header", "kept")], study(**o), o.get("kind", 2)))
        return
    if job == "join":
        for f in argv[2:]:
            out.write(open(f, "rb").read())
        return
    data = sys.stdin.buffer.read()
    if job == "dump":
        n = -1
        for kind, _, pairs, tensors, _ in parse(data):
            n += kind == "R"
            print({"H": "header", "R": f"record {n}", "E": "end", "M": "more"}[kind])
            for k, v in pairs if kind == "H" else sorted(pairs):
                print(f"  {k}={v}")
            for k, a in sorted(tensors.items()):
                print(f"  {k} {a.dtype} {'x'.join(map(str, a.shape))} {hashlib.sha256(a.tobytes()).hexdigest()[:24]}")
    elif job == "get":
        all_ = [t for kind, _, _, t, _ in parse(data) if kind == "R"]
        out.write(all_[int(argv[2])][argv[3]].tobytes())
    elif job == "cuts":
        print(*sorted({e for *_, ends in parse(data) for e in ends}), sep="\n")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv)
    except Bad as e:
        sys.exit(f"mkstream: {e}")
