"""The names, signatures and gradients of TensorFlow 1.15 and TensorFlow Addons 0.23, for code that moves here.

They are the losses and nothing else, so they are imported together with TensorFlow, not in place of it::

    import tensorflow.compat.v1 as tf
    from seqloss.compat import tf1, tfa

    loss = tf1.contrib.seq2seq.sequence_loss(logits, targets, tf.cast(mask, tf.float32))

Both work on the arrays of every framework. What they keep and what they do not is listed in the migration guide.
"""
