#!/usr/bin/python3
"""Inference at full width, both sides held to AVX2: ahead of PyTorch."""
from peers import bench, engine

bench.run("infer64-avx2", lambda name: engine.infer(name, 64, {"PyTorch": 1.0}, engine.AVX2_PEER, engine.AVX2_OURS))
