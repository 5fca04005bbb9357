#!/usr/bin/env python3
"""A tool on one stream, damaged in many ways: damage.py cut|flip|grow STREAM filter|reader|file TOOL [ARG]...

Prints a line for each time that the tool did anything else than fail with status 1, say so in its own
name (in one line where a bit is flipped, that it is cut where it is) and write no end record. `file`
tools take the damaged stream as last operand, the others as standard input. It is a file, since in a
file tools hop over what they do not need.

With `grow` the stream is sound, and has two segments: instead the output may not grow past a place where one ends, and
what there is then, like all that the whole output begins with, is to be cut for a reader."""
import os, re, resource, subprocess, sys
import mkstream

FLIPS = 3, 9, 20, 40, 61, 70, 64 + 64 + 5, 64 + 64 + 70, 1400, 2000, 8000


def cuts(b):
    """All ends of parts of the first record and of the last ones; and a byte before."""
    ends = sorted({e for *_, ends in mkstream.parse(b) for e in ends})
    near = [e for e in ends if e < 10000 or e > len(b) - 3000]
    return [n for e in near for n in (e - 1, e) if n < len(b)]


# Of a run that is to fail nobody asks what it left unfreed, and looking for that is half the time of a sanitized tool.
os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"


def run(kind, argv, data):
    open("damaged", "wb").write(data)
    with open("damaged" if kind != "file" else os.devnull, "rb") as f:
        return subprocess.run(argv + ["damaged"] * (kind == "file"), stdin=f, capture_output=True)


def is_cut(b):
    try:
        list(mkstream.parse(b))
    except mkstream.Bad as e:
        return str(e).startswith("cut")
    return False


def grow(argv, stream):
    whole = subprocess.run(argv, stdin=open(stream, "rb"), capture_output=True).stdout
    ends = [at + 64 for kind, at, *_ in mkstream.parse(whole) if kind in "EM"]
    if len(ends) != 2 or ends[1] != len(whole):
        print(f"{argv[0]}: ends at {ends}, of {len(whole)} bytes")
    for at in ends[0], ends[0] + 8, ends[0] + 64:
        with open("grown", "w+b") as out:
            r = subprocess.run(argv, stdin=open(stream, "rb"), stdout=out, stderr=subprocess.PIPE,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (at, at)))
        reader = subprocess.run(["tnsview", "-c"], stdin=open("grown", "rb"), capture_output=True)
        b = open("grown", "rb").read()
        if r.returncode != 1 or b"File too large" not in r.stderr or b != whole[:at]:
            print(f"{argv[0]}, {at} bytes: exit status {r.returncode}, wrote {len(b)}, says {r.stderr}")
        if not is_cut(b) or reader.returncode != 1 or not re.search(rb": (cut|ended before)", reader.stderr):
            print(f"{argv[0]}, {at} bytes: a whole stream for {reader}")
    for at in range(0, len(whole), 64):
        if not is_cut(whole[:at]):
            print(f"{argv[0]}: the first {at} bytes of {len(whole)} are a whole stream")


def main(what, stream, kind, *argv):
    if what == "grow":
        return grow(list(argv), stream)
    argv, b, tried = list(argv), open(stream, "rb").read(), 0
    tool = argv[0].encode()
    said = rb"^%s:.*(cut|ended before|empty)" % tool if what == "cut" else rb"^%s: .*\n\Z" % tool
    for at in cuts(b) if what == "cut" else FLIPS:
        r = run(kind, argv, b[:at] if what == "cut" else b[:at] + bytes([b[at] ^ 4]) + b[at + 1:])
        place, tried = f"{argv[0]}, byte {at} of {len(b)}", tried + 1
        if r.returncode != 1:
            print(f"{place}: exit status {r.returncode}")
        if not re.search(said, r.stderr) or (what == "flip" and r.stderr.count(b"\n") != 1):
            print(f"{place}: says {r.stderr.decode(errors='replace')}")
        if r.stdout[-64:].startswith(mkstream.MAGIC + b"\1\0E"):
            print(f"{place}: wrote an end record")
    if tried < 11:
        print(f"{argv[0]}: tried only {tried} times")


main(*sys.argv[1:])
