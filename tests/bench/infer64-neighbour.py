#!/usr/bin/python3
"""Inference at full width beside a process that streams through the third cache: at most 0.75 of the fastest runtime. One thread
of each on the first core, the process on the second."""
import os

os.environ["THREADS"] = "1"
from peers import bench, engine  # THREADS is read there

bench.run("infer64-neighbour", lambda name: engine.neighbour(name, 64, 0.75))
