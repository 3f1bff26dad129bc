"""One package per framework, all with the same rooms: ``ops`` and ``cross_entropy``.

Nothing is imported here: a backend is loaded by :mod:`seqloss.core.dispatch` when the first array of its
framework arrives.
"""
