#!/usr/bin/python3
"""A training step of a 3-D network that pools in the plane: at most 0.30 of PyTorch with an allocator that keeps memory, in
float32 and in whatever precision."""
from peers import bench, engine

bench.run("train3d16", lambda name: engine.slab(name, 16, 0, 16, 192, 160, {"PyTorch": 0.30, engine.ANY: 0.30}, 2))
