"""Packed sentences instead of padding: the same loss, and gradients with the same bits."""

import common
import numpy as np

import seqloss

if __name__ == "__main__":
    parts, tokens = next(common.batches(1))
    targets = np.concatenate([part[2] for part in parts])
    lengths = (targets != common.PAD).sum(1)
    logits = np.random.default_rng(0).normal(size=(*targets.shape, common.CLASSES)).astype("float32")
    padded, slope = seqloss.sequence_loss_and_grad(logits, targets, lengths=lengths, exact=True)

    kept = targets != common.PAD
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)])
    packed, packed_slope = seqloss.sequence_loss_and_grad(
        logits[kept], targets[kept], cu_seqlens=cu_seqlens, exact=True
    )
    print(f"padded: {targets.size:,} positions, loss {padded:.6f}")
    print(f"packed: {tokens:,} positions, loss {packed:.6f}")
    print(f"gradients: {int((slope[kept] != packed_slope).sum())} of {packed_slope.size:,} numbers differ")

# Output:
# padded: 4,096 positions, loss 6.051556
# packed: 1,418 positions, loss 6.051556
# gradients: 0 of 363,008 numbers differ
