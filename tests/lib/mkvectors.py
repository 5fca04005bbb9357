#!/usr/bin/env python3
"""mkvectors.py DIR: writes the vectors tns-*.hex of formats/tns.md, with right checksums around what is wrong.

Each vector is a list of records; a field of one of them is bent and the checks before it are made right again, so that
a reader meets the one fault that the name tells. tests/formats/tns.bats holds two readers to them.
"""
import struct, sys, zlib
import mkstream


def row(word, offset, what):
    return f"{word:<44} # {offset:<4} {what}\n" if word else ""


def text(s):
    """Metadata as words: a line of text in quotes, anything else in hex."""
    out = []
    for line in s.split(b"\n")[:-1] if s.endswith(b"\n") else [s]:
        end = " 0a" if s.endswith(b"\n") else ""
        plain = all(32 <= c < 127 and c != 34 for c in line)
        out.append((f'"{line.decode()}"' if plain else line.hex()) + end)
    return out


class Tensor:
    def __init__(self, name, dtype, dims, payload, check=1, **bend):
        self.name, self.dtype, self.dims, self.payload, self.check, self.bend = name, dtype, dims, payload, check, bend

    def bytes(self):
        b = self.bend
        name = b.get("name_bytes", self.name.encode().ljust(64, b"\0"))
        dims = b.get("dims", list(self.dims) + [0] * (8 - len(self.dims)))
        plain = b.get("plain", self.payload)  # the payload, where what is stored is encoded
        value = b.get("value", mkstream.check(1 if self.check == 1 else 2, plain))
        how = b.get("how", 0)
        zero5, zero8 = b.get("zero5", bytes(5)), b.get("zero8", bytes(8))
        if how:
            zero5 = bytes([how]) + struct.pack("<I", b.get("crc", zlib.crc32(self.payload)))
            zero8 = struct.pack("<Q", b.get("stored", len(self.payload)))
        fields = [
            (name, "name"), (bytes([self.dtype]), f"dtype {self.dtype}"), (bytes([b.get("rank", len(self.dims))]), "rank"),
            (bytes([self.check]), {1: "check: XXH3-64", 2: "check: CRC-32"}.get(self.check, "check")),
            *([(zero5[:1], f"encoding {how}"), (zero5[1:], "CRC-32 of what is stored")] if how else [(zero5, "reserved")]), (struct.pack("<8I", *dims), "dimensions"),
            (struct.pack("<Q", b.get("length", len(plain))), "length of the payload"), (zero8, "length of what is stored" if how else "reserved"),
            (struct.pack("<Q", value), "check of the payload"),
        ]
        words, at = "", 0
        for f, what in fields:
            if what == "name" and f.rstrip(b"\0").decode("latin1").isprintable() and f.rstrip(b"\0"):
                n = f.rstrip(b"\0").decode()
                words += row(f'"{n}" {64 - len(n)}*00', at, "name")
            elif what == "dimensions":
                words += row(" ".join(f"u32:{d}" for d in dims), at, what)
            elif what in ("length of the payload", "length of what is stored"):
                words += row(f"u64:{struct.unpack('<Q', f)[0]}", at, what)
            else:
                words += row(f.hex(), at, what)
            at += len(f)
        return b"".join(f for f, _ in fields), words


