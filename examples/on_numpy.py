"""The loss of two padded sequences and its gradient, on NumPy arrays."""

import numpy as np

import seqloss

logits = np.array(
    [[[2, 0, 0], [0, 3, 0], [0, 0, 1]], [[0, 0, 4], [0, 0, 0], [0, 0, 0]]],
    dtype="float32",
)
targets = np.array([[0, 1, 2], [2, -100, -100]])  # -100 is padding
weights = seqloss.sequence_mask(np.array([3, 1]), maxlen=3)
loss, gradient = seqloss.sequence_loss_and_grad(logits, targets, weights)
first = [f"{g:.4f}" for g in gradient[0, 0]]
print(f"loss {loss:.4f}, gradient at the first token", first)

# Output:
# loss 0.2305, gradient at the first token ['-0.0533', '0.0266', '0.0266']
