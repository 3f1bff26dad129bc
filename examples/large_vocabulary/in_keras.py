"""A small language model in Keras. With ``fused`` it returns hidden states, and its loss takes the kernel too."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import common
import keras

import seqloss


class Model(keras.Model):
    def __init__(self, fused):
        super().__init__()
        self.fused = fused
        self.table = keras.layers.Embedding(common.CLASSES, common.FEATURES)
        self.head = keras.layers.Dense(common.CLASSES, use_bias=False)
        self.table.build()
        self.head.build((None, common.FEATURES))
        for layer, given in zip((self.table, self.head), common.weights(), strict=True):
            layer.set_weights([given])

    def call(self, x):
        hidden = keras.ops.tanh(self.table(x))
        return hidden if self.fused else self.head(hidden)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if self.fused:
            kernel = self.head.kernel.value
            return seqloss.linear_sequence_loss(y_pred, kernel, y, ignore_index=common.PAD, chunk=common.CHUNK)
        return seqloss.sequence_loss(y_pred, y, ignore_index=common.PAD)


def train(fused):
    model = Model(fused)
    model.compile(optimizer=keras.optimizers.SGD(common.RATE))
    x, targets = common.batch()
    return model.fit(x, targets, batch_size=len(x), epochs=common.STEPS, verbose=0).history["loss"][-1]


if __name__ == "__main__":
    common.compare(train)

# Output:
# never stored: loss 9.5010, 145 MiB
# logits stored: loss 9.5010, 550 MiB
