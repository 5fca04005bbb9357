#!/usr/bin/python3
"""A volume at a practical width: at most 3 s."""
from peers import bench, volume

bench.run("volume16", lambda name: volume.main(name, 16, 3, None))
