#!/usr/bin/python3
"""A training step of nnU-Net's 2-D network for 192x160: at most 0.40 of PyTorch with an allocator that keeps memory."""
from peers import bench, engine

bench.run("train-nnunet2d", lambda name: engine.train_nnunet2d(name, 32, 8, 192, 160, 0.40, 3))
