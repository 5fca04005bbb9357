"""Model files with any numbers in them, for tests: written from formats/safetensors.md and formats/model.h alone.

  models.py rough MODEL OUT [KEY=VALUE]... [f16|bf16]    the same network, other numbers: as a model that learned much has them
  models.py flat OUT JSON [KEY=VALUE]... [f16|bf16]      of a description without blocks and expressions, its shapes by its operations

A KEY=VALUE is metadata; an empty one takes a key out."""
import json, struct, sys
import numpy as np


def read(path):
    with open(path, "rb") as f:
        b = f.read()
    n = 8 + struct.unpack("<Q", b[:8])[0]
    head = json.loads(b[8:n])
    return head.pop("__metadata__"), {k: t["shape"] for k, t in head.items()}


def numbers(name, shape, rng):
    u, last = rng.uniform(-1, 1, shape), name.split(".")[-1]
    if len(shape) > 1:  # scores of a few, as a network that was trained gives them: what rounds is not blown up
        return u * (6 / int(np.prod(shape[1:]))) ** 0.5 * (0.3 if "head" in name else 1)
    return 1 + 0.5 * u if last in ("weight", "running_var") else 0.3 * u


def raw(a, kind):
    a = a.astype("<f4")
    return a.astype("<f2").tobytes() if kind == "f16" else (a.view("<u4") >> 16).astype("<u2").tobytes() if kind == "bf16" else a.tobytes()


def write(path, meta, shapes, kind="f32"):
    rng, head, data = np.random.default_rng(1), {"__metadata__": {**meta, "weights": kind}}, b""
    for k in shapes:
        b = raw(numbers(k, shapes[k], rng), kind)
        head[k] = {"dtype": kind.upper(), "shape": list(shapes[k]), "data_offsets": [len(data), len(data) + len(b)]}
        data += b
    text = json.dumps(head).encode()
    text += b" " * (-(len(text) + 8) % 64)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def axes(v):
    v = list(v) if isinstance(v, (list, tuple)) else [v, v]
    return [1] * (3 - len(v)) + v


def shapes_of(network):
    """Of each parameter, and the channels of what comes out."""
    out, c, made = {}, 0, {}
    for line in network:
        op, name = line["op"], line.get("name")
        ins = line.get("in", [])
        cin = [made[i] for i in ([ins] if isinstance(ins, str) else ins)] or [c]
        n = line.get("channels", cin[0])
        kernel = axes(line.get("kernel", 1))
        kernel = kernel if kernel[0] > 1 else kernel[1:]
        if op in ("convolution", "head"):
            out[f"{name}.weight"] = (n, cin[0], *kernel)
        elif op == "transposed_convolution":
            out[f"{name}.weight"] = (cin[0], n, *kernel)
        elif op == "linear":
            out[f"{name}.weight"] = (n, cin[0])
        elif op == "attention_score":
            out[f"{name}.weight"], n = (1, cin[0], 1, 1), 1
        elif op == "positions":
            grid = axes(line["size"])
            out[f"{name}.weight"] = (n, *(grid if grid[0] > 1 else grid[1:]))
        elif op.endswith("_norm") and line.get("affine", True):
            for k in ["weight", "bias"] + ["running_mean", "running_var"] * (op == "batch_norm"):
                out[f"{name}.{k}"] = (n,)
        elif op in ("attention", "gate"):
            n = cin[-1]
        elif op in ("concat", "multiply"):
            n = sum(cin) if op == "concat" else max(cin)
        if op in ("convolution", "head", "transposed_convolution", "linear") and line.get("bias", True):
            out[f"{name}.bias"] = (n,)
        c = n
        if name:
            made[name] = c
    return out


def flat(text):
    network = json.loads(text)["network"]
    meta = {"model": "2", "arch": "flat", "generator": "models.py", "network": text, "parameters": "", "scheme": "canonical", "patients": "",
            "leaky": "no", "modalities": ",".join(f"m{i}" for i in range(network[0]["channels"])),
            "classes": str(next(o["channels"] for o in network if o["op"] == "head"))}
    return meta, shapes_of(network)


def main(what, *rest):
    if what == "rough":
        (meta, shapes), path = read(rest[0]), rest[1]
        meta.pop("xxh3", None)
    else:
        (meta, shapes), path = flat(rest[1]), rest[0]
    for pair in rest[2:]:
        if "=" in pair:
            key, _, value = pair.partition("=")
            meta.pop(key, None)
            meta.update({key: value} if value else {})
    write(path, meta, shapes, next((k for k in rest[2:] if "=" not in k), "f32"))


if __name__ == "__main__":
    main(*sys.argv[1:])
