"""What seqloss costs: import time, the small call, memory kept for backward, the big batch.

``python -m benchmarks`` runs everything, prints tables and writes JSON. The rooms:

* ``__main__`` chooses the measures; each measure is one module (``import_time``, ``small``, ``saved``, ``large``) with
  ``collect`` (run it), ``report`` (say it), and functions that run in a process of their own;
* ``contenders`` holds who is measured: one module per framework, all with the same names;
* ``side_by_side`` times contenders against each other; ``split`` cuts the small torch call into stages;
  ``timing``, ``processes``, ``machine``, ``tables`` are the tools.

A further contender is one line in a ``CONTENDERS`` table, a further measure one module and one line in ``__main__``.
"""
