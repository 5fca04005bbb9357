"""gliopipe.py - read and write gliopipe's tensor streams (tns(5)) from Python, with numpy.

    import sys, gliopipe
    reader = gliopipe.Reader(sys.stdin.buffer)
    with gliopipe.Writer(sys.stdout.buffer, reader, step="double") as out:
        for record in reader:
            record.tensors["image"] *= 2
            out.write(record)

One file, to be copied or put on PYTHONPATH. Payloads are read into memory once, checked, and are numpy's arrays where they lie.
XXH3 and zstd are libxxhash's and libzstd's, which gliopipe needs itself; a stream that wants neither is read without them.
bf16, which numpy has not, is 16-bit integers of the dtype BF16. What breaks a rule of the format is an Error that says which.
"""
from __future__ import annotations

import ctypes
import math
import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO, Dict, Iterator, List, Optional, Tuple, Union

import numpy as np

__all__ = ["BF16", "Error", "Reader", "Record", "Writer", "float32"]

MAGIC = b"\x89TNS\r\n\x1a\n"
BF16 = np.dtype("<u2", metadata={"gliopipe": "bf16"})
DTYPES = {1: np.dtype("u1"), 2: np.dtype("<i2"), 3: np.dtype("<i4"), 4: np.dtype("<f2"), 5: BF16, 6: np.dtype("<f4"), 7: np.dtype("<f8")}
CODES = {d: code for code, d in DTYPES.items() if code != 5}
MAX_META = {b"H": 1 << 20, b"R": 1 << 16, b"E": 0, b"M": 0}
Header = List[Tuple[str, str]]


class Error(ValueError):
    """The stream is corrupt, cut, newer than this reader, or none."""


def _library(name: str) -> Optional[ctypes.CDLL]:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


_xxhash, _zstd = _library("libxxhash.so.0"), _library("libzstd.so.1")
if _xxhash:
    _xxhash.XXH3_64bits.restype, _xxhash.XXH3_64bits.argtypes = ctypes.c_uint64, [ctypes.c_void_p, ctypes.c_size_t]
if _zstd:
    for _f in (_zstd.ZSTD_getFrameContentSize, _zstd.ZSTD_findFrameCompressedSize, _zstd.ZSTD_decompress):
        _f.restype = ctypes.c_size_t
    _zstd.ZSTD_getFrameContentSize.restype = ctypes.c_uint64
    _zstd.ZSTD_getFrameContentSize.argtypes = _zstd.ZSTD_findFrameCompressedSize.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    _zstd.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]


@dataclass
class Record:
    """One record: its keys, and its arrays in the order in which they stand. `header` and `segment` are those that it came under."""
    meta: Dict[str, str] = field(default_factory=dict)
    tensors: Dict[str, np.ndarray] = field(default_factory=dict)
    header: Header = field(default_factory=list)
    segment: int = 1

    @property
    def is_mark(self) -> bool:
        """It ends an epoch, and shows no slice."""
        return "mark" in self.meta


def float32(bf16: np.ndarray) -> np.ndarray:
    """The values of an array of BF16."""
    return (bf16.astype(np.uint32) << 16).view(np.float32)


def _padded(n: int) -> int:
    return n + -n % 64


def _check(kind: int, data: np.ndarray) -> int:
    if kind == 2:
        return zlib.crc32(data)
    if _xxhash is None:
        raise Error("unsupported: this stream's checks are XXH3, and there is no libxxhash")
    return _xxhash.XXH3_64bits(data.ctypes.data, data.nbytes)


