#!/usr/bin/python3
"""A 3-D network on a volume of 155 slices, a stream: at most 0.25 of PyTorch with an allocator that keeps memory."""
from peers import bench, engine

bench.run("infer3d16", lambda name: engine.volume(name, 16, 155, 192, 160, 128, {"PyTorch": 0.25, "window": 0.05}))
