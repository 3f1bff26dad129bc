"""The loss of two padded sequences and its gradient, on PyTorch tensors."""

import torch

import seqloss

logits = torch.tensor(
    [[[2.0, 0, 0], [0, 3, 0], [0, 0, 1]], [[0, 0, 4], [0, 0, 0], [0, 0, 0]]],
    requires_grad=True,
)
targets = torch.tensor([[0, 1, 2], [2, -100, -100]])  # -100 is padding
weights = seqloss.sequence_mask(torch.tensor([3, 1]), maxlen=3)
loss = seqloss.sequence_loss(logits, targets, weights)
loss.backward()
first = [f"{g:.4f}" for g in logits.grad[0, 0]]
print(f"loss {loss.item():.4f}, gradient at the first token", first)

# Output:
# loss 0.2305, gradient at the first token ['-0.0533', '0.0266', '0.0266']
