"""What the scripts share that make models of checkpoints of PyTorch's: reading those, safely, and writing a model.

A checkpoint is a pickle, which could do anything. Here it is read, and nothing in it is called: of its operations those that
lists, mappings, texts, numbers and tensors are made of are known, others are refused; a class or a function is a name.
Python's standard library is all that it needs."""
import json, math, os, pickletools, re, struct, sys, tempfile, zipfile

PICKLE_MOST = 64 << 20  # bytes of the pickle itself
NAME = os.path.basename(sys.argv[0])


def die(what):
    sys.exit(f"{NAME}: " + " ".join(what.split()))


def note(what):
    sys.stderr.write(f"{NAME}: warning: {what}\n")


# --- what others write in JSON -------------------------------------------------------------------------
WORDS = {"t1": "t1", "t1w": "t1", "t1n": "t1", "t2": "t2", "t2w": "t2", "flair": "flair", "t2f": "flair", "t2flair": "flair", "t1gd": "t1gd",
         "t1ce": "t1gd", "t1c": "t1gd", "t1gad": "t1gd"}


def word(text):
    return re.sub(r"[^a-z0-9]", "", str(text).lower())


def words(names):
    """Of modalities, those that we use."""
    return [WORDS.get(word(n), word(n)) for n in names]


def whole(v, what, low, high):
    if isinstance(v, bool) or not isinstance(v, int) or not low <= v <= high:
        die(f"{what}: (wanted a whole number {low} to {high}, got {v!r})")
    return v


def load(path):
    try:
        with open(path, encoding="utf-8") as f:
            v = json.load(f)
    except (OSError, ValueError, RecursionError) as e:
        die(f"{path}: {getattr(e, 'strerror', None) or e}")
    if not isinstance(v, dict):
        die(f"{path}: no mapping")
    return v


# --- the pickle ----------------------------------------------------------------------------------------
class Name:
    """A class or a function of somebody else's, or what one of them would make: nobody knows what."""
    def __init__(self, text, args=()):
        self.text, self.args = text, args


class Tensor:
    def __init__(self, storage, offset, shape, stride):
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)


def sides(v):
    return isinstance(v, tuple) and len(v) <= 8 and all(isinstance(n, int) for n in v)


def made(what, args):
    """What a call would make, of those that are known."""
    if what.text == "collections OrderedDict":
        return {}
    if what.text in ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter") and len(args) >= 1:
        if isinstance(args[0], Tensor):
            return args[0]
        if len(args) >= 4 and isinstance(args[0], tuple) and sides(args[2]) and sides(args[3]):
            return Tensor(args[0], args[1], args[2], args[3])
    return Name(what.text, args)


