"""The TensorFlow backend."""

# Together these modules are the backend: seqloss.core.protocol.Backend lists the names, and mypy compares them.
from seqloss.backends.tensorflow.cross_entropy import *  # noqa: F403
from seqloss.backends.tensorflow.execution import *  # noqa: F403
from seqloss.backends.tensorflow.linear import *  # noqa: F403
from seqloss.backends.tensorflow.ops import *  # noqa: F403
from seqloss.backends.tensorflow.sigmoid import *  # noqa: F403
from seqloss.backends.tensorflow.softmax import *  # noqa: F403
from seqloss.backends.tensorflow.sums import *  # noqa: F403
