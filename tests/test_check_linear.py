"""check_loss of losses that make the logits themselves: right ones hold, and each mistake is noticed."""

import numpy as np
import pytest
import wrong_linear

import seqloss
from seqloss.testing import check_loss
from seqloss.testing.invariants import LINEAR_INVARIANTS

CONVENTIONS = {"arguments": ("hidden", "kernel", "targets", "weights"), "gradient": "returned"}
NAMES = [*LINEAR_INVARIANTS, "padding", "one_hot", "split_batches"]


def noticed(loss, **how):
    check = check_loss(loss, backend="numpy", conventions=CONVENTIONS | how, invariants=NAMES)
    return {f.invariant for f in check.findings if f.verdict == "violated"}, check


def test_right_loss_holds():
    violated, check = noticed(wrong_linear.linear)
    assert not violated, check.report()


@pytest.mark.parametrize("mistake", wrong_linear.WRONG)
def test_mistake_is_noticed(mistake):
    violated, check = noticed(wrong_linear.wrong(mistake))
    assert wrong_linear.WRONG[mistake] <= violated, check.report()


def test_violation_shows_the_layer():
    _, check = noticed(wrong_linear.wrong("nan_times_0"))
    (finding,) = [f for f in check.findings if f.invariant == "masked_hidden"]
    assert list(finding.example) == ["what", "expected", "got", "hidden", "kernel", "targets", "weights"]


def test_embedding_by_keyword():
    def turned(targets, weights, *, embedding, hidden):
        loss, (to_hidden, to_kernel) = wrong_linear.linear(hidden, embedding.T, targets, weights)
        return loss, (to_hidden, to_kernel.T)

    arguments = ("targets", "weights", "embedding=embedding", "hidden=hidden")
    violated, check = noticed(turned, arguments=arguments)
    assert not violated, check.report()


def test_library_holds(framework_name):
    check = check_loss(seqloss.linear_sequence_loss, backend=framework_name, modes=(), invariants=NAMES)
    assert check.holds, check.report()
    assert [f.verdict for f in check.findings if f.invariant == "kernel_gradients"] == ["holds"]


def test_loss_of_logits_has_no_kernel():
    (finding,) = check_loss(seqloss.sequence_loss, backend="numpy", invariants=["masked_hidden"]).findings
    assert (finding.verdict, finding.detail) == ("not applicable", "the loss takes logits")


@pytest.mark.parametrize("arguments", [("hidden", "targets"), ("logits", "kernel", "targets"), ("kernel", "targets")])
def test_half_a_layer_is_refused(arguments):
    with pytest.raises(seqloss.OptionError, match="in the place of logits hidden"):
        check_loss(np.sum, backend="numpy", conventions={"arguments": arguments})


def test_gradients_that_are_no_tuple_are_refused():
    def loss(*arrays):
        return wrong_linear.linear(*arrays)[0], arrays[0]

    with pytest.raises(seqloss.OptionError, match="gradients as a tuple"):
        noticed(loss)
