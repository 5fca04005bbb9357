#!/usr/bin/python3
"""A training step at full width: at most 0.40 of PyTorch under the better of two settings of malloc."""
from peers import bench, engine

bench.run("train64", lambda name: engine.train(name, 64, 4, 240, 240, 0.40, 1))
