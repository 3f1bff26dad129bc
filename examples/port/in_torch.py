"""The loss of record_tf1.py on PyTorch: first with a wrong denominator, then with the right one."""

from pathlib import Path

import torch
import torch.nn.functional as F

import seqloss
from seqloss.testing import compare, explain_mismatch, golden

recorded = golden.read(Path(__file__).with_name("tf1_model"))


def wrong(logits, targets, weights):
    nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), reduction="none")
    return (nll * weights.flatten()).mean()  # over all positions, padding included


def fixed(logits, targets, weights):
    return seqloss.sequence_loss(logits, targets, weights)


def results(logits, targets, weights):
    loss = fixed(logits.requires_grad_(), targets, weights)
    loss.backward()
    return {"loss": loss, "dlogits": logits.grad}


inputs = {name: torch.tensor(array) for name, array in recorded.inputs.items()}
mine, theirs = wrong(**inputs), recorded.results["loss"]
print(compare(mine, theirs, name="wrong").report())
print()
print(explain_mismatch(mine, theirs, inputs).report())
print()
for found in golden.check(recorded, results, backend="torch").values():
    print(found.report().splitlines()[0])

# Output:
# wrong: DIFFERENT: 1 of 1 entry differs by more than 40 ULP of float32
#   actual    torch.Tensor float32 [] on cpu
#   expected  numpy.ndarray float32 [] on cpu
#   first     it is 0.755946994, expected 1.23700404: 4.035e+06 ULP, 40 allowed
#   values    ULP of float32: max 4.035e+06, p99 4.035e+06, median 4.035e+06; relative to the largest: 0.389
#
# mine    0.7559469938278198
# theirs   1.237004041671753
#
# mean over padding: mine divides by the number of positions, batch * time, padding included.
#     In mine: divide by the sum of the weights.
#
# Likely. Unrelated numbers would fit one of 359 conventions this closely once in 5e+05 cases.
#
# loss: same: 1 entry agrees within 40 ULP of float32
# dlogits: same: 1,242 entries agree within 40 ULP of float32
