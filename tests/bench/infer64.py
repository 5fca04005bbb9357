#!/usr/bin/python3
"""Inference at full width beside every runtime: in float32 at most 0.45 of ONNX Runtime, 0.30 of PyTorch, 0.60 of OpenVINO; the
fastest of ours at most 0.60 of the fastest of all, in whatever precision."""
from peers import bench, engine

bench.run("infer64", lambda name: engine.infer(name, 64, {"ONNX Runtime": 0.45, "PyTorch": 0.30, "OpenVINO": 0.60,
                                                             engine.ANY: 0.60}))