def record(kind, meta=b"", tensors=(), count=0, cut=None, **b):
    """(words, bytes) of one record; b bends a field: version, letter (the kind), meta_len, n, front_crc, rest, zero, reserved, crc, pad, tail."""
    meta = mkstream.lines(meta) if not isinstance(meta, bytes) else meta
    pad = b.get("pad", bytes(-len(meta) % 64))
    parts = [t.bytes() for t in tensors]
    front = meta + pad + b"".join(p for p, _ in parts)
    payloads = [t.payload + t.bend.get("pad", bytes(-len(t.payload) % 64)) for t in tensors]
    rest = len(front) + sum(map(len, payloads))
    f = [(b.get("magic", mkstream.MAGIC), "magic"), (struct.pack("<H", b.get("version", 1)), f"version {b.get('version', 1)}"),
         (b.get("letter", kind), "kind"), (bytes([b.get("zero", 0)]), "reserved"),
         (struct.pack("<I", b.get("meta_len", len(meta))), "length of the metadata"), (struct.pack("<I", b.get("n", len(tensors))), "number of tensors"),
         (struct.pack("<I", b.get("front_crc", zlib.crc32(front))), "CRC-32 of what follows, up to the payloads"),
         (struct.pack("<Q", b.get("rest", rest)), "length of all that follows"), (struct.pack("<Q", count), "ordinal" if kind == b"R" else "number of records" if kind in (b"E", b"M") else "0"),
         (b.get("reserved", bytes(20)), "reserved")]
    raw = b"".join(x for x, _ in f)
    f.append((struct.pack("<I", b.get("crc", zlib.crc32(raw))), "CRC-32 of bytes 0 to 59"))
    words, at = "", 0
    for x, what in f:
        word = x.hex()
        if what == "magic" and x == mkstream.MAGIC:
            word = '89 "TNS" 0d0a1a0a'
        elif what == "kind":
            word = f'"{x.decode()}"'
        elif what.startswith("length") or what in ("number of tensors", "ordinal", "number of records", "0"):
            word = f"u{8 * len(x)}:{int.from_bytes(x, 'little')}"
        elif what == "reserved" and len(x) > 1 and not any(x):
            word = f"{len(x)}*00"
        words += row(word, at, what)
        at += len(x)
    for line in b.get("meta_words") or (text(meta) if meta else []):
        words += line + "\n"
    if pad:
        words += row(f"{len(pad)}*00" if not any(pad) else pad.hex(), 64 + len(meta), "padding")
    for (_, w), t in zip(parts, tensors):
        words += f"# descriptor of {t.name}".rstrip() + "\n" + w
    for t, p in zip(tensors, payloads):
        words += f"# payload of {t.name}".rstrip() + "\n" + (t.payload.hex() + "\n" if t.payload else "")
        tail = p[len(t.payload):]
        if tail:
            words += row(f"{len(tail)}*00" if not any(tail) else tail.hex(), "", "padding")
    return "".join(w.rstrip() + "\n" for w in words.splitlines()), raw + f[-1][0] + front + b"".join(payloads)


LABEL = dict(name="label", dtype=1, dims=(2, 3), payload=bytes([0, 1, 2, 3, 0, 0]))
META = [("case", "BraTS-GLI-00005-001"), ("patient", "BraTS-GLI-00005"), ("slice", "63")]
HEADER = [("generator", "gliopipe 0.1.0"), ("history", "nii2slices -t"), ("history", "recode -s brats2023")]


def label(**b):
    keys = {k: b.pop(k) for k in ("name", "dtype", "dims", "payload", "check") if k in b}
    return Tensor(**{**LABEL, **keys, **b})


def frame(*runs, size=None):
    """A frame of zstd, by hand (RFC 8878): magic, one segment, the size in a byte, a block for each run of a byte."""
    out = b"\x28\xb5\x2f\xfd\x20" + bytes([sum(n for n, _ in runs) if size is None else size])
    for i, (n, byte) in enumerate(runs):
        out += struct.pack("<I", n << 3 | 1 << 1 | (i == len(runs) - 1))[:3] + bytes([byte])
    return out


def packed(**b):
    """64 zeros in a frame of 10 bytes."""
    b = {"name": "label", "dtype": 1, "dims": (8, 8), "payload": frame((64, 0)), "plain": bytes(64), "how": 1, **b}
    return Tensor(b.pop("name"), b.pop("dtype"), b.pop("dims"), b.pop("payload"), **b)


def head(**b):
    return record(b"H", b.pop("meta", b""), **b)


def end(n, **b):
    return record(b"E", count=n, **b)


def more(n, **b):
    return record(b"M", count=n, **b)


def one(meta=META, tensors=None, **b):
    return record(b"R", meta, [label()] if tensors is None else tensors, **b)


