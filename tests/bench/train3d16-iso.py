#!/usr/bin/python3
"""A training step of a 3-D network that pools along z too: at most 0.35 of PyTorch with an allocator that keeps memory."""
from peers import bench, engine

bench.run("train3d16-iso", lambda name: engine.slab(name, 16, 4, 32, 192, 160, {"PyTorch": 0.35}, 2))
