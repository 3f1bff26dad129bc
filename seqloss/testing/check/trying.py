"""Whether a loss is called as its conventions say, before anything is asked of it."""

import numpy as np

from seqloss.core.errors import OptionError
from seqloss.testing.check.adapted import Adapted
from seqloss.testing.check.text import option, spelled
from seqloss.testing.invariants import Subject
from seqloss.testing.invariants.probe import Probe, draw


def try_out(adapted: Adapted, name: str, shell: bool) -> None:
    """One plain call: a loss that is not called as the conventions say is no matter of invariants.

    ``shell``: errors speak of options of the command line.
    """
    conventions = adapted.conventions
    asked = Subject(adapted.called, weights=conventions.weights, ignore_label=conventions.ignore_label)
    batch = draw(np.random.default_rng(0))
    arrays = adapted.arrays.given(*Probe(asked, "").fit(batch._replace(weights=np.ones_like(batch.weights))))
    try:
        with np.errstate(all="ignore"):
            said = adapted.called(*arrays)
    except (Exception, SystemExit) as error:  # whatever a loss makes of arrays that it does not expect
        raise OptionError(
            f"{name} raised {type(error).__name__} for plain arrays of the shapes "
            f"{', '.join(str(tuple(x.shape)) for x in arrays)}: {error}; are these its conventions? "
            f"{spelled(conventions, shell)}"
        ) from error
    if adapted.returned and not (isinstance(said, (tuple, list)) and len(said) == 2):
        raise OptionError(
            f"{name} must return (loss, gradient) by its conventions, {option('gradient', 'returned', shell)}, "
            f"got {type(said).__name__}"
        )
    if conventions.returns == "sum_and_count":
        if not (isinstance(said, (tuple, list)) and len(said) == 2):
            raise OptionError(
                f"{name} must return (sum, count) by its conventions, {option('returns', 'sum_and_count', shell)}, "
                f"got {type(said).__name__}"
            )
        said = said[0]
    shape, tokens = tuple(np.shape(said[0]) if adapted.returned else said.shape), tuple(arrays[1].shape)
    layout, returns = conventions.layout, conventions.returns
    expected = tokens if returns == "tokens" else ()
    if shape != expected:
        others = {(): ("mean", "sum"), tokens: ("tokens",)}.get(shape)
        mend = "no convention has this shape, wrap the loss in a function that returns one number"
        if others is not None:
            mend = f"pass what it is, {' or '.join(option('returns', other, shell) for other in others)}"
        raise OptionError(
            f"{name} returned a loss of shape {shape}, expected {expected} for {option('returns', returns, shell)} "
            f"and {option('layout', layout, shell)}; {mend}"
        )
