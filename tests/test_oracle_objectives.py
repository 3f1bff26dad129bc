"""The oracle of the options, against what they are by definition: a divergence, differences, one-hot labels."""

import numpy as np
import pytest

from seqloss.testing.oracle import WIDE
from seqloss.testing.oracle_objectives import Objective, tokens

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (6, 7))
LOGITS[1, 2] = -np.inf
TARGETS = np.array([0, 3, 6, 2, 5, 1])
CLASS_WEIGHTS = np.array([0.5, 2, 1, 0, 1.5, 1, 0.25])
PRIOR = np.array([1, 0, 2, 0.5, 3, 1, 1.0])

OBJECTIVES = {
    "plain": Objective(),
    "smoothed": Objective(0.1),
    "smoothed with a prior": Objective(0.1, prior=PRIOR),
    "off target": Objective(0.2, off_target=True),
    "off target, centred, without class 4": Objective(0.2, off_target=True, centred=True, exclude=(4,)),
    "class weights": Objective(class_weights=CLASS_WEIGHTS),
    "smoothed, with class weights": Objective(0.1, class_weights=CLASS_WEIGHTS),
    "z-loss": Objective(z_loss=1e-2),
    "soft cap": Objective(softcap=2.0),
    "all": Objective(0.1, prior=PRIOR, class_weights=CLASS_WEIGHTS, z_loss=1e-2, softcap=2.0),
}
SOFT = [name for name, objective in OBJECTIVES.items() if not (objective.off_target or objective.centred)]


def one_hot(targets):
    return np.eye(LOGITS.shape[-1])[targets]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_those_of_the_loss(name):
    z, step = np.where(np.isinf(LOGITS), LOGITS, LOGITS.astype(WIDE)), WIDE(1e-6)
    direction = RNG.normal(size=z.shape)
    ends = [tokens(z + sign * step * direction, TARGETS, OBJECTIVES[name]).loss for sign in (1, -1)]
    slope = tokens(z, TARGETS, OBJECTIVES[name]).dlogits
    np.testing.assert_allclose(
        ((ends[0] - ends[1]) / (2 * step)).astype(float), (slope * direction).sum(-1).astype(float)
    )


@pytest.mark.parametrize("name", SOFT)
def test_gradients_of_soft_labels(name):
    labels, step, objective = RNG.uniform(0.1, 1, LOGITS.shape).astype(WIDE), WIDE(1e-6), OBJECTIVES[name]
    labels[1, 2] = 0
    direction = RNG.normal(size=LOGITS.shape) * np.isfinite(LOGITS)
    ends = [tokens(LOGITS, labels + sign * step * direction, objective) for sign in (1, -1)]
    found = tokens(LOGITS, labels, objective)
    for field, slopes in (("loss", found.dlabels), ("units", found.dunits)):
        difference = (getattr(ends[0], field) - getattr(ends[1], field)) / (2 * step)
        expected = (np.where(direction == 0, 0, slopes) * direction).sum(-1)
        np.testing.assert_allclose(difference.astype(float), expected.astype(float), rtol=1e-9)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_labels_are_one_hot(name):
    one, other = tokens(LOGITS, TARGETS, OBJECTIVES[name]), tokens(LOGITS, one_hot(TARGETS), OBJECTIVES[name])
    for field in ("loss", "units", "dlogits"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_a_centred_loss_is_a_divergence():
    """From the smoothed labels to the model: 0 where they agree, and more elsewhere."""
    objective = OBJECTIVES["off target, centred, without class 4"]
    assert (tokens(LOGITS, TARGETS, objective).loss > 0).all()
    q = np.full(7, 0.2 / 5)
    q[0], q[4] = 0.8, 0
    with np.errstate(divide="ignore"):
        agreed = tokens(np.log(q)[None], np.array([0]), objective)
    np.testing.assert_allclose(agreed.loss.astype(float), 0, atol=1e-15)
    np.testing.assert_allclose(agreed.dlogits.astype(float), 0, atol=1e-15)


def test_what_is_impossible_is_not_smoothed_with():
    smoothed = tokens(LOGITS, TARGETS, OBJECTIVES["smoothed"])
    assert np.isfinite(smoothed.loss).all() and smoothed.dlogits[1, 2] == 0
    alone = tokens(LOGITS[1:2], TARGETS[1:2], Objective(0.1, exclude=(0, 1, 3, 4, 5, 6)))
    plain = tokens(LOGITS[1:2], TARGETS[1:2], Objective())
    np.testing.assert_array_equal(alone.loss, plain.loss)


def test_bad_rows_and_labels():
    z, y = LOGITS.copy(), TARGETS.copy()
    z[0, 3], z[2], z[3, 0], y[4], y[5] = np.nan, -np.inf, np.inf, -1, 7
    found = tokens(z, y, OBJECTIVES["smoothed"])
    np.testing.assert_array_equal(np.isnan(found.loss), [True, False, True, True, True, True])
    np.testing.assert_array_equal(np.isnan(found.dlogits).all(-1), [True, False, True, True, True, True])
