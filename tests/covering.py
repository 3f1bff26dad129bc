"""Choices of options in which every two values of two options meet."""

import itertools
import random


def pairwise(factors, is_legal, seed=0):
    """Rows of a covering array: dicts with a value of each factor.

    Each pair of values of two factors that any legal row has is in one of them. Greedy: of some random rows that hold
    a pair which is left, the one that holds most of them.

    Parameters
    ----------
    factors : dict of lists
        The values of each factor, the usual one first.
    is_legal : callable
        Whether a row may be.
    """
    rng, names = random.Random(seed), list(factors)
    left = {((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in factors[a] for y in factors[b]}
    rows = []
    while left:
        pair = min(left, key=repr)
        tried = [_legal_row(rng, factors, dict(pair), is_legal) for _ in range(30)]
        found = [row for row in tried if row is not None]
        if not found:
            left.discard(pair)  # no legal row has it
            continue
        best = max(found, key=lambda row: len(left & _pairs(names, row)))
        rows.append(best)
        left -= _pairs(names, best)
    return rows


def _legal_row(rng, factors, fixed, is_legal):
    for _ in range(200):
        row = {name: fixed.get(name, rng.choice(values)) for name, values in factors.items()}
        if is_legal(row):
            return row
    return None


def _pairs(names, row):
    return {((a, row[a]), (b, row[b])) for a, b in itertools.combinations(names, 2)}


def each_value(rows, turn, cost):
    """Some of the rows, in which each value of each factor is: others in each turn, and as few as can be that cost."""
    rows = rows[turn * 7 % len(rows) :] + rows[: turn * 7 % len(rows)]
    left = {item for row in rows for item in row.items()}
    found = []
    while left:
        useful = [row for row in rows if left & set(row.items())]
        best = max(useful, key=lambda row: len(left & set(row.items())) - 3 * cost(row))
        found.append(best)
        left -= set(best.items())
    return found
