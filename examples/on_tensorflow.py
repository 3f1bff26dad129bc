"""The loss of two padded sequences and its gradient, on TensorFlow tensors."""

import tensorflow as tf

import seqloss

logits = tf.Variable(
    [[[2.0, 0, 0], [0, 3, 0], [0, 0, 1]], [[0, 0, 4], [0, 0, 0], [0, 0, 0]]],
)
targets = tf.constant([[0, 1, 2], [2, -100, -100]])  # -100 is padding
weights = seqloss.sequence_mask(tf.constant([3, 1]), maxlen=3)
with tf.GradientTape() as tape:
    loss = seqloss.sequence_loss(logits, targets, weights)
gradient = tape.gradient(loss, logits)
first = [f"{g:.4f}" for g in gradient[0, 0]]
print(f"loss {float(loss):.4f}, gradient at the first token", first)

# Output:
# loss 0.2305, gradient at the first token ['-0.0533', '0.0266', '0.0266']
