"""What seqloss costs and how accurate it is, beside what one would use instead.

``python -m benchmarks`` measures, prints tables, writes JSON and draws pictures. The rooms:

* ``pages`` lists the measures, each one module (``import_time``, ``small``, ``saved``, ``large``, ``sweep``, ``cuda``,
  ``errors``, ``rate``) with ``collect`` (run it), ``report`` (say it), and functions that run in a process of their
  own;
* ``contenders`` holds who is timed: one module per framework, all with the same names; ``layers`` the same for the loss
  of a linear layer;
* ``side_by_side`` times contenders against each other, ``peak`` finds the memory they take; ``split`` cuts the small
  torch call into stages; ``timing``, ``processes``, ``machine``, ``tables``, ``plots`` are the tools;
* ``__main__`` runs what is wanted; ``pages`` puts figures that were kept into the documentation.

A further contender is one line in a ``CONTENDERS`` table, a further measure one module and one line in ``pages``.
"""
