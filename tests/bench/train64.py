#!/usr/bin/python3
"""A training step at full width: at most 0.40 of PyTorch in float32, under the better of two settings of malloc; the fastest of
ours at most 0.55 of its fastest, in whatever precision and layout."""
from peers import bench, engine

bench.run("train64", lambda name: engine.train(name, 64, 4, 240, 240, {"PyTorch": 0.40, engine.ANY: 0.55}, 1))
