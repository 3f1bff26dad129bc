"""Losses of TensorFlow on two logical CPUs, of replicas and of DTensors: see ``test_tf_strategies.py``."""

import sys

import numpy as np
import tensorflow as tf
from programs import save, tried
from split_batch import OPTIONS, arrays, compared, expected
from tensorflow.experimental import dtensor

import seqloss

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
# One of each: two strategies of a process (TensorFlow 2.21) take the messages of one another.
STRATEGY = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
MESH = dtensor.create_mesh([("a", 2)], devices=["CPU:0", "CPU:1"])
Z, Y, W = arrays()
# The last half has no tokens.
EMPTY = W * (np.arange(len(W)) < len(W) // 2)[:, None]


def differentiated(z, *others, **options):
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = seqloss.sequence_loss(z, *others, **options)
    return loss, tape.gradient(loss, z)


# --- replicas ---------------------------------------------------------------------------------------------------------


def of_replicas(*values):
    """Each half of the batch for one replica."""
    halves = [np.split(x, 2) for x in values]

    def of_one(context):
        return tuple(tf.constant(x[context.replica_id_in_sync_group]) for x in halves)

    return STRATEGY.experimental_distribute_values_from_function(of_one)


def replica_row(mode, exact, weights=W, **options):
    def loss_of(z, y, w, count):
        return differentiated(z, y, w, reduction="sum", normalizer=count, exact=exact, **options)

    compiled = tf.function(loss_of, jit_compile=True) if mode == "xla" else loss_of

    def step(z, y, w):
        context = tf.distribute.get_replica_context()
        return compiled(z, y, w, context.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(w)))

    def run(values):
        return STRATEGY.run(step, args=values)

    loss, gradient = (run if mode == "eager" else tf.function(run))(of_replicas(Z, Y, weights))
    loss = STRATEGY.reduce(tf.distribute.ReduceOp.SUM, loss, axis=None)
    gradient = tf.concat(STRATEGY.experimental_local_results(gradient), 0)
    return compared((loss, gradient), expected(Z, Y, weights, **options))


def outside_row(argument):
    """What is said of the values of all replicas, in one place of a call."""
    (value,) = of_replicas({"logits": Z, "targets": Y, "weights": W}[argument])
    return seqloss.sequence_loss(**{"logits": tf.constant(Z), "targets": Y, "weights": W, argument: value})


# --- DTensors ---------------------------------------------------------------------------------------------------------

ANY = dtensor.UNSHARDED
LAYOUTS = {
    "batch": (["a", ANY, ANY], ["a", ANY]),
    "time": ([ANY, "a", ANY], [ANY, "a"]),
    "classes": ([ANY, ANY, "a"], [ANY, ANY]),
}


def put(x, specs):
    everywhere = dtensor.copy_to_mesh(tf.constant(x), dtensor.Layout([ANY] * x.ndim, MESH))
    return dtensor.relayout(everywhere, dtensor.Layout(specs, MESH))


def split(name):
    of_logits, of_tokens = LAYOUTS[name]
    return put(Z, of_logits), put(Y, of_tokens), put(W, of_tokens)


def whole(x):
    return dtensor.relayout(x, dtensor.Layout([ANY] * x.shape.rank, MESH)).numpy()


def layout_row(name, exact, **options):
    found = tf.function(lambda *a: differentiated(*a, exact=exact, **options))(*split(name))
    return compared([whole(x) for x in found], expected(Z, Y, W, **options))


def eager_row(call):
    return call(*split("batch"))


def variable_row():
    z, y, w = split("batch")
    return seqloss.sequence_loss(dtensor.DVariable(z), y, w)


def beside_row():
    """Plain logits, and targets that are a DTensor."""
    return seqloss.sequence_loss(tf.constant(Z), split("batch")[1], W)


def mended_row():
    """The call that the refusal names."""
    loss = tf.function(seqloss.sequence_loss)(*split("batch"))
    return {"off": abs(float(loss) - float(expected(Z, Y, W)[0])) / float(loss)}


def closed_over_row():
    """Labels of a DTensor that a graph closes over have no values that it can read."""
    z, y, w = split("batch")
    return tf.function(lambda z: seqloss.sequence_loss(z, y, w, check_labels=True))(z)


EAGER = {
    "sequence_loss": seqloss.sequence_loss,
    "exact": lambda *a: seqloss.sequence_loss(*a, exact=True),
    "labels to be read": lambda *a: seqloss.sequence_loss(*a, check_labels=True),
    "sequence_loss_and_grad": seqloss.sequence_loss_and_grad,
    "token_loss": lambda z, y, w: seqloss.token_loss(z, y),
    "sigmoid": lambda z, y, w: seqloss.sigmoid_cross_entropy_with_logits(labels=z, logits=z),
    "compute_weighted_loss": lambda z, y, w: seqloss.compute_weighted_loss(w, w),
    "next_token": lambda z, y, w: seqloss.next_token(y),
}


def rows():
    for mode in ("eager", "function", "xla"):
        yield f"replicas, {mode}", replica_row, (mode, True), {}
    yield "replicas, rounded", replica_row, ("function", False), {}
    yield "replicas, empty", replica_row, ("function", True, EMPTY), {}
    yield "replicas, smoothing and z", replica_row, ("function", True), OPTIONS["smoothing and z"]
    for argument in ("logits", "targets", "weights"):
        yield f"outside, {argument}", outside_row, (argument,), {}
    for name in LAYOUTS:
        yield f"layout, {name}", layout_row, (name, True), {}
    yield "layout, rounded", layout_row, ("batch", False), {}
    yield "layout, smoothing and z", layout_row, ("batch", True), OPTIONS["smoothing and z"]
    for name, call in EAGER.items():
        yield f"refused, {name}", eager_row, (call,), {}
    yield "refused, variable", variable_row, (), {}
    yield "refused, beside", beside_row, (), {}
    yield "mended", mended_row, (), {}
    yield "closed over", closed_over_row, (), {}


if __name__ == "__main__":
    found = {name: tried(function, *arguments, **options) for name, function, arguments, options in rows()}
    save(found, sys.argv[1])