def _lines(text: bytes, kind: bytes) -> Header:
    if text and not text.endswith(b"\n"):
        raise Error("corrupt: the last line of metadata has no end")
    found, seen = [], set()
    for line in text.split(b"\n")[:-1]:
        m = re.fullmatch(rb"([a-z][a-z0-9_.-]{0,62})=([^\r\0]{0,32768})", line, re.S)
        if not m:
            raise Error("corrupt: a line of metadata is no key=value")
        try:
            key, value = m[1].decode(), m[2].decode()
        except UnicodeDecodeError:
            raise Error("corrupt: metadata is no UTF-8") from None
        if key in seen and not (kind == b"H" and key == "history"):
            raise Error(f"corrupt: key '{key}' stands twice")
        seen.add(key)
        found.append((key, value))
    if len(found) > 4096:
        raise Error("corrupt: more than 4096 lines of metadata")
    return found


@dataclass
class _Descriptor:
    name: str
    dtype: np.dtype
    shape: Tuple[int, ...]
    size: int
    stored: int
    kind: int
    value: int
    encoding: int
    crc: int

    @property
    def width(self) -> int:
        """Bytes of an element as it is encoded."""
        return 2 if self.encoding & 4 else self.dtype.itemsize


def _descriptor(d: bytes) -> _Descriptor:
    name, code, rank, kind, encoding, crc = struct.unpack("<64sBBBBI", d[:72])
    dim = struct.unpack("<8I", d[72:104])
    size, stored, value = struct.unpack("<QQQ", d[104:])
    if not re.fullmatch(rb"[a-z][a-z0-9_]{0,62}\0+", name):
        raise Error("corrupt: a tensor's name")
    text = name.rstrip(b"\0").decode()
    if code not in DTYPES or rank > 8 or kind not in (1, 2):
        raise Error(f"unsupported: dtype, rank or check of '{text}'")
    if encoding not in (0, 1, 3, 5, 7) or (not encoding and (crc or stored)):
        raise Error(f"unsupported: encoding of '{text}'")
    shape = dim[:rank]
    if any(dim[rank:]) or not all(1 <= n <= 1 << 24 for n in shape):
        raise Error(f"corrupt: dimensions of '{text}'")
    made = _Descriptor(text, DTYPES[code], shape, size, stored if encoding else size, kind, value, encoding, crc)
    if size != math.prod(shape) * made.dtype.itemsize or (encoding and not 0 < stored < size):
        raise Error(f"corrupt: length of '{text}'")
    if (encoding & 4 and code != 6) or (encoding & 2 and made.width < 2):
        raise Error(f"corrupt: encoding of '{text}'")
    return made


def _mark(record: Record) -> None:
    if record.is_mark and record.meta["mark"] != "epoch":
        raise Error("unsupported: a mark of an unknown kind")
    if record.is_mark and (record.tensors or not {"epoch", "index", "epochs"} <= record.meta.keys()):
        raise Error("corrupt: mark")


def _decoded(d: _Descriptor, stored: np.ndarray) -> np.ndarray:
    if zlib.crc32(stored) != d.crc:
        raise Error(f"corrupt: what is stored of '{d.name}'")
    if _zstd is None:
        raise Error(f"unsupported: '{d.name}' is packed, and there is no libzstd (pack -d unpacks)")
    wanted, at = d.size // d.dtype.itemsize * d.width, stored.ctypes.data
    if _zstd.ZSTD_getFrameContentSize(at, stored.nbytes) != wanted or _zstd.ZSTD_findFrameCompressedSize(at, stored.nbytes) != stored.nbytes:
        raise Error(f"corrupt: no frame of the size of '{d.name}'")
    out = np.empty(wanted, np.uint8)
    if _zstd.ZSTD_decompress(out.ctypes.data, wanted, at, stored.nbytes) != wanted:
        raise Error(f"corrupt: frame of '{d.name}'")
    if d.encoding & 2:
        out = np.ascontiguousarray(out.reshape(d.width, -1).T).reshape(-1)
    return out.view("<f2").astype("<f4").view(np.uint8) if d.encoding & 4 else out


