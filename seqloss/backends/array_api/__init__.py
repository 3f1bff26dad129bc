"""A backend for every framework whose arrays follow the Array API standard (2023.12) and that has no backend here.

It computes with the functions of the standard only, on whole arrays. A framework for which blocks pay off, or that
differentiates, needs a backend of its own. What is natural for a plain framework comes from
:mod:`seqloss.backends.base`.
"""

from seqloss.backends import base
from seqloss.backends.array_api.cross_entropy import *  # noqa: F403
from seqloss.backends.array_api.ops import *  # noqa: F403
from seqloss.backends.array_api.sigmoid import *  # noqa: F403
from seqloss.backends.array_api.softmax import *  # noqa: F403

base.complete(__name__)
