"""Whether a loss can be called as its conventions say, before anything is checked."""

import numpy as np

from seqloss.core.errors import OptionError
from seqloss.testing.check.adapted import Adapted
from seqloss.testing.check.answers import PlainCall
from seqloss.testing.check.averages import objective
from seqloss.testing.invariants import Subject
from seqloss.testing.invariants.batches import draw
from seqloss.testing.invariants.probe import Probe


def try_out(adapted: Adapted, name: str, shell: bool) -> None:
    """One plain call: for a loss that is not called as the conventions say, invariants make no sense.

    ``shell``: errors speak of options of the command line.
    """
    conventions = adapted.conventions
    asked = Subject(
        adapted.called,
        weights=conventions.weights,
        ignore_label=conventions.ignore_label,
        objective=objective(conventions),
    )
    probe = Probe(asked, "")
    batch = probe.drawn(draw, np.random.default_rng(0))
    arrays = adapted.arrays.given(*probe.fit(batch._replace(weights=np.ones_like(batch.weights))))
    call = PlainCall(name, adapted.loss, conventions, adapted.driver, arrays, shell)
    try:
        with np.errstate(all="ignore"):
            said = adapted.called(*arrays)
    except (Exception, SystemExit) as error:  # whatever a loss makes of arrays that it does not expect
        raise OptionError(call.failed(error)) from error
    call.check(said)
