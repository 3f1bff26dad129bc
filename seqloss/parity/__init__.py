"""``python -m seqloss parity``: the loss and gradient of one real batch in every installed backend, compared.

``cli`` is the command; ``text``, ``bigram`` and ``batch`` make the input; ``launch`` starts a ``worker`` for each
backend in a process of its own; ``judge`` compares with the reference; ``report`` prints.
"""
