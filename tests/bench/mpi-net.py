#!/usr/bin/python3
"""Two processes of one thread that train together on two hosts, which are network namespaces with a link of 10 Gbit/s or 1 Gbit/s between them
(root; ip and tc of iproute2), beside two on one host and one of two threads: how fast, and how much of what the link takes is hidden behind the work.
A step must be no slower than the work and the link one after the other. WIDTHS and LINKS (with commas) name some of them alone."""
import os
import subprocess

from peers import bench, stream

TRAIN = f"{bench.ROOT}/build/release/mpi/train"
WIDTHS = {16: (64, 320), 64: (16, 48)}  # base: slices of two runs of one pass, in batches of 8
LINKS = {"no limit": None, "10 Gbit/s": ("10gbit", "1mb"), "1 Gbit/s": ("1gbit", "256kb")}
# Settings, and of each number of the model the bytes that a process sends for a batch: half a gradient and half the parameters, in steps alone.
WAYS = {"f32": ("", 4), "bf16 gradients": ("gradients: bf16\n", 2), "f32, a step every 4 batches": ("accumulate: 4\n", 2.5),
        "bf16, a step every 4 batches": ("gradients: bf16\naccumulate: 4\n", 2)}
NET = "10.77.0"
MCA = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_hwloc_base_binding_policy": "none", "OMP_WAIT_POLICY": "passive"}
NEAR = {"OMPI_MCA_plm": "isolated", "OMPI_MCA_btl": "^tcp"}
FAR = {"OMPI_MCA_btl": "tcp,self", "OMPI_MCA_pml": "ob1", "OMPI_MCA_btl_tcp_if_include": f"{NET}.0/24", "OMPI_MCA_oob_tcp_if_include": f"{NET}.0/24"}


def ip(*args):
    return subprocess.run(["ip", *args], stderr=subprocess.DEVNULL).returncode == 0


def hosts():
    """Two namespaces, a cable between them."""
    for n in "ab":
        ip("netns", "del", f"bench-{n}")
        if not ip("netns", "add", f"bench-{n}"):
            raise bench.Missing("network namespaces: root, and ip of iproute2")
    ip("link", "add", "benchva", "netns", "bench-a", "type", "veth", "peer", "name", "benchvb", "netns", "bench-b")
    for i, n in enumerate("ab", 1):
        ip("-n", f"bench-{n}", "addr", "add", f"{NET}.{i}/24", "dev", f"benchv{n}")
        ip("-n", f"bench-{n}", "link", "set", "lo", "up")
        if not ip("-n", f"bench-{n}", "link", "set", f"benchv{n}", "up"):
            raise bench.Missing("network namespaces: no veth")
    # mpirun begins what is to run on the other host through this, in the place of ssh.
    with open(f"{bench.SCRATCH}/agent", "w", encoding="ascii") as f:
        f.write('#!/bin/sh\nshift\nexec ip netns exec bench-b unshare -u sh -c "hostname bench-b; exec $*"\n')
    os.chmod(f"{bench.SCRATCH}/agent", 0o755)


def shape(limit):
    for n in "ab":
        tc = ["ip", "netns", "exec", f"bench-{n}", "tc", "qdisc"]
        subprocess.run([*tc, "del", "dev", f"benchv{n}", "root"], stderr=subprocess.DEVNULL)
        if limit and subprocess.call([*tc, "add", "dev", f"benchv{n}", "root", "tbf", "rate", limit[0], "burst", limit[1], "latency", "20ms"]):
            raise bench.Missing("tc: no tbf")


def seconds(base, way, launch, threads, data, env):
    """Of a slice: what a longer run takes more than a shorter one, so that begin, checkpoint and end count for nothing."""
    model, took = f"{bench.SCRATCH}/net.safetensors", []
    with open(f"{bench.SCRATCH}/net.yaml", "w", encoding="ascii") as f:
        f.write(f"arch: unet\nbase: {base}\nbatch: 8\ngroups: {1 if threads > 1 else 2}\ncheckpoint: 0\n{WAYS[way][0]}")
    stream.ENV.update(env)
    for length in WIDTHS[base]:
        for old in ("", ".tsv", ".last", ".previous"):
            if os.path.exists(model + old):
                os.remove(model + old)
        pipe = f"epochs -b 0 -n 1 -l {length} -r mpi -B 8 '{data}' | {TRAIN} -j {threads} -c '{bench.SCRATCH}/net.yaml' -o '{model}' 2>'{bench.SCRATCH}'/net.err"
        with open(f"{bench.SCRATCH}/net.sh", "w", encoding="ascii") as f:
            f.write(f"cd '{bench.ROOT}'; export PATH={bench.ROOT}/bin:$PATH OMP_WAIT_POLICY=passive; {pipe}")
        took.append(stream.seconds(f"{launch} sh '{bench.SCRATCH}/net.sh'"))
    for name in env:
        stream.ENV.pop(name)
    return (took[1] - took[0]) / (WIDTHS[base][1] - WIDTHS[base][0])