class Reader:
    """Iterates over the records of a binary file, to the stream's end; `header` is that of the segment that was reached.

    Only with verify=False are payloads taken unchecked: for files that were read whole before.
    """

    def __init__(self, source: BinaryIO, verify: bool = True) -> None:
        self.source, self.verify = source, verify
        self.header: Header = []
        self.segment = self.count = 0
        self._inside = self._owed = False
        self._ordinal = 0

    def _read(self, n: int, what: str) -> np.ndarray:
        data, at = np.empty(n, np.uint8), 0
        view = memoryview(data)
        while at < n:
            got = self.source.readinto(view[at:])  # type: ignore[attr-defined]
            if not got:
                raise Error(f"cut: {what}")
            at += got
        return data

    def _fixed(self) -> Optional[bytes]:
        first = b""
        while len(first) < 64:
            more = self.source.read(64 - len(first))
            if not more:
                break
            first += more
        if not first and not self._inside and not self._owed and self.segment:
            return None
        if first[:8] != MAGIC[:len(first)] and not self.segment:
            raise Error("foreign: not a tensor stream")
        if len(first) < 64 and first[:8] == MAGIC[:len(first)]:
            raise Error("cut: ended before the end record" if first or self.segment else "cut: empty")
        if first[:8] != MAGIC:
            raise Error("corrupt: no record where one begins")
        if struct.unpack("<I", first[60:])[0] != zlib.crc32(first[:60]):
            raise Error("corrupt: fixed part")
        return first

    def _payloads(self, body: np.ndarray, at: int, descriptors: List[_Descriptor]) -> Dict[str, np.ndarray]:
        made: Dict[str, np.ndarray] = {}
        for d in descriptors:
            data = body[at:at + d.stored]
            if body[at + d.stored:at + _padded(d.stored)].any():
                raise Error(f"corrupt: padding of '{d.name}'")
            if d.encoding:
                data = _decoded(d, data)
            if self.verify and _check(d.kind, data) != d.value:
                raise Error(f"corrupt: check of '{d.name}'")
            made[d.name] = data.view(d.dtype).reshape(d.shape)
            at += _padded(d.stored)
        return made

    def __iter__(self) -> Iterator[Record]:
        while True:
            first = self._fixed()
            if first is None:
                return
            version, kind, zero, meta, tensors, crc, rest, count = struct.unpack("<HcBIIIQQ", first[8:40])
            if version != 1:
                raise Error("corrupt: version 0" if not version else "unsupported: a newer version of the format")
            if kind not in MAX_META:
                raise Error("corrupt: kind of record")
            if zero or any(first[40:60]):
                raise Error("unsupported: reserved bytes")
            text_end = _padded(meta)
            front = text_end + 128 * tensors
            if meta > MAX_META[kind] or tensors > (64 if kind == b"R" else 0) or rest % 64 or front > rest or rest + 64 > 1 << 30:
                raise Error("corrupt: lengths of a record")
            head = self._read(front, "in metadata")
            if zlib.crc32(head) != crc or head[meta:text_end].any():
                raise Error("corrupt: metadata or descriptors")
            pairs = _lines(head[:meta].tobytes(), kind)
            descriptors = [_descriptor(head[i:i + 128].tobytes()) for i in range(text_end, front, 128)]
            if len({d.name for d in descriptors}) < tensors or sum(_padded(d.size) for d in descriptors) > 1 << 30:
                raise Error("corrupt: a tensor's name twice, or too large")
            if rest - front != sum(_padded(d.stored) for d in descriptors):
                raise Error("corrupt: lengths of payloads")
            body = self._read(rest - front, "in a payload")
            if kind == b"H":
                if self._inside or count:
                    raise Error("corrupt: a header within a segment")
                self.header, self.segment = pairs, self.segment + 1
                self._inside, self._owed, self._ordinal = True, False, 0
                continue
            if not self._inside or count != self._ordinal:
                raise Error("corrupt: a record is lost, doubled, or without a header")
            if kind != b"R":
                self._inside, self._owed = False, kind == b"M"
                continue
            record = Record(dict(pairs), self._payloads(body, 0, descriptors), self.header, self.segment)
            _mark(record)
            self._ordinal += 1
            self.count += 1
            yield record


