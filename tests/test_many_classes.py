"""Beyond 2**18 classes the grid of the sums has to grow: else their last bits depend on the order of the classes."""

import numpy as np
import pytest

import seqloss
from seqloss.testing import frameworks

CLASSES, LABEL = 2**20 + 3, 5


def pytest_generate_tests(metafunc):
    if "mode" not in metafunc.fixturenames:
        return
    names = metafunc.config.getoption("--backends").split(",")
    drivers = {name: frameworks.load(name) for name in names}
    pairs = [(name, mode) for name, driver in drivers.items() for mode in ("eager", *driver.COMPILED[:1])]
    metafunc.parametrize("name, mode", pairs)


def test_no_order_of_a_million_classes_changes_a_bit(name, mode):
    # Terms near 1, whose sum is near the limit of what adds up exactly, in float64, which shows its last bits.
    driver, rng = frameworks.load(name), np.random.default_rng(0)
    logits = rng.uniform(-1e-3, 0, CLASSES)
    others = np.delete(logits, LABEL)
    found = []
    with driver.precision("float64"):
        run = driver.MODES[mode](lambda z, y: seqloss.sequence_loss(z, y), (0,))
        for order in (np.arange(CLASSES - 1), rng.permutation(CLASSES - 1)):
            z = np.insert(others[order], LABEL, logits[LABEL])
            loss, _ = run([driver.array(z.reshape(1, 1, -1)), driver.array(np.array([[LABEL]]))], None)
            found.append(driver.to_numpy(loss).item().hex())
    assert found[0] == found[1]


@pytest.mark.parametrize("digits, differs", [(34, True), (32, False)])
def test_with_the_grid_of_fewer_classes_they_do_differ(digits, differs):
    large, rng = 1.5 * 2.0 ** (52 - digits), np.random.default_rng(0)
    terms = np.exp(rng.uniform(-1e-3, 0, CLASSES))
    coarse = (terms + large) - large
    one_by_one = [np.add.accumulate(x)[-1] for x in (coarse, coarse[rng.permutation(CLASSES)])]
    assert (one_by_one[0] != one_by_one[1]) == differs
