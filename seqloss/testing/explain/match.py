"""Which conventions a number fits, and how easily it would fit one by chance.

A number fits a convention if they differ by less than ``tolerance``. What that is worth says ``chance``: how many of
the conventions that were tried are expected to come as close as this one did to a number that has nothing to do with
them. It is the relative distance times their density, taken where they are densest, from the whole table down to
one part in ten thousand around the number: many causes change a loss by little, and so does any small mistake.
"""

from typing import Any, NamedTuple

import numpy as np

from seqloss.testing.explain.digits import Number
from seqloss.testing.explain.values import Convention, Values
from seqloss.testing.tolerances import PRECISION

Array = Any

WINDOWS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
E_FOLDS = 10.0
"""Losses under all conventions spread over some five orders of magnitude, e**10."""

COARSE = 0.01
"""How likely it is, beforehand, that a number which fits nothing has been through half precision all the same.

Such numbers are few, so that they agree by chance."""

WIDEST = 1e-2
RIVAL, RIVAL_UNITS = 10.0, 4.0
"""A worse fit is a rival of the best one within so many times its distance, or so many units of the number's digits."""


class Reading(NamedTuple):
    """A convention that gives a number."""

    convention: Convention
    cost: int
    distance: float
    chance: float


def tolerance(number: Number, values: Values, dtype: str, rtol: float | None) -> float:
    """The relative error of a number that was computed as it should.

    Half a unit of its last digit; two units of the dtype that was computed in for each token loss, at the size of what
    it is made of; and the square root of the number of tokens of such units for adding them up.
    """
    if rtol is not None:
        return rtol
    compute = "float64" if number.kind == dtype == "float64" else "float32"
    error = PRECISION[compute].epsilon * (2 * values.spread + values.tokens**0.5)
    return number.resolution + float(min(error, WIDEST))


def readings(number: Number, values: Values, allowed: float) -> list[Reading]:
    """The conventions that a number fits, but for those that fit far worse than another one."""
    if not number.telling:
        return []
    floor = max(number.resolution, PRECISION["float64"].epsilon)
    with np.errstate(all="ignore"):
        distances = np.abs(values.losses / number.value - 1)
    near = np.flatnonzero(distances <= allowed)
    if not near.size:
        return []
    rival = max(RIVAL * distances[near].min(), RIVAL_UNITS * floor)
    pools = {cost: values.losses[values.costs <= cost] for cost in set(values.costs[near].tolist())}
    found = []
    for i in near[distances[near] <= rival]:
        cost, distance = int(values.costs[i]), max(float(distances[i]), floor)
        by_chance = chance(number.value, distance, pools[cost], allowed) + COARSE * float(values.grains[i])
        found.append(Reading(values.conventions[i], cost, distance, by_chance))
    return found


def chance(value: float, distance: float, pool: Array, allowed: float) -> float:
    """The number of losses of the pool that come as close to an unrelated value, on average."""
    pool = pool[np.isfinite(pool) & (pool * value > 0)]
    gaps = np.abs(np.log(np.abs(pool / value)))
    others = gaps[gaps > allowed]
    densest = max(float((others < window).sum()) / window for window in WINDOWS)
    return distance * max(densest, len(pool) / E_FOLDS)


def alike(value: float, values: Values) -> list[Convention]:
    """The conventions of at most one cause that give a zero, a NaN or an infinity as well."""
    same = (values.losses == value) | (np.isnan(values.losses) & np.isnan(value))
    return [values.conventions[i] for i in np.flatnonzero(same & (values.costs <= 1))]