class Writer:
    """Writes records to a binary file. The stream has its end record when the `with` is left without an exception, and only then.

    The header is the program's own, or that of a Reader, segment by segment; then `step`, what the program does and with which options,
    becomes the last line of its history and goes into its digest.
    """

    def __init__(self, sink: BinaryIO, header: Union[Header, Dict[str, str], Reader], step: Optional[str] = None) -> None:
        self.sink, self.step = sink, step
        self._source = header if isinstance(header, Reader) else None
        self._header: Header = [] if isinstance(header, Reader) else list(header.items() if isinstance(header, dict) else header)
        self._segment: Optional[int] = None
        self._ordinal = 0

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()

    def _put(self, kind: bytes, pairs: Header, count: int, front: bytes = b"", tensors: int = 0, payloads: Tuple[np.ndarray, ...] = ()) -> None:
        text = "".join(f"{k}={v}\n" for k, v in pairs).encode()
        _lines(text, kind)
        if len(text) > MAX_META[kind] or len(text.splitlines()) != len(pairs):
            raise Error("metadata is too long, or has line ends in a value")
        front = text + bytes(-len(text) % 64) + front
        rest = len(front) + sum(_padded(p.nbytes) for p in payloads)
        if rest + 64 > 1 << 30:
            raise Error("a record of more than 1 GiB")
        fixed = MAGIC + struct.pack("<HcxIIIQQ20x", 1, kind, len(text), tensors, zlib.crc32(front), rest, count)
        self.sink.write(fixed + struct.pack("<I", zlib.crc32(fixed)) + front)
        for p in payloads:
            self.sink.write(p.data)
            self.sink.write(bytes(-p.nbytes % 64))

    def _begin(self, header: Header, segment: int) -> None:
        if self._segment is not None:
            self._put(b"M", [], self._ordinal)
        if self._source and self.step:
            header = [(k, self._signed(v) if k == "digest" else v) for k, v in header] + [("history", self.step)]
        self._put(b"H", header, 0)
        self._segment, self._ordinal = segment, 0

    def write(self, record: Record) -> None:
        _mark(record)
        if len(record.tensors) > 64:
            raise Error(f"a record of {len(record.tensors)} tensors (wanted at most 64)")
        if self._segment is None or (self._source and record.segment > self._segment):
            self._begin(record.header if self._source else self._header, record.segment)
        front, payloads = b"", []
        for name, array in record.tensors.items():
            a = np.asarray(array, order="C")
            is_bf16 = (a.dtype.metadata or {}).get("gliopipe") == "bf16"
            dtype = a.dtype.newbyteorder("<")
            if not re.fullmatch("[a-z][a-z0-9_]{0,62}", name) or a.ndim > 8 or not all(1 <= n <= 1 << 24 for n in a.shape) or not (is_bf16 or dtype in CODES):
                raise Error(f"tensor '{name}': name, shape or dtype {a.dtype} that no stream has")
            data = np.ascontiguousarray(a.astype(dtype, copy=False)).reshape(-1).view(np.uint8)
            kind = 1 if _xxhash else 2
            front += struct.pack("<64sBBBB4x8IQ8xQ", name.encode(), 5 if is_bf16 else CODES[dtype], a.ndim, kind, 0,
                                 *a.shape, *[0] * (8 - a.ndim), data.nbytes, _check(kind, data))
            payloads.append(data)
        self._put(b"R", list(record.meta.items()), self._ordinal, front, len(payloads), tuple(payloads))
        self._ordinal += 1

    def _signed(self, digest: str) -> str:
        return f"{_check(1, np.frombuffer(f'{digest}{chr(10)}{self.step}'.encode(), np.uint8)):016x}"

    def close(self) -> None:
        """The end record."""
        if self._segment is None:
            self._begin(self._source.header if self._source else self._header, 1)
        self._put(b"E", [], self._ordinal)
        self.sink.flush()
