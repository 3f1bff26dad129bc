"""The PyTorch backend."""

# Together these modules are the backend: seqloss.core.protocol.Backend lists the names, and mypy compares them.
from seqloss.backends.torch.cross_entropy import *  # noqa: F403
from seqloss.backends.torch.execution import *  # noqa: F403
from seqloss.backends.torch.linear import *  # noqa: F403
from seqloss.backends.torch.ops import *  # noqa: F403
from seqloss.backends.torch.sigmoid import *  # noqa: F403
from seqloss.backends.torch.softmax import *  # noqa: F403
from seqloss.backends.torch.sums import *  # noqa: F403
