"""The names, signatures and gradients of TensorFlow 1.15 and TensorFlow Addons 0.23, for code that moves here.

Import what the old code called ``tf`` or ``tfa``::

    from seqloss.compat import tf1 as tf
    from seqloss.compat import tfa

Both work on the arrays of every framework. What they keep and what they do not is listed in the migration guide.
"""
