#!/usr/bin/python3
"""A training step at a practical width: at most 0.30 of PyTorch."""
from peers import bench, engine

bench.run("train16", lambda name: engine.train(name, 16, 8, 160, 192, 0.30, 5))