def whole(*middle):
    return [head(), *middle, end(len(middle))]


V = {}
V["good-empty"] = "A stream without records: a header, an end record.", whole()
V["good-one"] = "One slice with a label, and a header with its history.", [head(meta=HEADER), one(), end(1)]
V["good-crc32"] = "A payload may be checked by CRC-32, as a filter in a script does.", whole(one(tensors=[label(check=2)]))
DT = [(1, b"\x07"), (2, b"\xff\xff"), (3, b"\xfe\xff\xff\xff"), (4, b"\x00\x3c"), (5, b"\x80\x3f"), (6, struct.pack("<f", 1.5)), (7, struct.pack("<d", -0.25))]
V["good-dtypes"] = "Every dtype, and ranks from 0 to 8.", whole(one(tensors=[Tensor(f"t{c}", c, (1,) * (c if c < 7 else 8), p) for c, p in DT] + [Tensor("scalar", 6, (), struct.pack("<f", 3))]))
V["good-mark"] = "A record without tensors ends an epoch.", whole(one(), one(meta=[("mark", "epoch"), ("epoch", "0"), ("index", "1"), ("epochs", "2")], tensors=[], count=1))
MARK = [("mark", "epoch"), ("epoch", "0"), ("index", "0"), ("epochs", "1")]
V["good-segments"] = "Two streams after one another are a stream; ordinals start anew.", whole(one()) + whole(one(meta=[("case", "other")]), one(count=1))
V["good-more"] = "Two segments that one program wrote: the first says that more follows.", [head(), one(), more(1)] + whole(one())
V["good-text"] = "The longest key, an empty value, '=' and a tab in a value, UTF-8 of two to four bytes.", whole(one(meta=[("k" * 63, "1"), ("empty", ""), ("x-lab.a_b", "a=b\tc"), ("note", "Größe € 🧠")]))
V["good-64-tensors"] = "As many tensors as a record may have.", whole(one(tensors=[Tensor(f"t{i}", 1, (1,), b"\1") for i in range(64)]))

V["good-packed"] = "Payloads in each encoding; the frames are made by hand.", whole(one(tensors=[
    Tensor("image", 2, (2, 16), frame((32, 7), (32, 1)), how=3, plain=b"\7\1" * 32), packed(), packed(name="crc", check=2),
    Tensor("halves", 6, (16,), frame((16, 0), (16, 0x3c)), how=7, plain=struct.pack("<f", 1) * 16),
    Tensor("zeros", 6, (16,), frame((32, 0)), how=5, plain=bytes(64)), label(name="plain")]))

V["foreign-text"] = "Text is no tensor stream.", [('"This is not a stream. It is longer than the sixty-four bytes of a fixed part."\n', b"")]
V["foreign-mode"] = "A transfer in text mode turned the magic's 0d0a into 0a.", [head(magic=mkstream.MAGIC.replace(b"\r\n", b"\n") + b"\0")]
V["bad-record-first"] = "A stream begins with a header record.", [one(), end(1)]
V["cut-empty"] = "An empty input is a stream that somebody failed to write.", [("# no bytes at all\n", b"")]
V["cut-fixed"] = "The input ends within a fixed part.", [head(), ('89 "TNS" 0d0a1a0a 0100 "R" # and no more\n', b"")]
V["cut-metadata"] = "The input ends within the metadata.", [head(), (one()[0].split('"patient')[0], b"")]
V["cut-payload"] = "The input ends within a payload.", [head(), (one()[0].rsplit("58*00", 1)[0], b"")]
V["cut-no-end"] = "Whole records, but no end record.", [head(), one()]
V["cut-second-segment"] = "The second segment has no end record.", whole(one()) + [head(), one()]

V["cut-more"] = "The segment that was to follow is missing.", [head(), one(), more(1)]
V["cut-more-magic"] = "Of the segment that was to follow the magic came, and no more.", [head(), one(), more(1), ('89 "TNS" 0d0a1a0a # and no more\n', b"")]
V["cut-promise"] = "A program that failed wrote the magic before it looked at its input, after another's whole stream.", whole(one()) + [('89 "TNS" 0d0a1a0a # and no more\n', b"")]

