#!/usr/bin/python3
"""A training step at full width, both sides held to AVX2: ahead of PyTorch."""
from peers import bench, engine

bench.run("train64-avx2", lambda name: engine.train(name, 64, 4, 240, 240, {"PyTorch": 1.0}, 1, engine.AVX2_PEER, engine.AVX2_OURS))
