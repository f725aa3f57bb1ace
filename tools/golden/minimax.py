#!/usr/bin/env python3
"""Fit the polynomials of crates/vitral-engine/src/device/cpu/math.rs and kernels/narrow/gelu.rs and print them with their errors.

Weighted least squares on Chebyshev nodes, iterated towards the minimax solution (Lawson's algorithm), in 50-digit
arithmetic where the function needs it. Needs numpy and mpmath.
"""
import mpmath as mp
import numpy as np

mp.mp.dps = 50


def lawson(function, low, high, degree, weight, fixed=0, nodes=2000, rounds=300):
    """Coefficients (lowest first) minimizing max |weight · (p − f)|; the first `fixed` ones are function's own."""
    x = 0.5 * (low + high) + 0.5 * (high - low) * np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    f = np.array([float(function(mp.mpf(float(v)))) for v in x])
    w = np.array([float(weight(mp.mpf(float(v)))) for v in x])
    basis = np.stack([x**i for i in range(degree + 1)], 1)
    scale = np.abs(basis).max(0)
    lawson_weight = np.ones(nodes)
    for _ in range(rounds):
        root = np.sqrt(lawson_weight) * w
        c, *_ = np.linalg.lstsq(basis / scale * root[:, None], f * root, rcond=None)
        c = c / scale
        error = np.abs((basis @ c - f) * w)
        lawson_weight *= error + 1e-30
        lawson_weight /= lawson_weight.sum()
    return c, error.max()


def show(name, c, error):
    print(f"{name}: max weighted error {error:.3g}")
    print("  [" + ", ".join(f"{np.float32(v)!r}".replace("np.float32(", "").replace(")", "") for v in c[::-1]) + "]")


half_ln2 = float(mp.log(2) / 2) * 1.001
exp_remainder = lambda r: mp.mpf(0.5) if r == 0 else (mp.e**r - 1 - r) / r**2
show("EXP", *lawson(exp_remainder, -half_ln2, half_ln2, 4, lambda r: r**2))
tanh_remainder = lambda s: (mp.tanh(mp.sqrt(s)) / mp.sqrt(s) - 1) / s
show("TANH", *lawson(tanh_remainder, 1e-6, 0.55**2, 4, lambda s: s))
show("NORMAL_TAIL", *lawson(lambda t: mp.log(mp.ncdf(-t)), 0.0, 6.0, 8, lambda t: mp.ncdf(-t) * (1 + t)))

# GELU's even part on 32 pieces, in pieces of the argument from each one's middle; the first begins with 0.
PIECES = 5.25
even = lambda t: t * mp.ncdf(-t)
fits = []
for piece in range(32):
    if piece == 0:
        # Half a piece, without a constant: of h(t) / t.
        slope, error = lawson(lambda r: mp.ncdf(-r / PIECES) / PIECES, 1e-9, 0.5, 1, lambda r: r, nodes=400, rounds=100)
        fits.append(([0.0, *slope], error))
    else:
        fits.append(lawson(lambda r: even((r + piece) / PIECES), -0.5, 0.5, 2, lambda r: 1, nodes=400, rounds=100))
print(f"GELU: max error {max(error for _, error in fits):.3g}")
for power in range(3):
    print("  [" + ", ".join(f"{c[power]:.6e}" for c, _ in fits) + "]")
