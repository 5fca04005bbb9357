#!/usr/bin/python3
"""A training step at full width: at most 950 MiB resident, and it keeps a ceiling of 750."""
from peers import bench, engine

bench.run("train64-memory", lambda name: engine.memory(name, "train", 64, 4, 240, 240, 950,
                                                       ("torch-train", 64, 4, 240, 240, bench.THREADS, "nchw", "f32"), [750]))
