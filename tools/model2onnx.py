"""model2onnx -t: the largest difference of the graph, as ONNX Runtime computes it, to `infer -P`.

Arguments: model2onnx, infer, a model, the text of gliopipe.py. Images are waves in noise, of odd sizes."""
import io, json, os, shutil, subprocess, sys, tempfile, types

TOOL, INFER, MODEL, CODEC = sys.argv[1:]
MOST = 1e-5


def die(what):
    sys.exit(f"{os.path.basename(TOOL)}: -t: {what}")


try:
    import numpy as np, onnxruntime
except ImportError as e:
    die(f"{sys.executable} has no module {e.name} (wanted ONNX Runtime: Debian's python3-onnxruntime, or pip's onnxruntime)")

gliopipe = sys.modules["gliopipe"] = types.ModuleType("gliopipe")
exec(CODEC, gliopipe.__dict__)


def run(*command, data=None):
    p = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode:
        sys.stderr.write(p.stderr.decode(errors="replace"))
        sys.exit(1)
    return p.stdout


def compare(session, about, slices, h, w):
    keys, volume = about["metadata"], about["volume"]
    names = keys["modalities"].split(",")
    place = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in (slices, h, w)), indexing="ij"))
    rng = np.random.default_rng(h)
    waves = np.tensordot(rng.uniform(-15, 15, (8, len(names), 3)), place, 1) + rng.uniform(0, 6, (8, len(names), 1, 1, 1))
    noise = (np.sin(waves).mean(0) + 0.1 * rng.standard_normal(waves.shape[1:])).swapaxes(0, 1).astype("f4")
    record = {"case": "noise", "patient": "noise", "slices": str(slices), "modalities": keys["modalities"], "spacing": "1 1 1"}
    stream = io.BytesIO()
    with gliopipe.Writer(stream, {}) as out:
        for z, x in enumerate(noise):
            out.write(gliopipe.Record({**record, "slice": str(z)}, {"image": x}))
    found = run(INFER, "-F", "-H", "-P", "-t", "none", "-m", MODEL, data=stream.getvalue())
    wanted = np.stack([r.tensors["prob"] for r in gliopipe.Reader(io.BytesIO(found))])
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
