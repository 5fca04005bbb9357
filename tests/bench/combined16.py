#!/usr/bin/python3
"""The study's combined recipe (pipelines/attempts), 8 epochs: Dice within 0.01 of PyTorch's."""
from peers import accuracy, bench

bench.run("combined16", lambda name: accuracy.compare(name, "combined", 8))
