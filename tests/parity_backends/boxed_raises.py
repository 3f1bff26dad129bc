"""A backend whose kernel raises, with a message of two lines."""

from boxed_right import *  # noqa: F403  # every function of the right one that is not replaced below


def token_nll(logits, targets, active, dtype):
    raise ZeroDivisionError("the first line\nand the second")


def differentiable_softmax_nll(logits, labels, mass):
    raise ZeroDivisionError("the first line\nand the second")
