"""The engine beside PyTorch, ONNX Runtime and OpenVINO: what the benchmarks of lib/nn share."""
import statistics

from peers.bench import (DEBIAN, KEEP_MEMORY, MIB, THREADS, VENV, Missing, engine, onnx_model, ratio, say, show, turns,
                         verdict, workers)

AVX2_PEER = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
AVX2_OURS = {"KR_ISA": "avx2"}


def compare(name, ours, peers, bounds, per_slice, steps):
    """Turns of ours and all peers; each family of peers (a word of its label) is held to its own bound by its
    fastest member. bounds: family -> bound."""
    rows = [("ours", ours)] + [(p.label, lambda p=p: p.turn(steps) / per_slice) for p in peers]
    if not peers:
        raise Missing("no peer is installed (make bench-peers)")
    took = turns(rows)
    for p in peers:
        p.close()
    show("ours", took["ours"], "s a slice")
    best = {}
    for p in peers:
        r = ratio(took["ours"], took[p.label])
        show(p.label, took[p.label], "s a slice", f"  ours takes {r:.3f} of it")
        family = next(f for f in bounds if p.label.startswith(f))
        if family not in best or r > best[family][2]:
            best[family] = (statistics.median(took["ours"]), statistics.median(took[p.label]), r, bounds[family])
    return verdict(name, best.values())


def infer(name, base, bounds, env_peers=None, env_ours=None):
    shape = (1, 240, 240)
    say(f"{name}: inference, U-Net of base {base}, one 240x240 slice, float32, {THREADS} threads")
    wanted = [(f"PyTorch VERSION {where}, {layout}", python, ("torch-infer", base, *shape, THREADS, layout), env_peers)
              for where, python in (("(Debian)", DEBIAN), ("(newest)", VENV)) for layout in ("nchw", "nhwc")]
    model = onnx_model(base, *shape)
    if model and "ONNX Runtime" in bounds:
        wanted += [("ONNX Runtime VERSION", VENV, ("onnxruntime", model, *shape, THREADS), env_peers)]
    if model and "OpenVINO" in bounds:
        wanted += [("OpenVINO VERSION", VENV, ("openvino", model, *shape, THREADS), env_peers)]
    return compare(name, lambda: engine("infer", "unet", base, *shape, "-r", 7, env=env_ours)["seconds_per_slice"],
                   workers(wanted), bounds, 1, 5)


def train(name, base, n, h, w, bound, steps, env_peers=None, env_ours=None):
    say(f"{name}: training step with Adam and the Dice loss, U-Net of base {base}, batch {n}, {h}x{w}, float32, "
        f"{THREADS} threads")
    wanted = [(f"PyTorch VERSION {where}, {memory}", python, ("torch-train", base, n, h, w, THREADS, "nchw"),
               {**(env_peers or {}), **env})
              for where, python in (("(Debian)", DEBIAN), ("(newest)", VENV))
              for memory, env in (("malloc as it is", {}), ("malloc that keeps memory", KEEP_MEMORY))]
    return compare(name, lambda: engine("train", "unet", base, n, h, w, "-r", steps, env=env_ours)["seconds_per_slice"],
                   workers(wanted), {"PyTorch": bound}, n, steps)


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
            ("OpenVINO VERSION", VENV, ("openvino", model, n, h, w, THREADS), None)] if model else [])):
        p.step()
        show(p.label, [p.close()], "MiB")
    return verdict(name, held)
