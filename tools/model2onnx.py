"""model2onnx -t: the largest difference of the graph, as ONNX Runtime computes it, to `infer -P`.

Arguments: model2onnx, infer, a model. Images are waves in noise, of odd sizes."""
import json, os, shutil, struct, subprocess, sys, tempfile, zlib

TOOL, INFER, MODEL = sys.argv[1:]
MOST = 1e-5


def die(what):
    sys.exit(f"{os.path.basename(TOOL)}: -t: {what}")


try:
    import numpy as np, onnxruntime
except ImportError as e:
    die(f"{sys.executable} has no module {e.name} (wanted ONNX Runtime: Debian's python3-onnxruntime, or pip's onnxruntime)")


def run(*command, data=None):
    p = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode:
        sys.stderr.write(p.stderr.decode(errors="replace"))
        sys.exit(1)
    return p.stdout


# A stream as tns(5) has it, checked by CRC-32; of what comes back the tensors `prob`.
def pad(b):
    return b + bytes(-len(b) % 64)


def part(kind, keys=(), tensors=(), count=0):
    text = "".join(f"{k}={v}\n" for k, v in keys).encode()
    front, body = pad(text), b""
    for name, a in tensors:
        front += struct.pack("<64sBBB5x8IQ8xQ", name, 6, a.ndim, 2, *a.shape, *[0] * (8 - a.ndim), a.nbytes, zlib.crc32(a.tobytes()))
        body += pad(a.tobytes())
    head = b"\x89TNS\r\n\x1a\n" + struct.pack("<HcxIIIQQ20x", 1, kind, len(text), len(tensors), zlib.crc32(front), len(front) + len(body), count)
    return head + struct.pack("<I", zlib.crc32(head)) + front + body


def found(b):
    at = 0
    while at < len(b):
        text, tensors, rest = struct.unpack_from("<IIxxxxQ", b, at + 12)
        front = at + 64 + (text + 63) // 64 * 64
        data = front + 128 * tensors
        for q in range(front, data, 128):
            size, = struct.unpack_from("<Q", b, q + 104)
            if b[q:q + 64].rstrip(b"\0") == b"prob":
                yield np.frombuffer(b, "<f4", size // 4, data).reshape(struct.unpack_from("<3I", b, q + 72))
            data += (size + 63) // 64 * 64
        at += 64 + rest


def compare(session, about, slices, h, w):
    keys, volume = about["metadata"], about["volume"]
    names = keys["modalities"].split(",")
    place = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in (slices, h, w)), indexing="ij"))
    rng = np.random.default_rng(h)
    waves = np.tensordot(rng.uniform(-15, 15, (8, len(names), 3)), place, 1) + rng.uniform(0, 6, (8, len(names), 1, 1, 1))
    noise = (np.sin(waves).mean(0) + 0.1 * rng.standard_normal(waves.shape[1:])).swapaxes(0, 1).astype("f4")
    record = {"case": "noise", "patient": "noise", "slices": slices, "modalities": keys["modalities"], "spacing": "1 1 1"}
    stream = part(b"H") + b"".join(part(b"R", [*record.items(), ("slice", z)], [(b"image", x)], z) for z, x in enumerate(noise)) \
        + part(b"E", count=slices)
    wanted = np.stack(list(found(run(INFER, "-F", "-H", "-P", "-t", "none", "-m", MODEL, data=stream))))
    near = int(keys.get("neighbours", 0))
    if near:  # each channel beside those of its neighbours, the case's ends repeated
        at = np.clip(np.arange(slices)[:, None] + np.arange(-near, near + 1), 0, slices - 1)
        noise = noise[at].swapaxes(1, 2).reshape(slices, -1, h, w)
    got, = session.run(None, {"image": noise.swapaxes(0, 1)[None] if volume else noise})
    got = got[0].swapaxes(0, 1) if volume else got
    if got.shape != wanted.shape:
        die(f"ONNX Runtime makes another shape (wanted {wanted.shape}, got {got.shape})")
    most = float(np.abs(got - wanted).max())
    print(f"{most:.2g}\tlargest difference of {got.size} probabilities, {slices} slices of {h}x{w}")
    return most


def main():
    about = json.loads(run(TOOL, "-l", MODEL))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(MODEL, f"{folder}/weights")
        with open(f"{folder}/graph.onnx", "wb") as f:
            f.write(run(TOOL, "-w", "weights", MODEL))
        try:
            session = onnxruntime.InferenceSession(f"{folder}/graph.onnx", providers=["CPUExecutionProvider"])
            least, tall, wide = (max(n, m) for n, m in zip((8 if about["volume"] else 1, 8, 8), about["multiple"]))  # a normalisation of few pixels tells nothing
            most = max(compare(session, about, 2 * least + 1, 3 * tall + 1, 5 * wide - 3), compare(session, about, 3 * least + 2, 4 * tall - 1, 3 * wide))
        except Exception as e:
            die("ONNX Runtime: " + " ".join(str(e).split()))
    if not most <= MOST:
        die(f"they differ (wanted at most {MOST:g}, got {most:.2g})")


main()