V["bad-fixed-check"] = "A flipped bit makes the version 3: corrupt, not the future.", [head(version=3, crc=int.from_bytes(head()[1][60:64], "little"))]
V["bad-version-0"] = "There is no version 0.", [head(version=0)]
V["bad-kind"] = "There is no kind X.", whole(one(letter=b"X"))
V["bad-front-check"] = "The metadata were changed, their check was not.", whole(one(front_crc=1))
V["bad-meta-length"] = "More metadata than a record may have.", whole(one(meta_len=65537))
V["bad-meta-length-header"] = "More metadata than a header may have.", [head(meta_len=1048577), end(0)]
V["bad-meta-in-end"] = "An end record has no metadata.", [head(), end(0, meta=[("a", "1")])]
V["bad-tensors-65"] = "More tensors than a record may have.", whole(one(n=65))
V["bad-tensors-in-header"] = "A header has no tensors.", [head(tensors=[label()]), end(0)]
V["bad-length-short"] = "The record's length is less than its parts.", whole(one(rest=128))
V["bad-length-long"] = "The record's length is more than its parts.", whole(one(rest=64 + 64 + 128 + 128))
V["bad-length-odd"] = "The record's length is no multiple of 64.", whole(one(rest=64 + 64 + 128 + 63))
V["bad-length-absurd"] = "The record claims 2^63 bytes.", whole(one(rest=1 << 63))
V["bad-ordinal"] = "A record is missing: the first has ordinal 1.", [head(), one(count=1), end(1)]
V["bad-end-count"] = "A record is missing: the end record counts two.", [head(), one(), end(2)]
V["bad-end-count-small"] = "A record is too much: the end record counts none.", [head(), one(), end(0)]
V["bad-more-count"] = "A record is missing before the next segment.", [head(), one(), more(2)] + whole(one())
V["bad-record-after-more"] = "No header begins the segment that was to follow.", [head(), one(), more(1), one(), end(1)]
V["bad-meta-in-more"] = "A record that ends a segment has no metadata.", [head(), more(0, meta=[("a", "1")])] + whole()
V["bad-mark-tensors"] = "A record that ends an epoch has no tensors.", whole(one(meta=MARK))
V["bad-mark-keys"] = "A record that ends an epoch says which.", whole(one(meta=MARK[:1] + MARK[2:], tensors=[]))
V["bad-header-count"] = "The count of a header is 0.", [head(count=1), end(0)]
V["bad-padding-metadata"] = "Padding of the metadata is not zero.", whole(one(pad=bytes(-len(mkstream.lines(META)) % 64 - 1) + b"\1"))
V["bad-padding-payload"] = "Padding of a payload is not zero.", whole(one(tensors=[label(pad=bytes(57) + b"\1")]))
V["bad-after-end"] = "Something other than a header follows the end record.", whole(one()) + [('"trailing text, which no record starts with, of some length......."\n', b"")]
V["bad-record-after-end"] = "A record outside any segment.", whole(one()) + [one(), end(1)]
V["bad-header-inside"] = "A header inside a segment.", [head(), head(), end(0)]
for name, what, meta in [
    ("key-twice", "A key stands twice.", b"case=a\nslice=1\ncase=b\n"),
    ("key-upper", "A key has an upper-case letter.", b"Case=a\n"),
    ("key-digit", "A key begins with a digit.", b"1st=a\n"),
    ("key-empty", "A line without a key.", b"=a\n"),
    ("key-long", "A key of 64 characters.", b"k" * 64 + b"=a\n"),
    ("no-equals", "A line without '='.", b"case\n"),
    ("no-line-feed", "The last line is not ended.", b"case=a"),
    ("value-return", "A carriage return in a value.", b"case=a\r\n"),
    ("key-nul", "A NUL in a key.", b"ca\0se=a\n"),
    ("value-nul", "A NUL in a value.", b"case=a\0b\n"),
    ("utf8-alone", "A continuation byte alone.", b"case=\x80\n"),
    ("utf8-overlong", "An overlong form of '/'.", b"case=\xc0\xaf\n"),
    ("utf8-surrogate", "A surrogate.", b"case=\xed\xa0\x80\n"),
    ("utf8-beyond", "A code point above U+10FFFF.", b"case=\xf4\x90\x80\x80\n"),
    ("utf8-cut", "A character that the line feed cuts.", b"case=\xe2\x82\n"),
]:
    V["bad-" + name] = what, whole(one(meta=meta))
