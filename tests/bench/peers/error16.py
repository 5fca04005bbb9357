"""What bfloat16 costs a 3x3 convolution, by layer and algorithm: the RMS and the largest error of its results, relative to
their RMS, of inputs behind a ReLU and weights as they begin (He). Results exact in float64; operands of products rounded
where the algorithm says, sums in float32. Prints the table of lib/kernels/README.md:

  /usr/bin/python3 tests/bench/peers/error16.py
"""
import numpy as np

SIDE, OUT = 24, 16  # results of a side, output channels


def bf16(x):
    """x rounded to nearest even."""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7fff + (u >> 16 & 1)) & 0xffff0000).astype(np.uint32).view(np.float32)


def transforms(points):
    """A^T, G and B^T of F(m x m, 3 x 3) after Cook and Toom, of these points and infinity."""
    n = len(points) + 1
    m = n - 2
    at, g, bt = np.zeros((m, n)), np.zeros((n, 3)), np.zeros((n, n))
    for j, p in enumerate(points):
        rest = [q for q in points if q != p]
        at[:, j] = [p ** i for i in range(m)]
        g[j] = [p ** k / np.prod([p - q for q in rest]) for k in range(3)]
        bt[j, :n - 1] = np.poly(rest)[::-1]
    at[m - 1, -1] = g[-1, 2] = 1
    bt[-1] = np.poly(points)[::-1]
    # Rows in powers of two, that the transformed values are about as large as those of the map.
    scale = 2.0 ** np.round(np.log2(np.sqrt((bt ** 2).sum(1))))
    return at, g * scale[:, None], bt / scale[:, None]


def direct(d, w, dtype, rounded):
    d, w = rounded(d.astype(np.float32)).astype(dtype), rounded(w.astype(np.float32)).astype(dtype)
    columns = np.stack([d[:, y:y + SIDE, x:x + SIDE] for y in range(3) for x in range(3)], 1)
    return w.reshape(OUT, -1) @ columns.reshape(-1, SIDE * SIDE)


def winograd(d, w, points, product):
    at, g, bt = transforms(points)
    m, n = at.shape
    tiles = np.stack([d[:, y:y + n, x:x + n] for y in range(0, SIDE, m) for x in range(0, SIDE, m)], 1).astype(np.float32)
    f32 = np.float32
    v = (bt.astype(f32) @ tiles @ bt.T.astype(f32)).transpose(2, 3, 0, 1).reshape(n * n, d.shape[0], -1)
    u = (g.astype(f32) @ w.reshape(OUT, -1, 3, 3).astype(f32) @ g.T.astype(f32)).transpose(2, 3, 0, 1).reshape(n * n, OUT, -1)
    y = product(u, v).reshape(n, n, OUT, -1).transpose(2, 3, 0, 1)
    y = at.astype(f32) @ y @ at.T.astype(f32)
    k = SIDE // m
    return y.reshape(OUT, k, k, m, m).transpose(0, 1, 3, 2, 4).reshape(OUT, -1)


def rounded(u, v):
    return bf16(u) @ bf16(v)


def split(u, v):
    """Two terms of each operand, three products."""
    u1, v1 = bf16(u), bf16(v)
    return u1 @ v1 + u1 @ bf16(v - v1) + bf16(u - u1) @ v1


F2, F4, HALF = (0, 1, -1), (0, 1, -1, 2, -2), (0, 1, -1, 0.5, -2)
WAYS = [("direct, float32", lambda d, w: direct(d, w, np.float32, lambda x: x)),
        ("F(4x4), float32", lambda d, w: winograd(d, w, F4, np.matmul)),
        ("direct", lambda d, w: direct(d, w, np.float32, bf16)),
        ("F(2x2)", lambda d, w: winograd(d, w, F2, rounded)),
        ("F(4x4), points 0, 1, -1, 2, -2", lambda d, w: winograd(d, w, F4, rounded)),
        ("F(4x4), points 0, 1, -1, 1/2, -2", lambda d, w: winograd(d, w, HALF, rounded)),
        ("F(4x4), two terms, three products", lambda d, w: winograd(d, w, F4, split))]
CHANNELS = (16, 64, 256, 1024)


def main():
    print("| operands of products in bf16 | " + " | ".join(f"{c} channels: rms, max" for c in CHANNELS) + " |")
    print("|---" * (1 + len(CHANNELS)) + "|")
    rows = {name: [] for name, _ in WAYS}
    for c in CHANNELS:
        r = np.random.default_rng(1)
        d = np.maximum(r.standard_normal((c, SIDE + 2, SIDE + 2)), 0).astype(np.float32)
        w = (r.standard_normal((OUT, c, 3, 3)) * np.sqrt(2 / (9 * c))).astype(np.float32)
        want = direct(d, w, np.float64, lambda x: x)
        for name, way in WAYS:
            error = np.abs(way(d, w).reshape(want.shape) - want) / np.sqrt((want ** 2).mean())
            rows[name].append(f"{np.sqrt((error ** 2).mean()):.1e}, {error.max():.1e}")
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
