"""When labels are read: where that costs no waiting, or where the caller asked for it."""

import numpy as np
import pytest

from seqloss.core import labels
from seqloss.core.argument import Argument


class OnADevice:
    """What a backend says about an array that lies on an accelerator."""

    def __init__(self, location):
        self._location = location

    def location(self, x):
        return self._location


@pytest.mark.parametrize(
    "location, free, waiting", [("host", True, True), ("device", False, True), ("traced", False, False)]
)
def test_labels_on_a_device_are_read_only_if_somebody_waits(location, free, waiting):
    argument = Argument("targets", np.zeros(2, int), OnADevice(location), (2,), "int64")
    assert labels.is_readable(argument) is free
    assert labels.is_readable(argument, sync=True) is waiting
