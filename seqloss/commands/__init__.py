"""``python -m seqloss COMMAND``: what all commands share, and the commands other than ``parity``.

``backends`` chooses the frameworks; ``processes`` starts a ``worker`` for each job in a process of its own; ``report``
is what a command has to say, and ``render`` says it as text, JSON, Markdown, JUnit XML or HTML; ``output`` are the
options for that. ``streams``, ``files`` and ``signals`` are for what comes from outside: an output that cannot be
written, and a request to end.
"""
