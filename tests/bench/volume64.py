#!/usr/bin/python3
"""A volume at full width: at most 20 s and 300 MiB."""
from peers import bench, volume

bench.run("volume64", lambda name: volume.main(name, 64, 20, 300))
