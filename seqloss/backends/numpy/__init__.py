"""The NumPy backend, which is also the reference: it has no automatic differentiation and needs none."""

# Together these modules are the backend: seqloss.core.protocol.Backend lists the names, and mypy compares them.
from seqloss.backends.numpy.cross_entropy import *  # noqa: F403
from seqloss.backends.numpy.execution import *  # noqa: F403
from seqloss.backends.numpy.linear import *  # noqa: F403
from seqloss.backends.numpy.ops import *  # noqa: F403
from seqloss.backends.numpy.sigmoid import *  # noqa: F403
from seqloss.backends.numpy.softmax import *  # noqa: F403
from seqloss.backends.numpy.sums import *  # noqa: F403
