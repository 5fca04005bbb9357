#!/usr/bin/python3
"""Dice + cross-entropy with light intensity augmentation, 12 epochs: Dice within 0.01 of PyTorch's, in 0.30 of its time."""
from peers import accuracy, bench

bench.run("accuracy16", lambda name: accuracy.compare(name, "light", 12, 0.30))
