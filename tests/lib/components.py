"""Connected components by flood fill: what tools are held to that find them by runs."""
from itertools import product

import numpy as np


def components(mask, near=26):
    """The components of a mask of any rank, each a list of places in the order they were met, in the order of their first;
    near: 6, 18 or 26 neighbours in three dimensions, that is faces, edges too, corners too."""
    most = {6: 1, 18: 2, 26: mask.ndim}[near]
    steps = [s for s in product((-1, 0, 1), repeat=mask.ndim) if 0 < sum(map(abs, s)) <= most]
    left, out = set(map(tuple, np.argwhere(mask).tolist())), []
    while left:
        todo, one = [min(left)], []
        left.discard(todo[0])
        while todo:
            p = todo.pop()
            one.append(p)
            for s in steps:
                q = tuple(a + b for a, b in zip(p, s))
                if q in left:
                    left.discard(q)
                    todo.append(q)
        out.append(one)
    return out