V["bad-generator-twice"] = "In a header, too, only history may repeat.", [head(meta=[("generator", "a"), ("generator", "b")]), end(0)]
V["bad-lines"] = "More lines than a record may have.", [head(meta=b"history=\n" * 4097, meta_words=["4097*686973746f72793d0a  # history="]), end(0)]
V["bad-value-long"] = "A value of 32,769 bytes.", whole(one(meta=b"a=" + b"x" * 32769 + b"\n", meta_words=['"a=" 32769*78 0a']))
V["bad-name-twice"] = "Two tensors of one name.", whole(one(tensors=[label(), label()]))
V["bad-name-empty"] = "A tensor without a name.", whole(one(tensors=[label(name="")]))
V["bad-name-upper"] = "A tensor's name has an upper-case letter.", whole(one(tensors=[label(name="Label")]))
V["bad-name-dash"] = "A tensor's name has a dash, which keys may have and names may not.", whole(one(tensors=[label(name="la-bel")]))
V["bad-name-tail"] = "Something stands behind the NUL of a name.", whole(one(tensors=[label(name_bytes=b"label\0x" + bytes(57))]))
V["bad-name-full"] = "A name of 64 characters.", whole(one(tensors=[label(name="n" * 64)]))
V["bad-dimension-0"] = "A dimension is 0.", whole(one(tensors=[label(dims=[2, 0], payload=b"")]))
V["bad-dimension-beyond-rank"] = "A dimension beyond the rank is not 0.", whole(one(tensors=[label(rank=1, dims=[6, 1, 0, 0, 0, 0, 0, 0])]))
V["bad-dimension-large"] = "A dimension above 2^24.", whole(one(tensors=[label(dims=[16777217, 0, 0, 0, 0, 0, 0, 0], rank=1, length=16777217)]))
V["bad-dimensions-wrap"] = "The product of the dimensions is 2^64 + 0: it wraps to 0.", whole(one(tensors=[label(dims=[1 << 16, 1 << 16, 1 << 16, 1 << 16, 0, 0, 0, 0], rank=4, length=0, payload=b"")]))
V["bad-payload-length"] = "The length of a payload is not its dimensions'.", whole(one(tensors=[label(length=7)]))
V["bad-payload-check"] = "The XXH3 of a payload does not match.", whole(one(tensors=[label(value=1)]))
V["bad-payload-crc"] = "The CRC-32 of a payload does not match.", whole(one(tensors=[label(check=2, value=1)]))
V["bad-payload-crc-upper"] = "The upper half of a CRC-32 is not 0.", whole(one(tensors=[label(check=2, value=(1 << 32) | zlib.crc32(LABEL["payload"]))]))

