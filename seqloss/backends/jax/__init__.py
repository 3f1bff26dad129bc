"""The JAX backend."""

# Together these modules are the backend: seqloss.core.protocol.Backend lists the names, and mypy compares them.
from seqloss.backends.jax.cross_entropy import *  # noqa: F403
from seqloss.backends.jax.execution import *  # noqa: F403
from seqloss.backends.jax.linear import *  # noqa: F403
from seqloss.backends.jax.ops import *  # noqa: F403
from seqloss.backends.jax.sigmoid import *  # noqa: F403
from seqloss.backends.jax.softmax import *  # noqa: F403
from seqloss.backends.jax.sums import *  # noqa: F403
