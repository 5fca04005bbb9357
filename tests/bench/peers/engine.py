"""The engine beside PyTorch, ONNX Runtime and OpenVINO: what the benchmarks of lib/nn share.

Ours in float32 is held to the peers that compute in it. Where the processor has instructions for bfloat16 the peers that
compute in it run too, PyTorch by autocast and OpenVINO as it chooses by itself; the fastest of ours is then held to the
fastest of all.
"""
import os
import signal
import statistics
import subprocess

from peers.bench import (DEBIAN, KEEP_MEMORY, MIB, ROOT, ROUNDS, THREADS, VENV, Missing, engine, onnx_model, ratio, say, show,
                         turns, verdict, workers)

with open("/proc/cpuinfo") as cpu:
    BF16 = not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(cpu.read().split())
AVX2_PEER = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
AVX2_OURS = {"KR_ISA": "avx2"}


# At most, and one step a turn, where a peer's takes seconds: a run is to end in two minutes or so.
SLOW_ROUNDS = 3


ANY = "any precision"


def bf16(label):
    return label.endswith("bf16")


def compare(name, ours, peers, bounds, per_slice, steps, rounds=None):
    """Turns of ours and all peers. ours: precision -> function. Each family of peers (a word of its label) that compute in
    float32 is held to its own bound by its fastest member, ours being in float32; and all of them, whatever the precision, to
    that of ANY by the fastest, ours being the fastest too. bounds: family -> bound. per_slice: slices of a step, or that of a
    peer by its label."""
    per = per_slice if callable(per_slice) else lambda label: per_slice
    rows = [(f"ours, {precision}", run) for precision, run in ours.items()]
    rows += [(p.label, lambda p=p: p.turn(steps) / per(p.label)) for p in peers]
    if not peers:
        raise Missing("no peer is installed (make bench-peers)")
    took = turns(rows, rounds)
    for p in peers:
        p.close()
    for precision in ours:
        show(f"ours, {precision}", took[f"ours, {precision}"], "s a slice")
    fastest = min((f"ours, {precision}" for precision in ours), key=lambda label: statistics.median(took[label]))
    best = {}

    def hold(family, label, peer):
        r = ratio(took[label], took[peer])
        if family in bounds and (family not in best or r > best[family][2]):
            best[family] = (statistics.median(took[label]), statistics.median(took[peer]), r, bounds[family])
        return r
    for p in peers:
        any_precision = hold(ANY, fastest, p.label)
        note = f"  {fastest} takes {any_precision:.3f} of it"
        if not bf16(p.label):
            f32 = hold(next(f for f in bounds if p.label.startswith(f)), "ours, f32", p.label)
            note += f", ours, f32 {f32:.3f}" * (fastest != "ours, f32")
        show(p.label, took[p.label], "s a slice", note)
    for family, (_, _, r, bound) in best.items():
        say(f"  {family}: {r:.3f} of the fastest, wanted at most {bound:g}")
    return verdict(name, best.values())


def ours(*args, env=None):
    """Ours by precision, as compare wants it."""
    flags = {"f32": (), "bf16": ("-b",)} if BF16 and not env else {"f32": ()}
    return {precision: lambda more=more: engine(*args, *more, env=env)["seconds_per_slice"] for precision, more in flags.items()}


def torch(work, base, shape, layouts, precisions, envs, which=("Debian", "newest")):
    """PyTorch's workers: Debian's and the newest, by layout, precision and environment (name -> variables)."""
    return [(", ".join(filter(None, (f"PyTorch VERSION ({where})", layout, note, precision))), python,
             (work, base, *shape, THREADS, layout, precision), env)
            for where, python in (("Debian", DEBIAN), ("newest", VENV)) if where in which for layout in layouts
            for precision in precisions for note, env in envs.items()]


def keeping(env=None):
    return {"malloc that keeps memory": {**(env or {}), **KEEP_MEMORY}}


