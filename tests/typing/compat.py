"""Checked by mypy, never run: what stands in for a function has its signature, and refuses what that refuses."""

from typing import Any, assert_type

from seqloss.compat import tf1
from seqloss.samplers import SampledValues

LOGITS: Any = None
LABELS: Any = None

tf1.losses.sparse_softmax_cross_entropy(LABELS, logits=LOGITS, reduction="none")
tf1.losses.sparse_softmax_cross_entropy(LABELS)  # type: ignore[call-arg]  # no logits
tf1.losses.sparse_softmax_cross_entropy(LABELS, LOGITS, label_smoothing=0.1)  # type: ignore[call-arg]  # of others
tf1.losses.sigmoid_cross_entropy(LABELS, LOGITS, label_smoothing="a")  # type: ignore[arg-type]
tf1.losses.softmax_cross_entropy(LABELS, LOGITS, label_smoothing="a")  # type: ignore[arg-type]
tf1.contrib.legacy_seq2seq.sequence_loss([LOGITS], [LABELS], [1.0], average_across_batch=3)  # type: ignore[arg-type]
tf1.nn.nce_loss(LOGITS, LOGITS, LABELS, LOGITS, 2, 3, seed=1)  # type: ignore[call-arg]  # TensorFlow has none

assert_type(tf1.nn.uniform_candidate_sampler(LABELS, 1, 2, unique=True, range_max=3), SampledValues)