for name, what, t in [
    ("check", "The CRC-32 of what is stored does not match.", packed(crc=1)),
    ("payload-check", "The check of the payload does not match what is unpacked.", packed(value=1)),
    ("larger", "The frame makes 96 bytes of a payload of 64.", packed(payload=frame((96, 0)))),
    ("bomb", "The frame says that it makes 64 bytes, and makes more.", packed(payload=frame((96, 0), size=64))),
    ("smaller", "The frame makes 32 bytes of a payload of 64.", packed(payload=frame((32, 0)))),
    ("frame-cut", "The frame ends within its block.", packed(payload=frame((64, 0))[:-1])),
    ("frame-none", "What is stored is no frame.", packed(payload=b"not a frame")),
    ("frames", "Two frames.", packed(payload=frame((32, 0)) + frame((32, 0)))),
    ("behind", "Something stands behind the frame.", packed(payload=frame((64, 0)) + b"\0")),
    ("stored-none", "A stored length of 0.", packed(payload=b"")),
    ("stored-long", "A stored length that is not less than the payload's.", packed(payload=frame((64, 0)).ljust(64, b"\0"))),
    ("planes", "Planes of bytes, whose elements have no second byte.", packed(how=3)),
    ("halves", "Halves, and the dtype is i32.", packed(dtype=3, dims=(16,), payload=frame((32, 0)), how=5)),
    ("padding", "Padding of what is stored is not zero.", packed(pad=bytes(53) + b"\1")),
]:
    V["bad-packed-" + name] = what, whole(one(tensors=[t]))
V["bad-packed-record"] = "What is stored is a few bytes, and more than 1 GiB when unpacked.", whole(one(tensors=[packed(name=f"t{i}", dims=(1 << 14, 1 << 14), length=1 << 28) for i in range(4)]))
V["cut-packed"] = "The input ends within a payload that is encoded.", [head(), (one(tensors=[packed()])[0].rsplit("54*00", 1)[0], b"")]

V["unsupported-version"] = "Version 2, with a right check.", [head(version=2)]
V["unsupported-reserved-11"] = "Reserved byte 11 of the fixed part.", [head(zero=1), end(0)]
V["unsupported-reserved-40"] = "Reserved bytes 40 to 59 of the fixed part.", [head(reserved=bytes(19) + b"\1"), end(0)]
V["unsupported-mark"] = "A mark that came later.", whole(one(meta=[("mark", "foo")] + MARK[1:], tensors=[]))
V["unsupported-mark-tensors"] = "A slice is no mark: what this one means, nobody knows.", whole(one(meta=META + [("mark", "foo")]))
V["unsupported-dtype-0"] = "There is no dtype 0.", whole(one(tensors=[label(dtype=0)]))
V["unsupported-dtype-8"] = "A dtype that came later.", whole(one(tensors=[label(dtype=8)]))
V["unsupported-rank-9"] = "Nine dimensions.", whole(one(tensors=[label(rank=9)]))
V["unsupported-check-0"] = "A payload without a check.", whole(one(tensors=[label(check=0)]))
V["unsupported-check-3"] = "A check that came later.", whole(one(tensors=[label(check=3)]))
V["unsupported-encoding-2"] = "An encoding without zstd.", whole(one(tensors=[packed(how=2)]))
V["unsupported-encoding-9"] = "An encoding that came later.", whole(one(tensors=[packed(how=9)]))
V["unsupported-reserved-67"] = "Reserved bytes 67 to 71 of a descriptor.", whole(one(tensors=[label(zero5=b"\0\0\0\0\1")]))
V["unsupported-reserved-112"] = "Reserved bytes 112 to 119 of a descriptor.", whole(one(tensors=[label(zero8=b"\1" + bytes(7))]))

if __name__ == "__main__":
    for name, (what, records) in V.items():
        with open(f"{sys.argv[1]}/tns-{name}.hex", "w") as f:
            f.write(f"# {what}\n" + "".join(f"\n# --- record {i}\n{w}" if b else w for i, (w, b) in enumerate(records)))
    with open(f"{sys.argv[1]}/README.md", "w") as f:
        f.write("""# Vectors

Annotated hex, one file for each rule. `tests/lib/hex2bin` makes bytes of them; its head tells the words. The name tells what a reader
has to do: `good` is read, `bad` is refused as corrupt, `foreign` as not ours, `cut` as cut off, `unsupported` as newer than the reader.

`st-*` belong to `safetensors.md` and say on their first line what they are about. `tns-*` belong to `tns.md`; `tests/lib/mkvectors.py`
writes them and this page, with right checksums around what is wrong.

| vector | |
|---|---|
""" + "".join(f"| `tns-{n}` | {w} |\n" for n, (w, _) in V.items()))
