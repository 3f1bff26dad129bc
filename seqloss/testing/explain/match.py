"""Which conventions a number fits, and how easily it would fit one by chance.

A number fits a convention if they differ by less than ``tolerance``. How much that is worth is said by ``chance``,
which is at least the probability that an unrelated number comes as close to one of the conventions. Nobody knows where
an unrelated number is, so the worse of two guesses counts. It is somewhere around the other loss, by any factor up to
any limit that is not below what is seen; many causes change a loss by little, and so does any small mistake. Or it is
somewhere in a range of a factor e to either side, wherever conventions are most dense. Its sign counts: positive
numbers meet positive losses. Conventions that give the other loss too are left out, because there the two would be the
same, and around it those that are as large, which is no accident either. Each convention is allowed a share of the
accidents by its weight: rare causes and pairs of causes have to fit more closely.
"""

from typing import Any, NamedTuple

import numpy as np

from seqloss.testing.explain.digits import Number
from seqloss.testing.explain.values import Convention, Values
from seqloss.testing.tolerances import PRECISION

Array = Any

NEAREST = 1e-6
"""No unrelated number is expected to lie closer than this, relatively, to the other loss."""

COARSE = 0.01
"""How likely it is, beforehand, that a number which fits nothing has been through half precision all the same.

Such numbers are few, so that they agree by chance."""

WIDEST = 1e-2
RIVAL, RIVAL_UNITS = 10.0, 4.0
"""A worse fit is a rival of the best one within so many times its distance, or so many units of the number's digits."""


LIKELY = 2.5e-4
"""The largest chance of an agreement by accident at which a cause is named."""

MANY = 24
"""A number that fits more has so few digits that the likely and the simple ones say it all."""


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
        return _alike(number.value, values)
    floor = max(number.resolution, PRECISION["float64"].epsilon)
    with np.errstate(all="ignore"):
        distances = np.abs(values.losses / number.value - 1)
    near = np.flatnonzero(distances <= np.minimum(allowed * values.gains, max(allowed, WIDEST)))
    if not near.size:
        return []
    rival = max(RIVAL * distances[near].min(), RIVAL_UNITS * floor)
    around = density(number.value, other.value, values.losses, values.weights, allowed)
    found = []
    for i in near[distances[near] <= rival]:
        distance = max(float(distances[i]), floor)
        by_chance = distance * around / float(values.weights[i]) + COARSE * float(values.grains[i])
        found.append(Reading(values.conventions[i], int(values.costs[i]), distance, by_chance))
    return sorted(found, key=lambda reading: (reading.chance > LIKELY, reading.cost))[:MANY]


def density(value: float, other: float, pool: Array, weights: Array, allowed: float) -> float:
    """The weight of what an unrelated number may meet in an interval, by half its width: in the worst one there is."""
    with np.errstate(all="ignore"):
        places = np.log(np.abs(pool))
        met = np.isfinite(places) & (np.sign(pool) == np.sign(value))
        as_large = np.abs(np.abs(pool / other) - 1) <= allowed
    apart = met & ~as_large
    if np.sign(value) == np.sign(other):
        met = apart
    return max(_somewhere(places[met], weights[met]), _around(np.log(abs(value)), other, places[apart], weights[apart]))


def _somewhere(places: Array, weights: Array) -> float:
    order = np.argsort(places)
    places, upto = places[order], np.concatenate([[0.0], np.cumsum(weights[order])])
    ends = np.searchsorted(places, places + 2, side="right")
    return float((upto[ends] - upto[:-1]).max(initial=0.0))


def _around(value: float, other: float, places: Array, weights: Array) -> float:
    if not (np.isfinite(other) and other):
        return 0.0
    centre = np.log(abs(other))
    gaps = np.abs(places - centre)
    order = np.argsort(gaps)
    widths = np.maximum(gaps[order], max(abs(value - centre), NEAREST))
    return float((np.cumsum(weights[order]) / widths).max(initial=0.0))


def _alike(value: float, values: Values) -> list[Reading]:
    """The conventions of at most one cause that give a zero, a NaN or an infinity as well, which is worth nothing."""
    same = (values.losses == value) | (np.isnan(values.losses) & np.isnan(value))
    simple = np.flatnonzero(same & (values.costs <= 1))
    return [Reading(values.conventions[i], int(values.costs[i]), 0.0, 1.0) for i in simple]
