#!/usr/bin/env python3
"""A stream of many patients: many.py PATIENTS LENGTH FIRST [HEADER [SCANS]] >STREAM

A slice of 16x16 of each, with a name of LENGTH letters and fingerprints of its own, numbered from FIRST; HEADER bytes of
keys that nobody knows in the header. SCANS: as one pass of epochs, with that key in the header, or with none that says who is to come if it is "untold".
"""
import sys
from mkstream import stream, study

n, length, first = map(int, sys.argv[1:4])
header = int(sys.argv[4]) if len(sys.argv) > 4 else 0
told = sys.argv[5] if len(sys.argv) > 5 else ""
meta, tensors = next(iter(study(slices=1, h=16, w=16, extra=0, kind=1, scheme="canonical")))
channels = meta["modalities"].count(",") + 1


def one(i):
    name = str(first + i).rjust(length, "p")
    prints = ",".join(f"{(first + i) * channels + k + 1:016x}" for k in range(channels))
    of_pass = {"epoch": 0, "index": i, "epochs": 1, "length": n, "largest": "16 16"} if told else {}
    return {**meta, "case": name, "patient": name, "fingerprint": prints, **of_pass}, tensors


records = [one(i) for i in range(n)]
if told:
    records.append(({"mark": "epoch", "epoch": 0, "index": n, "epochs": 1}, {}))
head = {"history": "made", **{f"x{i}": "y" * 30000 for i in range(header // 30000)}}
if told not in ("", "untold"):
    head["scans"] = told
sys.stdout.buffer.write(stream(head, records, 1))
