"""Record the loss of a model on TensorFlow 1.15: the old program of the port in docs/parity.md.

It needs Python 3.7, TensorFlow 1.15 and seqloss_golden_writer.py in the same folder:

    python -m seqloss golden writer examples/port    # on a current Python; the file only needs NumPy
    python examples/port/record_tf1.py               # on the old one
"""

import os

import numpy as np
import seqloss_golden_writer
import tensorflow as tf

BATCH, TIME, CLASSES, UNITS = 6, 9, 23, 16
LENGTHS = [9, 6, 4, 7, 2, 5]

# Sentences that can be learned: each word has three possible next words. Padding is word 0.
random = np.random.RandomState(7)
words = np.zeros((BATCH, TIME + 1), np.int32)
words[:, 0] = random.randint(1, CLASSES, BATCH)
for step in range(TIME):
    words[:, step + 1] = (words[:, step] * 5 + random.randint(0, 3, BATCH)) % (CLASSES - 1) + 1
words[np.arange(TIME + 1) > np.array(LENGTHS)[:, None]] = 0

tf.set_random_seed(7)
lengths = tf.constant(LENGTHS)
targets = tf.constant(words[:, 1:])
embedding = tf.get_variable("embedding", [CLASSES, UNITS])
embedded = tf.nn.embedding_lookup(embedding, words[:, :-1])
outputs, _ = tf.nn.dynamic_rnn(tf.nn.rnn_cell.GRUCell(UNITS), embedded, sequence_length=lengths, dtype=tf.float32)
logits = tf.layers.dense(outputs, CLASSES)
weights = tf.sequence_mask(lengths, TIME, dtype=tf.float32)

loss = tf.contrib.seq2seq.sequence_loss(logits, targets, weights)
token_losses = tf.contrib.seq2seq.sequence_loss(
    logits, targets, weights, average_across_timesteps=False, average_across_batch=False
)
(dlogits,) = tf.gradients(loss, logits)
train = tf.train.AdamOptimizer(0.05).minimize(loss)

with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)) as session:
    session.run(tf.global_variables_initializer())
    for _ in range(8):
        session.run(train)
    inputs = {"logits": logits, "targets": targets, "weights": weights}
    results = {"loss": loss, "dlogits": dlogits, "token_losses": token_losses}
    # One run, so that all arrays are of the same step: a graph has no values outside a session.
    inputs, results = session.run([inputs, results])

path = seqloss_golden_writer.write(
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "tf1_model"),
    inputs,
    results,
    flags={"average_across_timesteps": True, "average_across_batch": True},
    note="tf.contrib.seq2seq.sequence_loss of a GRU after 8 steps of training",
    device="cpu",
    overwrite=True,
)
print(f"loss {results['loss']:.6f} in {path.name}")
