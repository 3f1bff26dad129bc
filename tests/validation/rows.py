"""The one table of calls that must raise."""

from rows_of_arrays import DTYPES, OBJECTS, SHAPES
from rows_of_families import WEIGHTED, WITH_LOGITS
from rows_of_legacy import LEGACY
from rows_of_linear import LINEAR
from rows_of_objectives import OBJECTIVES
from rows_of_options import CUSTOM, GRADIENTS, OPTIONS
from rows_of_packed import PACKED_INPUT, SHIFTED
from rows_of_sampling import SAMPLING
from rows_of_soft_targets import SOFT_TARGETS
from rows_of_values import BACKENDS, LABELS, MASKS, TOKENS

ROWS = (
    *SHAPES,
    *DTYPES,
    *OPTIONS,
    *OBJECTS,
    *LABELS,
    *CUSTOM,
    *GRADIENTS,
    *TOKENS,
    *MASKS,
    *BACKENDS,
    *LEGACY,
    *SAMPLING,
    *WITH_LOGITS,
    *WEIGHTED,
    *OBJECTIVES,
    *SOFT_TARGETS,
    *PACKED_INPUT,
    *SHIFTED,
    *LINEAR,
)
