"""One package per framework, all with the same modules; docs/architecture.md says what is where.

``array_api`` has fewer, because ``base`` has what is the same in every plain framework.

Nothing is imported here: a backend is loaded by :mod:`seqloss.core.dispatch` when the first array of its
framework arrives.
"""
