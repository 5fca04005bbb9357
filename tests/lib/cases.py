#!/usr/bin/env python3
"""Streams of cases with label and pred for the tests of dice. Written from formats/tns.md alone.

cases.py <PROGRAM >STREAM     PROGRAM is Python that calls
  zeros(D, H, W)              an empty volume, u8
  case(NAME, LABEL, PRED, prob=None (4,D,H,W), slices=None, only=range(D), box=None, tensors=(), KEY=VALUE...)
                              a case's records; a KEY of None leaves it out; box=(y, x, h, w) crops
numpy is np, rng a generator with a fixed seed."""
import struct, sys, zlib
import numpy as np

MAGIC = bytes([0x89]) + b"TNS\r\n\x1a\n"
CODES = {"uint8": 1, "int16": 2, "int32": 3, "float16": 4, "float32": 6, "float64": 7}
count = 0


def pad(b):
    return b + bytes(-len(b) % 64)


def record(kind, meta=(), tensors=(), n=0):
    text = "".join(f"{k}={v}\n" for k, v in meta).encode()
    front, body = pad(text), []
    for name, a in tensors:
        a = np.ascontiguousarray(a)
        raw = a.tobytes()
        front += name.encode().ljust(64, b"\0") + bytes([CODES[str(a.dtype)], a.ndim, 2]) + bytes(5)
        front += struct.pack("<8I", *(list(a.shape) + [0] * (8 - a.ndim)))
        front += struct.pack("<QQQ", len(raw), 0, zlib.crc32(raw))
        body.append(pad(raw))
    body = b"".join(body)
    head = MAGIC + struct.pack("<HcBIIIQQ", 1, kind, 0, len(text), len(tensors), zlib.crc32(front),
                               len(front) + len(body), n)
    head += bytes(20)
    return head + struct.pack("<I", zlib.crc32(head)) + front + body


def zeros(*shape):
    return np.zeros(shape, np.uint8)


def cut(a, box):
    if not box:
        return a
    y, x, h, w = box
    H, W = a.shape[-2:]
    out = np.zeros(a.shape[:-2] + (h, w), a.dtype)
    y0, y1, x0, x1 = max(y, 0), min(y + h, H), max(x, 0), min(x + w, W)
    out[..., y0 - y:y1 - y, x0 - x:x1 - x] = a[..., y0:y1, x0:x1]
    return out


def case(name, label, pred, prob=None, slices=None, only=None, box=None, tensors=(), **keys):
    global count
    D, H, W = label.shape
    for z in range(D) if only is None else only:
        meta = {"case": name, "patient": name, "slice": z, "slices": slices or D, "scheme": "canonical", "spacing": "1 1 1"}
        if box:
            meta["crop"] = "%d %d %d %d %d %d" % (*box, H, W)
        meta.update(keys)
        data = [("label", cut(label[z], box)), ("pred", cut(pred[z], box)), *tensors]
        if prob is not None:
            data.append(("prob", cut(prob[:, z], box)))
        sys.stdout.buffer.write(record(b"R", [(k, v) for k, v in meta.items() if v is not None], data, count))
        count += 1


if __name__ == "__main__":
    rng = np.random.default_rng(1)
    sys.stdout.buffer.write(record(b"H"))
    exec(sys.stdin.read())
    sys.stdout.buffer.write(record(b"E", n=count))
