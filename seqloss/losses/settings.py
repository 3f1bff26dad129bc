"""The options of a sequence loss that can be checked before there is an array: in a call, or when an object is made."""

from collections.abc import Callable
from typing import Any, NamedTuple

from seqloss.core import objectives, options
from seqloss.losses import reduction as reductions
from seqloss.losses.beside import NOTHING_BESIDE, Beside
from seqloss.losses.objective import PLAIN, Objective, objective_of


class Settings(NamedTuple):
    """The options, checked except for their arrays."""

    plan: reductions.Plan
    check_labels: bool | None
    exact: bool
    objective: Objective
    more: Beside
    """Without what belongs to a batch: lengths and normalizer."""
    needs_ids: str | None
    """An option that goes with integer targets only."""


_USUAL = Settings(reductions.plan(True, True, False, False), None, False, PLAIN, NOTHING_BESIDE, None)
"""The settings of the default options, which most calls use."""


def settings(
    average_across_timesteps: Any,
    average_across_batch: Any,
    sum_over_timesteps: Any,
    sum_over_batch: Any,
    softmax_loss_function: Callable[..., Any] | None,
    name: Any,
    ignore_index: Any,
    label_smoothing: Any,
    class_weights: Any,
    z_loss: Any,
    softcap: Any,
    reduction: Any,
    check_labels: Any,
    exact: Any,
    has_normalizer: bool = False,
) -> Settings:
    """Check the options of :func:`seqloss.sequence_loss`, which have the same names here."""
    is_usual = average_across_timesteps is average_across_batch is True
    is_usual = is_usual and sum_over_timesteps is sum_over_batch is False
    is_usual = is_usual and softmax_loss_function is name is ignore_index is class_weights is softcap is None
    is_usual = is_usual and reduction is check_labels is None and exact is False and not has_normalizer
    if is_usual and type(label_smoothing) is type(z_loss) is float and label_smoothing == z_loss == 0:
        return _USUAL
    flags = (average_across_timesteps, average_across_batch, sum_over_timesteps, sum_over_batch)
    plan = _plan(flags, reduction, has_normalizer)
    checks = options.loss_options(softmax_loss_function, name, check_labels)
    is_exact = options.exact(exact, softmax_loss_function)
    objective, more = _objective(softmax_loss_function, label_smoothing, class_weights, z_loss, softcap)
    ignored = objectives.ignore_index(ignore_index)
    needs_ids = objectives.needing_ids(
        softmax_loss_function is not None, objective.off_target, objective.centred, ignored
    )
    return Settings(plan, checks, is_exact, objective, more.counting(ignored, None, None), needs_ids)


def _plan(flags: tuple[Any, ...], reduction: Any, has_normalizer: bool) -> reductions.Plan:
    name = None if reduction is None else objectives.reduction(reduction, options.bools(*flags))
    plan = reductions.plan(*options.flags(*flags)) if name is None else reductions.of_name(name)
    objectives.normalizer(has_normalizer, plan.is_scalar)
    return plan


def _objective(
    function: Callable[..., Any] | None, label_smoothing: Any, class_weights: Any, z_loss: Any, softcap: Any
) -> tuple[Objective, Beside]:
    """The loss of a token, and what arrays it has."""
    objective, more = objective_of(label_smoothing, class_weights, z_loss, softcap)
    if function is not None:
        given = {
            "label_smoothing": objective.eps > 0,
            "class_weights": class_weights is not None,
            "z_loss": objective.z_loss > 0,
            "softcap": softcap is not None,
        }
        objectives.beside_function(given)
    return objective, more
