#!/usr/bin/env python3
"""paired.py >paired.tsv: what SciPy and statsmodels make of paired differences and of p-values.

tests/unit/met_paired.c compares. Lines, fields by tabs:
    wilcoxon exact|normal ZEROS W P V...     scipy.stats.wilcoxon, zeros left out, with the correction for continuity
    bootstrap LOW HIGH SD V...               scipy.stats.bootstrap, percentile, a million samples; SD of the mean
    holm N P... Q...                         statsmodels' multipletests, Q the corrected P
"""
import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

r = np.random.default_rng(1)


def line(*fields):
    print(*(f if isinstance(f, str) else repr(float(f)) if isinstance(f, float) else int(f) for f in fields), sep="\t")


def wilcoxon(d):
    rest = np.abs(d[d != 0])
    exact = len(rest) <= 25 and len(set(rest)) == len(rest)
    t = stats.wilcoxon(d, zero_method="wilcox", correction=True, method="exact" if exact else "asymptotic")
    line("wilcoxon", "exact" if exact else "normal", (d == 0).sum(), float(t.statistic), float(t.pvalue), *d.tolist())


for n in 1, 2, 5, 6, 12, 25, 26, 60:
    for shift in 0, 0.4, -1.5:
        wilcoxon(np.round(r.standard_normal(n) + shift, 6))
for n, decimals in (6, 1), (12, 1), (25, 1), (25, 2), (40, 1), (60, 2): # equals, and zeros
    wilcoxon(np.round(r.standard_normal(n) * 0.3 + 0.1, decimals))
wilcoxon(np.concatenate([np.zeros(7), np.round(r.standard_normal(20), 6)])) # zeros alone

for n, skew in (2, 0), (5, 0), (12, 0), (12, 1), (60, 1):
    v = np.round(np.exp(r.standard_normal(n)) if skew else r.standard_normal(n), 4)
    b = stats.bootstrap((v,), np.mean, n_resamples=1000000, batch=20000, method="percentile", rng=r)
    line("bootstrap", float(b.confidence_interval.low), float(b.confidence_interval.high), float(b.standard_error), *v.tolist())

for n in 1, 2, 5, 12, 40:
    p = np.round(r.random(n) ** 3, 6)
    if n > 4:
        p[3] = p[1] # equals
    line("holm", n, *p.tolist(), *multipletests(p, method="holm")[1].tolist())
