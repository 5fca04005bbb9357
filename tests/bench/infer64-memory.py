#!/usr/bin/python3
"""Inference at full width with mapped weights: at most 230 MiB resident."""
from peers import bench, engine

bench.run("infer64-memory", lambda name: engine.memory(name, "infer", 64, 1, 240, 240, 230,
                                                       ("torch-infer", 64, 1, 240, 240, bench.THREADS, "nchw", "f32")))
