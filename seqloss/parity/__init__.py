"""``python -m seqloss parity``: the loss and gradient of one real batch in every installed backend, compared.

``cli`` is the command; ``text``, ``bigram`` and ``batch`` make the input, ``functions`` and ``inputs`` that of another
function; ``compute`` is what each backend does in a process of its own; ``judge`` compares with the reference;
``report`` and ``figures`` say what came out.
"""
