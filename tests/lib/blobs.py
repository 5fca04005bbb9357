#!/usr/bin/env python3
"""A stream of slices on which a small network can learn: discs of tissue with a round tumour, whose three
parts differ in brightness as the real ones do. Written from formats/tns.md alone, with CRC-32 checks.

blobs.py [-p PATIENTS] [-n SLICES] [-d HxW] [-s SEED] [-1 FIRST] [-r] [-e] [-c] [-l HISTORY]... [-k KEY=VALUE]... >STREAM
  -1  number of the first patient (names are P000, P001, ...)    -r  ragged sizes, up to HxW
  -e  every second slice without tumour                          -n/-p/-d/-s as named
  -c  a resection cavity too, label 4, in the slices with tumour
  -x  no label tensor     -m  names of modalities (default flair,t1,t1gd,t2), also their order"""
import argparse, hashlib, struct, sys, zlib
import numpy as np

MAGIC = bytes([0x89]) + b"TNS\r\n\x1a\n"
CODES = {"uint8": 1, "int16": 2, "int32": 3, "float16": 4, "float32": 6, "float64": 7}
# brightness of tissue, core, oedema, enhancing, cavity; one row for each modality
LOOK = {"flair": (0.0, 0.5, 1.8, 1.2, -2.5), "t1": (0.0, -1.5, -0.8, -0.5, -3.0), "t1gd": (0.0, -1.0, -0.4, 2.2, -3.0), "t2": (0.0, 1.5, 1.6, 0.7, 4.0)}


def pad(b):
    return b + bytes(-len(b) % 64)


def record(kind, meta=(), tensors=(), count=0):
    text = "".join(f"{k}={v}\n" for k, v in meta).encode()
    front, body = pad(text), b""
    for name, a in tensors:
        a = np.ascontiguousarray(a)
        raw = a.tobytes()
        front += name.encode().ljust(64, b"\0") + bytes([CODES[str(a.dtype)], a.ndim, 2]) + bytes(5)
        front += struct.pack("<8I", *(list(a.shape) + [0] * (8 - a.ndim))) + struct.pack("<QQQ", len(raw), 0, zlib.crc32(raw))
        body += pad(raw)
    head = MAGIC + struct.pack("<HcBIIIQQ", 1, kind, 0, len(text), len(tensors), zlib.crc32(front), len(front) + len(body), count)
    head += bytes(20)
    return head + struct.pack("<I", zlib.crc32(head)) + front + body


def one(rng, h, w, tumour, modalities, cavity=False):
    yy, xx = np.mgrid[0:h, 0:w].astype(float)
    brain = ((yy - h / 2 + .5) / (h / 2)) ** 2 + ((xx - w / 2 + .5) / (w / 2)) ** 2 < 1
    label = np.zeros((h, w), np.uint8)
    if tumour:
        r = rng.uniform(.18, .3) * min(h, w)
        d = np.hypot(yy - rng.uniform(.35, .65) * h, xx - rng.uniform(.35, .65) * w) / r
        label[d < 1.3] = 2
        label[d < .8] = 3
        label[d < .45] = 1
        if cavity:
            label[np.hypot(yy - .15 * h, xx - .5 * w) < .15 * min(h, w)] = 4
        label[~brain] = 0
    image = np.stack([np.array(LOOK[m])[label] + .3 * rng.standard_normal((h, w)) for m in modalities])
    image[:, ~brain] = 0
    return image.astype(np.float32), label


def fingerprint(o, patient):
    """Of a scan that nothing else has; the sum of the voxels themselves is leak.bats' matter."""
    scan = lambda m: f"{o.s} {patient} {o.n} {o.d} {o.r} {o.e} {m}".encode()
    return ",".join(hashlib.sha256(scan(m)).hexdigest()[:16] for m in o.m.split(","))


def main():
    p = argparse.ArgumentParser()
    for flag, kind, default in (("-p", int, 3), ("-n", int, 4), ("-s", int, 1), ("-1", int, 0)):
        p.add_argument(flag, type=kind, default=default, dest="first" if flag == "-1" else None)
    p.add_argument("-d", default="32x32")
    p.add_argument("-r", action="store_true")
    p.add_argument("-e", action="store_true")
    p.add_argument("-c", action="store_true")
    p.add_argument("-x", action="store_true")
    p.add_argument("-m", default="flair,t1,t1gd,t2")
    p.add_argument("-l", action="append", default=[])
    p.add_argument("-k", action="append", default=[])
    o = p.parse_args()
    H, W = map(int, o.d.split("x"))
    out = sys.stdout.buffer
    out.write(record(b"H", [("history", line) for line in o.l]))
    count = 0
    for patient in range(o.first, o.first + o.p):
        for s in range(o.n):
            rng = np.random.default_rng([o.s, patient, s])
            h, w = (rng.integers(H // 2, H + 1), rng.integers(W // 2, W + 1)) if o.r else (H, W)
            image, label = one(rng, h, w, not (o.e and s % 2), sorted(o.m.split(",")), o.c)
            image = image[[sorted(o.m.split(",")).index(m) for m in o.m.split(",")]]
            meta = {"case": f"P{patient:03}", "patient": f"P{patient:03}", "slice": s, "slices": o.n, "modalities": o.m,
                    "scheme": "canonical", "spacing": "1 1 1", "fingerprint": fingerprint(o, patient)}
            meta.update(kv.split("=", 1) for kv in o.k)
            tensors = [("image", image)] + ([] if o.x else [("label", label)])
            out.write(record(b"R", meta.items(), tensors, count))
            count += 1
    out.write(record(b"E", count=count))


if __name__ == "__main__":
    main()
