"""The perplexity of an epoch: add the totals of batches, save them halfway, and read them back."""

import json

import common
import numpy as np

import seqloss


def logits_of(w, x, before):
    return np.tanh(w["a"][x] + w["b"][before]) @ w["kernel"] + w["bias"]


if __name__ == "__main__":
    w = common.weights()
    batches = [(logits_of(w, x, before), y) for parts, _ in common.batches(3) for x, before, y in parts]
    sums = [seqloss.loss_sum(logits, y, ignore_index=common.PAD, accuracy=True) for logits, y in batches]
    half, rest = sums[: len(sums) // 2], sums[len(sums) // 2 :]
    checkpoint = json.dumps(sum(half).to_dict())
    total = sum(rest, start=seqloss.LossSum.from_dict(json.loads(checkpoint)))
    print(f"{total.bits_per_token():.4f} bits per byte, perplexity {total.perplexity():.2f}")
    print(f"in the other order the same: {float(sum(sums[::-1]).mean()) == float(total.mean())}")
    means = [float(seqloss.sequence_loss(logits, y, ignore_index=common.PAD)) for logits, y in batches]
    print(f"the mean of the means of the batches would be {np.exp(np.mean(means)):.2f}")

# Output:
# 8.5716 bits per byte, perplexity 380.47
# in the other order the same: True
# the mean of the means of the batches would be 373.87
