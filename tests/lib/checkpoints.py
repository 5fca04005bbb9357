"""Checkpoints as torch.save writes them, for tests: by stand-ins of the few names of PyTorch's that they hold.

save(PATH, WHAT): a Tensor(array) in it is a tensor, Opaque() something of numpy's, Bomb() what would run a program, endless() what
would take for ever.
attempt(SCRIPT, ARGUMENTS): the line with which pipelines/SCRIPT refuses, or None where it made a model, `out`."""
import collections, contextlib, importlib.machinery, importlib.util, io, os, pickle, signal, sys, types, zipfile
import numpy as np


def named(module, name, what):
    m = sys.modules.setdefault(module, types.ModuleType(module))
    what.__module__, what.__qualname__, what.__name__ = module, name, name
    setattr(m, name, what)
    return what


class Storage:
    pass


def rebuild(*a): raise AssertionError
named("torch._utils", "_rebuild_tensor_v2", rebuild)
FLOAT = named("torch", "FloatStorage", type("FloatStorage", (), {}))
named("numpy.core.multiarray", "scalar", scalar := (lambda *a: None))


class Tensor:
    def __init__(self, a):
        self.a, self.key = np.ascontiguousarray(a, "<f4"), None
    def __reduce_ex__(self, protocol):
        s = Storage()
        s.tensor = self
        stride = tuple(n // 4 for n in self.a.strides)
        return rebuild, (s, 0, self.a.shape, stride, False, collections.OrderedDict())


class Opaque:  # something of numpy's, or a device
    def __reduce_ex__(self, protocol):
        return scalar, ("f8", b"12345678")


class Bomb:
    def __reduce_ex__(self, protocol):
        return os.system, ("touch bang",)


class Told:  # what it says of itself to pickle
    def __init__(self, *told):
        self.told = told
    def __reduce_ex__(self, protocol):
        return self.told


def endless():
    """Few bytes, and no end to who hashes or prints them."""
    t = ()
    for _ in range(60):
        t = t, t
    return {"shape": Told(rebuild, (("storage", FLOAT, "0", "cpu", 1), 0, t, t, False, collections.OrderedDict())),
            "key": Told(collections.OrderedDict, (), None, None, iter([(t, 1)]))}


def save(path, what, compress=zipfile.ZIP_STORED):
    keys, out = {}, io.BytesIO()
    class P(pickle.Pickler):
        def persistent_id(self, s):
            if isinstance(s, Storage):
                key = str(keys.setdefault(id(s.tensor), (len(keys), s.tensor))[0])
                return ("storage", FLOAT, key, "cpu", s.tensor.a.size)
    P(out, 2).dump(what)
    with zipfile.ZipFile(path, "w", compress) as z:
        z.writestr("archive/data.pkl", out.getvalue())
        z.writestr("archive/byteorder", "little")
        for n, t in keys.values():
            z.writestr(f"archive/data/{n}", t.a.tobytes())


def script(name):
    """A script as a module, which is called often."""
    folder = os.environ["ROOT"] + "/pipelines"
    sys.path[:0], sys.argv, sys.dont_write_bytecode = [folder], [name], True
    loader = importlib.machinery.SourceFileLoader(name, f"{folder}/{name}")
    tool = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(tool)
    return tool


def attempt(tool, *arguments):
    sys.argv = [tool.__name__, "-o", "out", *arguments]
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err):
            tool.main()
    except SystemExit as e:
        assert isinstance(e.code, str) and e.code.startswith(tool.__name__ + ": ") and "\n" not in e.code and not err.getvalue(), e.code
        assert not os.path.exists("out") and not [f for f in os.listdir(".") if f.startswith(".")]
        return e.code
    os.unlink("out")
    return None


def damaged(tool, arguments, checkpoint, texts, rounds):
    """How often damaged files are refused: each time with a line, or there is a model; not a word of Python's."""
    rng, files, refused = np.random.default_rng(int(os.environ.get("SEED", 1))), [checkpoint, *texts], 0
    whole = {f: open(f, "rb").read() for f in files}
    inner = zipfile.ZipFile(checkpoint).read("archive/data.pkl")
    for i in range(rounds):
        f = files[i % len(files)]
        b = bytearray(whole[f])
        at = rng.integers(len(b))
        if i % 7 == 0:
            del b[at:]
        elif f != checkpoint:
            b[at] = rng.integers(256)
        if f == checkpoint and i % 7:  # zip's sums would find it, so they are made anew
            p, at = bytearray(inner), rng.integers(len(inner))
            if i % 2:
                p[at] = rng.integers(256)
            else:
                del p[at:at + rng.integers(9)]
            src = zipfile.ZipFile(io.BytesIO(whole[f]))
            with zipfile.ZipFile(f, "w") as z:
                for n in src.namelist():
                    z.writestr(n, bytes(p) if n.endswith("pkl") else src.read(n))
        else:
            open(f, "wb").write(b)
        refused += attempt(tool, *arguments) is not None
        open(f, "wb").write(whole[f])
    return refused