def infer(name, base, bounds, env_peers=None, env_ours=None, size=240):
    shape, sixteen = (1, size, size), BF16 and not env_peers
    say(f"{name}: inference, U-Net of base {base}, one {size}x{size} slice, {THREADS} threads each")
    wanted = torch("torch-infer", base, shape, ("nchw", "nhwc"), ("f32", "bf16")[:1 + sixteen], {"": env_peers})
    model = onnx_model(base, *shape)
    if model and "ONNX Runtime" in bounds:
        wanted += [("ONNX Runtime VERSION", VENV, ("onnxruntime", model, *shape, THREADS), env_peers)]
    if model and "OpenVINO" in bounds:
        wanted += [("OpenVINO VERSION", VENV, ("openvino", model, *shape, THREADS, precision), env_peers)
                   for precision in ("f32", "own")[:1 + sixteen]]
    return compare(name, ours("infer", "unet", base, *shape, "-r", 7, env=env_ours), workers(wanted), bounds, 1, 5)


def neighbour(name, base, bound, size=240):
    """Inference by one thread, alone and beside a process on another core that streams through the cache that both share."""
    cores = sorted(os.sched_getaffinity(0))
    program = f"{ROOT}/build/release/bench/neighbour"
    if len(cores) < 2 or not os.path.exists(program):
        raise Missing("a second core" if len(cores) < 2 else "build/release/bench/neighbour is not built")
    shape = (1, size, size)
    say(f"{name}: inference, U-Net of base {base}, one {size}x{size} slice, one thread each, alone and beside a process that "
        "streams through memory on another core")
    os.sched_setaffinity(0, cores[1:2])
    streaming = subprocess.Popen([program])
    os.sched_setaffinity(0, cores[:1])

    def beside(run):
        streaming.send_signal(signal.SIGCONT)
        try:
            return run()
        finally:
            streaming.send_signal(signal.SIGSTOP)
    try:
        streaming.send_signal(signal.SIGSTOP)
        mine = ours("infer", "unet", base, *shape, "-r", 5)
        model = onnx_model(base, *shape)
        precisions = ("f32", "bf16")[:1 + BF16]
        wanted = torch("torch-infer", base, shape, ("nhwc",), precisions, {"": None}, ("newest",))
        wanted += [("ONNX Runtime VERSION", VENV, ("onnxruntime", model, *shape, THREADS), None)] * bool(model)
        wanted += [("OpenVINO VERSION", VENV, ("openvino", model, *shape, THREADS, p), None)
                   for p in ("f32", "own")[:1 + BF16] if model]
        peers = workers(wanted)
        if not peers:
            raise Missing("no peer is installed (make bench-peers)")
        runs = [(f"ours, {p}", run) for p, run in mine.items()] + [(p.label, lambda p=p: p.turn(3)) for p in peers]
        took = turns([(label + where, run if not where else lambda run=run: beside(run)) for label, run in runs
                      for where in ("", ", beside")])
        for p in peers:
            p.close()
    finally:
        streaming.kill()
    fastest = min((f"ours, {p}" for p in mine), key=lambda label: statistics.median(took[label + ", beside"]))
    held = []
    for label, _ in runs:
        with_it = took[label + ", beside"]
        r = ratio(took[fastest + ", beside"], with_it)
        show(label, took[label], "s a slice")
        show(label + ", beside", with_it, "s a slice", f"  {ratio(with_it, took[label]):.2f} of alone" +
             f"; {fastest} takes {r:.3f} of it" * (not label.startswith("ours")))
        if not label.startswith("ours"):
            held.append((statistics.median(took[fastest + ", beside"]), statistics.median(with_it), r, bound))
    return verdict(name, held)


def train(name, base, n, h, w, bounds, steps, env_peers=None, env_ours=None):
    say(f"{name}: training step with Adam and the Dice loss, U-Net of base {base}, batch {n}, {h}x{w}, {THREADS} threads each")
    shape, keep = (n, h, w), keeping(env_peers)
    wanted = torch("torch-train", base, shape, ("nchw",), ("f32",), {"malloc as it is": env_peers, **keep})
    # All together they take 20 GB at base 64: of what Debian's is twice as slow in, the newest alone.
    wanted += torch("torch-train", base, shape, ("nhwc",), ("f32",), keep, ("newest",))
    if BF16 and not env_peers:
        wanted += torch("torch-train", base, shape, ("nchw", "nhwc"), ("bf16",), keep, ("newest",))
    return compare(name, ours("train", "unet", base, n, h, w, "-r", steps, env=env_ours), workers(wanted), bounds, n, steps)


