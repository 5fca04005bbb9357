#!/usr/bin/env python3
"""space.py >space.tsv: maps of space and interpolation, as numpy computes them.

tests/unit/space.c compares. Lines, fields by tabs, matrices of three rows of four numbers:
    then A B AB              first A, then B
    inverse A A'
    turn A DEGREES           the angle of A's rotation, by its eigenvalues
    elastix T TEXT A         what elastix's TEXT (lines joined by |) means in NIfTI's axes
    sample KERNEL AIR X Y Z V    the volume of sample() there, between 0 and 16
"""
import numpy as np

r = np.random.default_rng(7)


def show(*fields):
    out = []
    for f in fields:
        out += [f] if isinstance(f, str) else [repr(float(x)) for x in np.asarray(f, float)[:3].ravel()] if np.ndim(f) else [repr(float(f))]
    print(*out, sep="\t")


def about(axis, angle):
    """Rodrigues."""
    k = np.cross(np.eye(3), np.asarray(axis) / np.linalg.norm(axis))
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def whole(m, t):
    a = np.eye(4)
    a[:3, :3], a[:3, 3] = m, t
    return a


def some():
    return whole(about(r.standard_normal(3), r.uniform(0, 1)) @ np.diag(r.uniform(0.7, 1.4, 3)), r.uniform(-90, 90, 3))


for _ in range(4):
    a, b = some(), some()
    show("then", a, b, b @ a)
    show("inverse", a, np.linalg.inv(a))
    m = whole(about(r.standard_normal(3), angle := r.uniform(0.1, 3)), r.uniform(-9, 9, 3))
    show("turn", m, np.degrees(np.abs(np.angle(np.linalg.eigvals(m[:3, :3]))).max()))

# ITK: x' = M (x - c) + c + t in axes to the left and to the back; Euler angles about z, then x, then y as a product
# (ZXY), or Rz Ry Rx (ComputeZYX).
flip = np.diag([-1.0, -1, 1, 1])
for name, zyx in (("EulerTransform", False), ("EulerTransform", True), ("AffineTransform", False), ("TranslationTransform", False)):
    c, t, angle = r.uniform(-40, 40, 3), r.uniform(-20, 20, 3), r.uniform(-0.6, 0.6, 3)
    x, y, z = (about(np.eye(3)[i], angle[i]) for i in range(3))
    if name == "EulerTransform":
        m, p = z @ y @ x if zyx else z @ x @ y, [*angle, *t]
    elif name == "AffineTransform":
        m = np.eye(3) + r.uniform(-0.2, 0.2, (3, 3))
        p = [*m.ravel(), *t]
    else:
        m, p, c = np.eye(3), t, np.zeros(3)
    text = [f'(Transform "{name}")', f"(TransformParameters {' '.join(map(repr, map(float, p)))})",
            '(InitialTransformParametersFileName "NoInitialTransform")', '(UseDirectionCosines "true")']
    text += [f"(CenterOfRotationPoint {' '.join(map(repr, map(float, c)))})"] * (name != "TranslationTransform")
    text += [f'(ComputeZYX "{str(zyx).lower()}")'] * (name == "EulerTransform")
    show("elastix", name, "|".join(text), flip @ whole(m, c + t - m @ c) @ flip)


def sample(shape=(5, 6, 7)):
    x, y, z = np.indices(shape)
    return ((7 * x + 13 * y + 29 * z + x * y * z) % 17).astype(float)


def cubic(t):
    t = abs(t)
    return 1.5 * t**3 - 2.5 * t**2 + 1 if t < 1 else -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0


KERNELS = {"linear": lambda t: max(0, 1 - abs(t)), "cubic": cubic, "lanczos": lambda t: np.sinc(t) * np.sinc(t / 3) if abs(t) < 3 else 0}


def value(v, kernel, p, air):
    if any(not -0.5 <= q < n - 0.5 for q, n in zip(p, v.shape)) or air and v[tuple(int(q + 0.5) for q in p)] == 0:
        return 0
    w = []
    for q, n in zip(p, v.shape):  # a matrix row of weights on real voxels: those beyond the edge count for the edge
        row = np.zeros(n)
        total = sum(KERNELS[kernel](q - k) for k in range(int(np.floor(q)) - 2, int(np.floor(q)) + 4))
        for k in range(int(np.floor(q)) - 2, int(np.floor(q)) + 4):
            row[min(max(k, 0), n - 1)] += KERNELS[kernel](q - k) / total
        w.append(row)
    return float(np.clip(np.einsum("xyz,x,y,z", v, *w), 0, 16))


v = sample()
points = [r.uniform(-0.9, np.array(v.shape) - 0.1) for _ in range(24)] + [np.array([2.0, 3, 4]), np.array([-0.5, 0, 6.25]), np.array([0.0, 2.5, 5])]
for kernel in KERNELS:
    for air in (0, 1):
        for p in points:
            show("sample", kernel, float(air), *map(float, p), value(v, kernel, p, air))