def link_rate():
    """MiB/s that a plain connection between the hosts brings, sent by a process of one to one of the other."""
    code = ("import socket, sys\ns = socket.create_server(('%s.2', 7777))\nprint(flush=True)\nc = s.accept()[0]\n"
            "while c.recv(1 << 20): pass" % NET)
    far = subprocess.Popen(["ip", "netns", "exec", "bench-b", bench.DEBIAN, "-c", code], stdout=subprocess.PIPE)
    far.stdout.readline()
    code = ("import socket, time\nc = socket.create_connection(('%s.2', 7777))\nb = bytes(1 << 20)\nt = time.time()\nn = 0\n"
            "while time.time() < t + 1: c.sendall(b); n += 1\nprint(n / (time.time() - t))" % NET)
    rate = float(subprocess.check_output(["ip", "netns", "exec", "bench-a", bench.DEBIAN, "-c", code]))
    far.wait()
    return rate


def main(name):
    os.makedirs(bench.SCRATCH, exist_ok=True)
    stream.tools("epochs", "phantom")
    if not os.path.exists(TRAIN):
        raise bench.Missing("ours: build/release/mpi/train is not built (Debian: libopenmpi-dev openmpi-bin)")
    where = f"{bench.SCRATCH}/mpi-cases"
    data = stream.stored("mpi.tns", f"rm -rf '{where}' && phantom -n 4 -s 1 -o '{where}' && nii2slices '{where}'/*/ | "
                                    f"recode -s brats2017 | znorm | crop -s 192x160")
    hosts()
    far = (f"ip netns exec bench-a unshare -u sh -c 'hostname bench-a; exec \"$@\"' sh mpirun --mca plm_rsh_agent '{bench.SCRATCH}/agent' "
           f"-n 2 --host {NET}.1:1,{NET}.2:1")
    held = []
    widths = [int(b) for b in os.environ.get("WIDTHS", "16 64").split()]
    links = os.environ.get("LINKS", ",".join(LINKS)).split(",")
    for base in widths:
        one = seconds(base, "f32", "", 2, data, MCA)
        near = seconds(base, "f32", "mpirun -n 2", 1, data, {**MCA, **NEAR})
        bench.say(f"{name}: base {base}, batch 8 of 192x160; seconds a slice, of the speed of one process of two threads")
        bench.say(f"  {'one process of two threads':54s} {one:9.4g}")
        bench.say(f"  {'two of one thread, one host':54s} {near:9.4g}  {one / near:5.2f}")
        found = {}  # without a limit
        for link in links:
            shape(LINKS[link])
            rate = link_rate()
            bench.say(f"  two hosts, {link}: {rate:.0f} MiB/s")
            for way in WAYS:
                took = seconds(base, way, far, 1, data, {**MCA, **FAR})
                mib = os.path.getsize(f"{bench.SCRATCH}/net.safetensors") / 4 * WAYS[way][1] / 2**20
                on_link = mib / rate / 8  # of a slice
                hidden = ""
                if not LINKS[link]:
                    found[way] = took
                elif way in found:
                    free = found[way]
                    hidden = f", {max(0, min(1, 1 - (took - free) / on_link)):4.0%} hidden"
                    held.append((took, free + on_link, took / (free + on_link), 1.15))
                bench.say(f"    {way:52s} {took:9.4g}  {one / took:5.2f}  {mib:6.1f} MiB a batch, {on_link:.4f} s of a slice on the link{hidden}")
    for n in "ab":
        ip("netns", "del", f"bench-{n}")
    return bench.verdict(name, held)


bench.run("mpi-net", main)
