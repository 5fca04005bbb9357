# records.bash - py runs Python with read(FILE): the records of a stream as (keys, tensors), and its header's
# lines in read.header. Loaded after common.bash, whose py it replaces.
py() {
    "$PYTHON" - "$@" <<PY
import struct, sys
import numpy as np
T = {1: "u1", 2: "<i2", 3: "<i4", 6: "<f4", 7: "<f8"}
def read(path):
    b, at, out = open(path, "rb").read(), 0, []
    while at < len(b):
        kind, m, nt, rest = b[at + 10], *struct.unpack_from("<II", b, at + 12), struct.unpack_from("<Q", b, at + 24)[0]
        lines = b[at + 64:at + 64 + m].decode().splitlines()
        if kind == 0x48:
            read.header = lines
        d = at + 64 + (m + 63) // 64 * 64
        p, t = d + 128 * nt, {}
        for i in range(nt):
            q = b[d + 128 * i:d + 128 * i + 128]
            shape, n = struct.unpack_from("<8I", q, 72)[:q[65]], struct.unpack_from("<Q", q, 104)[0]
            t[q[:64].rstrip(b"\0").decode()] = np.frombuffer(b[p:p + n], T[q[64]]).reshape(shape)
            p += (n + 63) // 64 * 64
        if kind == 0x52:
            out.append((dict(l.split("=", 1) for l in lines), t))
        at += 64 + rest
    return out
$(cat)
PY
}
