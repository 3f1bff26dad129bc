"""Which conventions a number fits, and how easily it would fit one by chance.

A number fits a convention if they differ by less than ``tolerance``. What that is worth says ``chance``, which is at
least the probability that a number which has nothing to do with any convention comes as close to one of them. Such a
number is somewhere around the other loss: no nearer than it is seen to be, and beyond that at the distance at which
conventions lie most densely, but for those that give the other loss too: there the two would be the same. Many causes
change a loss by little, and so does any small mistake. Each convention is allowed a part of the accidents by its
weight: rare causes and pairs of causes have to fit more closely.
"""

from typing import Any, NamedTuple

import numpy as np

from seqloss.testing.explain.digits import Number
from seqloss.testing.explain.values import Convention, Values
from seqloss.testing.tolerances import PRECISION

Array = Any

WINDOWS = 2.0 ** np.arange(0, 24)
"""How far around the other loss an unrelated number may lie, in distances at which this one lies."""

SMALLEST_WINDOW = 1e-6

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


def readings(number: Number, other: Number, values: Values, allowed: float) -> list[Reading]:
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
    centre = other.value if other.telling else number.value
    with np.errstate(all="ignore"):
        elsewhere = np.abs(values.losses / centre - 1) > allowed
    around = density(number.value, centre, values.losses[elsewhere], values.weights[elsewhere])
    found = []
    for i in near[distances[near] <= rival]:
        distance = max(float(distances[i]), floor)
        by_chance = distance * around / float(values.weights[i]) + COARSE * float(values.grains[i])
        found.append(Reading(values.conventions[i], int(values.costs[i]), distance, by_chance))
    return found


def density(value: float, centre: float, pool: Array, weights: Array) -> float:
    """The weight of the pool in an interval around the centre, by its width: in the worst interval with the value."""
    usable = np.isfinite(pool) & (pool * centre > 0)
    gaps = np.abs(np.log(pool[usable] / centre))
    least = abs(np.log(value / centre)) if value * centre > 0 else 1.0
    windows = max(least, SMALLEST_WINDOW) * WINDOWS
    order = np.argsort(gaps)
    inside = np.searchsorted(gaps[order], windows, side="right")
    totals = np.concatenate([[0.0], np.cumsum(weights[usable][order])])
    return float((totals[inside] / windows).max())


def alike(value: float, values: Values) -> list[Convention]:
    """The conventions of at most one cause that give a zero, a NaN or an infinity as well."""
    same = (values.losses == value) | (np.isnan(values.losses) & np.isnan(value))
    return [values.conventions[i] for i in np.flatnonzero(same & (values.costs <= 1))]
