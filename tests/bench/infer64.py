#!/usr/bin/python3
"""Inference at full width beside every runtime: at most 0.45 of ONNX Runtime, 0.30 of PyTorch, 0.60 of OpenVINO."""
from peers import bench, engine

bench.run("infer64", lambda name: engine.infer(name, 64, {"ONNX Runtime": 0.45, "PyTorch": 0.30, "OpenVINO": 0.60}))