def train_nnunet2d(name, base, n, h, w, bound, steps):
    say(f"{name}: training step of nnU-Net's 2-D network and recipe, base {base}, batch {n}, {h}x{w}, {THREADS} threads each")
    wanted = torch("torch-nnunet2d", base, (n, h, w), ("nchw", "nhwc"), ("f32",), keeping())
    mine = lambda: engine("train", "nnunet2d", base, n, h, w, "-s", "-r", steps)["seconds_per_slice"]
    return compare(name, {"f32": mine}, workers(wanted), {"PyTorch": bound}, n, 1, min(ROUNDS, SLOW_ROUNDS))


def slab(name, base, pool_z, d, h, w, bounds, steps):
    """A step of unet3d on one slab of d slices."""
    say(f"{name}: training step, U-Net of volumes of base {base}, {pool_z} of 4 poolings along z, {d} slices of {h}x{w}, "
        f"{THREADS} threads each")
    precisions = ("f32", "bf16")[:1 + (BF16 and ANY in bounds)]
    wanted = torch("torch-train3d", base, (pool_z, d, h, w), ("ncdhw", "ndhwc"), precisions, keeping())
    mine = ours("train", "unet3d", base, f"1x{d}", h, w, "-p", f"pool_z={pool_z}", "-r", steps)
    return compare(name, mine, workers(wanted), bounds, d, 1, min(ROUNDS, SLOW_ROUNDS))


def places(side, window):
    """Where a window of nnU-Net's sliding one begins along an axis, by steps of half of it at most."""
    return -(-(side - window) // (window // 2)) + 1 if side > window else 1


def volume(name, base, d, h, w, window, bounds):
    """unet3d on a volume of d slices, which ours takes as infer does. The newest PyTorch takes it at once; Debian's some
    slices of it, and a sliding window is timed on one of its patches, which are all alike: what all take is a product."""
    some = 16
    patches = places(d, window) * places(h, window) * places(w, window)
    say(f"{name}: inference, U-Net of volumes of base {base}, {d} slices of {h}x{w}, {THREADS} threads each; a "
        f"sliding window has {patches} patches of {window}x{window}x{window}, of which one is timed and the others counted")
    layouts, wanted = ("ncdhw", "ndhwc"), []
    for label, python, args, env in torch("torch-infer3d", base, (0, d, h, w), layouts, ("f32",), keeping()):
        if python == DEBIAN:
            label, args = f"{label}, {some} slices", (*args[:3], some, *args[4:])
        wanted.append((label, python, args, env))
    wanted += [(f"window of {label}", python, args, env) for label, python, args, env in
               torch("torch-infer3d", base, (0, window, window, window), layouts, ("f32",), keeping()) if python == VENV]

    def slices(label):
        return d / patches if label.startswith("window") else some if label.endswith("slices") else d
    mine = lambda: engine("infer", "unet3d", base, f"1x{d}", h, w, "-r", 1, "-S", 8)["seconds_per_slice"]
    return compare(name, {"f32": mine}, workers(wanted), bounds, slices, 1, min(ROUNDS, SLOW_ROUNDS))


def memory(name, work, base, n, h, w, limit, peer_args, ceilings=()):
    """Peak resident memory held against a limit in MiB, and against each ceiling that -M gives."""
    say(f"{name}: peak resident memory, {work}, U-Net of base {base}, batch {n}, {h}x{w}")
    held = []
    for label, options, most in [("ours", (), limit)] + [(f"ours, -M {c}M", ("-M", f"{c}M"), c + 16) for c in ceilings]:
        got = engine(work, "unet", base, n, h, w, "-r", 1, *options)
        peak = got["peak_bytes"] / MIB
        show(label, [peak], "MiB", f"  (planned {got['planned_bytes'] / MIB:.1f}, wanted at most {most})")
        held.append((peak, most, peak / most, 1))
    model = onnx_model(base, n, h, w) if work == "infer" else None
    for p in workers([("PyTorch VERSION (Debian)", DEBIAN, peer_args, None)] + ([
            ("ONNX Runtime VERSION", VENV, ("onnxruntime", model, n, h, w, THREADS), None),
            ("OpenVINO VERSION", VENV, ("openvino", model, n, h, w, THREADS, "f32"), None)] if model else [])):
        p.step()
        show(p.label, [p.close()], "MiB")
    return verdict(name, held)