def unpickle(data):
    stack, marks, memo = [], [], {}

    def pop_mark():
        at = marks.pop()
        out = stack[at:]
        del stack[at:]
        return out

    def put(items):
        if isinstance(stack[-1], dict):
            for k, v in zip(items[::2], items[1::2]):
                if isinstance(k, (str, int, float)):  # a tuple of tuples of one another may take for ever to hash, or to print
                    stack[-1][k] = v

    for op, arg, at in pickletools.genops(data):
        n = op.name
        if n in ("PROTO", "FRAME"):
            pass
        elif n == "MARK":
            marks.append(len(stack))
        elif n in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_SET"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}[n]())
        elif n in ("NONE", "NEWTRUE", "NEWFALSE"):
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[n])
        elif n in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
                   "BINSTRING", "SHORT_BINSTRING"):
            stack.append(arg)
        elif n == "GLOBAL":
            stack.append(Name(arg))
        elif n == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            if not isinstance(name, str) or not isinstance(module, str):
                die("the checkpoint calls what is no name")
            stack.append(Name(f"{module} {name}"))
        elif n in ("BINPUT", "LONG_BINPUT"):
            memo[arg] = stack[-1]
        elif n == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif n in ("BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
        elif n == "TUPLE":
            stack.append(tuple(pop_mark()))
        elif n in ("TUPLE1", "TUPLE2", "TUPLE3"):
            k = int(n[-1])
            stack[-k:] = [tuple(stack[-k:])]
        elif n == "APPEND":
            v = stack.pop()
            if isinstance(stack[-1], list):
                stack[-1].append(v)
        elif n in ("APPENDS", "ADDITEMS"):
            v = pop_mark()
            if isinstance(stack[-1], list):
                stack[-1].extend(v)
        elif n == "SETITEM":
            v = [stack.pop(-2), stack.pop()]
            put(v)
        elif n == "SETITEMS":
            v = pop_mark()
            put(v)
        elif n in ("REDUCE", "NEWOBJ"):
            args, what = stack.pop(), stack.pop()
            if not isinstance(what, Name) or not isinstance(args, tuple):
                die("the checkpoint calls what is no name")
            stack.append(made(what, args))
        elif n == "BUILD":
            stack.pop()
        elif n == "BINPERSID":
            if not isinstance(stack[-1], tuple):
                die("the checkpoint refers to no storage")
        elif n == "STOP":
            return stack.pop()
        else:
            die(f"the checkpoint's pickle has an operation that no tensors need ({n})")
    die("the checkpoint's pickle has no end")


# --- the checkpoint ------------------------------------------------------------------------------------
class Checkpoint:
    """A file of torch.save's, whose weights are its mapping `within`, or are the whole."""
    def __init__(self, path, within=None):
        try:
            self.zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as e:
            die(f"{path}: {getattr(e, 'strerror', None) or e}")
        self.path, self.members = path, {i.filename: i for i in self.zip.infolist()}
        pickles = [n for n in self.members if n.endswith("/data.pkl")]
        if len(pickles) != 1:
            die(f"{path}: no checkpoint of PyTorch (wanted one data.pkl, got {len(pickles)})")
        self.root = pickles[0][:-len("data.pkl")]
        if self.root + "byteorder" in self.members and self.read("byteorder", 16) != b"little":
            die(f"{path}: its numbers are of the other byte order")
        try:
            self.what = unpickle(self.read("data.pkl", PICKLE_MOST))
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError, MemoryError, UnicodeError) as e:
            die(f"{path}: its pickle is broken ({e or type(e).__name__})")
        self.weights = self.what.get(within) if within and isinstance(self.what, dict) else self.what
        if not isinstance(self.weights, dict):
            die(f"{path}: no such checkpoint (wanted a mapping of weights{', ' + within if within else ''})")

    def read(self, name, most):
        """A member's bytes; PyTorch compresses none, so none is larger than it says."""
        info = self.members.get(self.root + name)
        if info is None:
            die(f"{self.path}: {name} is missing")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > most:
            die(f"{self.path}: {name}: compressed, or too large (wanted at most {most} bytes, got {info.file_size})")
        try:
            return self.zip.read(info)
        except (OSError, zipfile.BadZipFile, RuntimeError, EOFError) as e:
            die(f"{self.path}: {name}: {e}")

    def weight(self, name, shape):
        """A tensor's numbers as bytes, of that shape."""
        t = self.weights.get(name)
        if t is None:
            t = self.weights.get("_orig_mod." + name)  # of a network that was compiled
        if not isinstance(t, Tensor):
            die(f"{self.path}: weight '{name}' is missing")
        if t.shape != tuple(shape):
            die(f"{self.path}: weight '{name}': wrong shape (wanted {'x'.join(map(str, shape))}, got {'x'.join(map(str, t.shape))})")
        storage = t.storage
        if len(storage) != 5 or storage[0] != "storage" or not isinstance(storage[1], Name) or not isinstance(storage[2], str):
            die(f"{self.path}: weight '{name}': no storage of PyTorch's")
        if storage[1].text != "torch FloatStorage":
            die(f"{self.path}: weight '{name}': (wanted 32-bit floats, got {storage[1].text})")
        want = [math.prod(shape[i + 1:]) for i in range(len(shape))]
        if list(t.stride) != want and math.prod(shape) > 1 and [s for s, n in zip(t.stride, shape) if n > 1] != [s for s, n in zip(want, shape) if n > 1]:
            die(f"{self.path}: weight '{name}': not in one piece")
        n = 4 * math.prod(shape)
        b = self.read(f"data/{storage[2]}", os.path.getsize(self.path))
        at = 4 * t.offset if isinstance(t.offset, int) and t.offset >= 0 else len(b)
        if at + n > len(b):
            die(f"{self.path}: weight '{name}': cut (wanted {n} bytes, got {max(len(b) - at, 0)})")
        v = struct.unpack(f"<{n // 4}f", b[at:at + n])
        if not all(map(math.isfinite, v)):
            die(f"{self.path}: weight '{name}': not all numbers are finite")
        return b[at:at + n]


# --- the model -----------------------------------------------------------------------------------------
def write(path, meta, tensors):
    head, at = {"__metadata__": meta}, 0
    for name, shape, b, *kind in tensors:
        head[name] = {"dtype": (kind or [meta["weights"]])[0].upper(), "shape": list(shape), "data_offsets": [at, at + len(b)]}
        at += len(b)
    text = json.dumps(head).encode()
    text += b" " * (-(len(text) + 8) % 64)
    try:
        fd, temp = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=".")
    except OSError as e:
        die(f"{path}: {e.strerror}")
    try:
        with open(fd, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            for t in tensors:
                f.write(t[2])
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temp, 0o644)
        os.replace(temp, path)
    except OSError as e:
        os.unlink(temp)
        die(f"{path}: {e.strerror}")
