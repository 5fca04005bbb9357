#!/usr/bin/python3
"""A training step at a practical width: at most 0.30 of PyTorch in float32, and 0.55 of its fastest, in whatever precision."""
from peers import bench, engine

bench.run("train16", lambda name: engine.train(name, 16, 8, 160, 192, {"PyTorch": 0.30, engine.ANY: 0.55}, 5))
