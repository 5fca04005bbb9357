load ../lib/common

ours() { "$ROOT/build/${CONFIG:-release}/unit/safetensors" "$@"; }

# What the format's own description says, in Python's standard library and numpy: no code shared with ours.
python_side() {
    need_python numpy
    cat >st.py <<'EOF'
import json, struct, sys
import numpy as np

TYPES = {"F32": "<f4", "F64": "<f8", "U8": "u1", "I16": "<i2", "I32": "<i4", "F16": "<f2"}


def load(path):
    b = open(path, "rb").read()
    n = struct.unpack("<Q", b[:8])[0]
    head = json.loads(b[8:8 + n])
    meta = head.pop("__metadata__", {})
    return {k: np.frombuffer(b[8 + n:][slice(*v["data_offsets"])], TYPES[v["dtype"]]).reshape(v["shape"])
            for k, v in head.items()}, meta


def save(path, tensors, meta):
    head, blob = {"__metadata__": meta}, b""
    for k, (kind, a) in tensors.items():
        head[k] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [len(blob), len(blob) + a.nbytes]}
        blob += a.tobytes()
    h = json.dumps(head).encode()
    h += b" " * (-len(h) % 8)
    open(path, "wb").write(struct.pack("<Q", len(h)) + h + blob)


tensors = {
    "head.weight": ("F32", np.arange(24, dtype="<f4").reshape(2, 3, 4) / 8),
    "scalar": ("F64", np.array(-0.125)),
    "empty": ("F32", np.zeros((0, 5), "<f4")),
    "short": ("I16", np.array([-32768, 32767], "<i2")),
    "int": ("I32", np.array([[-70000], [65537]], "<i4")),
    "half": ("F16", np.array([1, -65504, 2.0 ** -24, 0], "<f2")),
    "t": ("U8", np.array([0, 255, 7, 9], "u1")),
    "na\u00efve \"\u20ac\" \U0001f600": ("F32", np.array([1.5], "<f4")),
}
meta = {"config": "a: 1\n\tb: \"c\\d\"", "\u00e9": "\U0001f600 \x01"}
if sys.argv[1] == "save":
    save("python.st", tensors, meta)
else:
    got, m = load(sys.argv[2])
    assert len(m.pop("xxh3")) == 16
    assert m == meta, m
    assert got.keys() == tensors.keys(), got.keys()
    for k, (kind, a) in tensors.items():
        assert got[k].dtype == a.dtype and got[k].shape == a.shape and (got[k] == a).all(), k
EOF
}

@test "safetensors: Python's file is read" {
    python_side
    "$PYTHON" st.py save
    ours dump python.st >got
    grep -Fx 'head.weight f32 2 3 4: 0 0.125 0.25 0.375 0.5 0.625 0.75 0.875 1 1.125 1.25 1.375 1.5 1.625 1.75 1.875 2 2.125 2.25 2.375 2.5 2.625 2.75 2.875' got
    grep -Fx 'scalar f64: -0.125' got
    grep -Fx 'empty f32 0 5:' got
    grep -Fx 'short i16 2: -32768 32767' got
    grep -Fx 'int i32 2 1: -70000 65537' got
    grep -Fx 'half f16 4: 1 -65504 5.96046448e-08 0' got
    grep -Fx 't u8 4: 0 255 7 9' got
    grep -Fx 'naïve "€" 😀 f32 1: 1.5' got
    grep -Fx 'config=a: 1' got
    grep -Fx $'\tb: "c\\d"' got
    grep -Fx $'é=😀 \x01' got
}

@test "safetensors: Python reads the file that ours wrote" {
    python_side
    "$PYTHON" st.py save
    ours copy python.st ours.st
    "$PYTHON" st.py check ours.st
}

@test "safetensors: a file that is no safetensors file is named with its path" {
    echo hello >text
    run -1 --separate-stderr ours dump text
    [ "$stderr" = "text: not a safetensors file" ]
}

@test "safetensors: whichever allocation fails, a file is read whole or memory is what was short" {
    need_release "a preloaded library"
    python_side
    "$PYTHON" st.py save
    local shim="$ROOT/build/release/shim.so" n
    LD_PRELOAD=$shim FAULT_COUNT=count ours dump python.st >whole
    n=$(sed -n 's/^alloc //p' count)
    [ "$n" -gt 50 ]
    for ((i = 1; i <= n; i++)); do
        if LD_PRELOAD=$shim FAULT=alloc:$i ours dump python.st >got 2>err; then
            cmp whole got
        else
            grep -q "out of memory\|Cannot allocate memory" err
        fi
    done
}
