"""Calls of the sampled losses that must raise."""

import functools

import numpy as np
from row import FLOATS, IN_A_GRAPH, KINDS, PackedSequence, Raw, edited, like, row, static

from seqloss import ArgumentTypeError, DTypeError, LabelError, OptionError, ShapeError, UnreadableError, sampling

RNG = np.random.RandomState(5)
W, B = RNG.randn(7, 4).astype("float32"), RNG.randn(7).astype("float32")
Y, X = np.array([[3], [0], [5]], "int32"), RNG.randn(3, 4).astype("float32")
SAMPLED, TRUE, COUNTS = np.array([3, 1, 6], "int32"), like(X, 3, 1), like(X, 3)
ARRAYS = {"weights": W, "biases": B, "labels": Y, "inputs": X}
VALUES = {"sampled": SAMPLED, "true_expected": TRUE, "sampled_expected": COUNTS}
STANDARD = ARRAYS | VALUES | {"num_sampled": 3, "num_classes": 7}
TRACED = {"traced": "the ids of a tracer have no values; the loss is NaN instead"}
DRAWN = {"eager": "there labels have values"}
WHICH = "check that num_classes is the size of the vocabulary that they were made for"
FEATURES = "each class needs one weight for each input"
CANDIDATES = "pass the num_sampled that the candidates were drawn with"
CLASS = "each must be one of the num_classes classes"


def with_values(function):
    """The loss with the three arrays of ``sampled_values`` as arguments of their own, or with none if one is None."""

    @functools.wraps(function)
    def call(sampled, true_expected, sampled_expected, second_shard=None, more_biases=None, **arguments):
        values = None if sampled is None else (sampled, true_expected, sampled_expected)
        if second_shard is not None:
            arguments["weights"] = [arguments["weights"], second_shard]
        if more_biases is not None:
            arguments["biases"] = [arguments["biases"], more_biases]
        return function(**{"sampled_values": values, **arguments})

    return call


softmax = functools.partial(row, with_values(sampling.sampled_softmax_loss), STANDARD)
nce = functools.partial(row, with_values(sampling.nce_loss), STANDARD)
TWO = {"weights": W[:4], "second_shard": W[4:]}
NONE = dict.fromkeys(VALUES)


SAMPLING = [
    # --- sizes ---
    softmax(
        "sampled_inputs_rank",
        ShapeError,
        "inputs must have the shape [batch, dim], got [3, 4, 1]; check the order of the axes",
        inputs=X[..., None],
    ),
    softmax(
        "sampled_weights_rows",
        ShapeError,
        f"weights must have num_classes = 7 rows, got [8, 4]; {WHICH}",
        weights=like(W, 8, 4),
    ),
    nce(
        "sampled_weights_num_classes",
        ShapeError,
        f"weights must have num_classes = 9 rows, got [7, 4]; {WHICH}",
        num_classes=9,
    ),
    softmax(
        "sampled_weights_transposed",
        ShapeError,
        "weights must have the shape [num_classes, dim] = [7, 4], got [4, 7]; it is transposed: swap its two axes",
        weights=W.T.copy(),
    ),
    softmax(
        "sampled_weights_dim",
        ShapeError,
        f"weights must have dim = 4 columns, as inputs have, got [7, 5]; {FEATURES}",
        weights=like(W, 7, 5),
    ),
    softmax(
        "sampled_weights_rank",
        ShapeError,
        "weights must have the shape [num_classes, dim], got [7]; check the order of the axes",
        weights=B,
    ),
    softmax(
        "sampled_shard_rows",
        ShapeError,
        f"weights[0] must have 4 rows, its share of num_classes = 7 among 2 shards, got [3, 4]; {WHICH}",
        weights=W[:3],
        second_shard=W[3:],
    ),
    nce(
        "sampled_shard_dim",
        ShapeError,
        f"weights[1] must have dim = 4 columns, as inputs have, got [3, 5]; {FEATURES}",
        weights=W[:4],
        second_shard=like(W, 3, 5),
    ),
    softmax(
        "sampled_shard_of_biases",
        ShapeError,
        f"biases[0] must have 4 entries, its share of num_classes = 7 among 2 shards, got [3]; {WHICH}",
        biases=B[:3],
        more_biases=B[3:],
    ),
    softmax(
        "sampled_biases_rank",
        ShapeError,
        "biases must have the shape [num_classes], got [7, 1]; check the order of the axes",
        biases=B[:, None],
    ),
    nce("sampled_biases_size", ShapeError, f"biases must have num_classes = 7 entries, got [6]; {WHICH}", biases=B[:6]),
    softmax(
        "sampled_labels_rank_1",
        ShapeError,
        "labels must have the shape [batch, num_true], got [3]; "
        "add the axis of the true classes, as in labels[:, None]",
        labels=Y[:, 0],
    ),
    softmax(
        "sampled_labels_rank_3",
        ShapeError,
        "labels must have the shape [batch, num_true], got [3, 1, 1]; flatten the batch",
        labels=Y[..., None],
    ),
    nce(
        "sampled_labels_columns",
        ShapeError,
        "labels must have num_true = 1 columns, got [3, 2]; pass num_true=2",
        labels=like(Y, 3, 2),
    ),
    softmax(
        "sampled_labels_batch",
        ShapeError,
        "labels must have one row for each of the 3 rows of inputs, got [4, 1]; check that both come from the same "
        "batch",
        labels=like(Y, 4, 1),
    ),
    softmax(
        "sampled_candidates_size",
        ShapeError,
        f"sampled must have the shape [num_sampled] = [3], got [4]; {CANDIDATES}",
        sampled=like(SAMPLED, 4),
    ),
    nce(
        "sampled_candidates_num_sampled",
        ShapeError,
        f"sampled must have the shape [num_sampled] = [4], got [3]; {CANDIDATES}",
        num_sampled=4,
    ),
    softmax(
        "sampled_expected_size",
        ShapeError,
        f"sampled_expected must have the shape [num_sampled] = [3], got [3, 1]; {CANDIDATES}",
        sampled_expected=TRUE,
    ),
    softmax(
        "sampled_true_expected_size",
        ShapeError,
        "true_expected must have the shape [3, 1] of labels, got [3]; every size must match, nothing is broadcast",
        true_expected=COUNTS,
    ),
    nce(
        "sampled_swapped",
        ShapeError,
        "inputs and labels seem to be swapped, got integer inputs [3, 1] and float labels [3, 4]; "
        "pass them in the other order, or by keyword, as in inputs=..., labels=...",
        inputs=Y,
        labels=X,
    ),
    # --- dtypes and types ---
    softmax(
        "sampled_num_sampled_array",
        ArgumentTypeError,
        f"num_sampled must be an integer, got an array; {static('int')}",
        num_sampled=np.array(3),
    ),
    softmax(
        "sampled_flag_array",
        ArgumentTypeError,
        f"remove_accidental_hits must be True or False, got an array; {static('bool')}",
        remove_accidental_hits=np.array(True),
    ),
    *(
        nce(
            f"sampled_{name}_packed",
            ArgumentTypeError,
            f"{name} is a PackedSequence, not a dense array; pass torch.nn.utils.rnn.pad_packed_sequence({name}, "
            "batch_first=True)[0] and give the tokens that it leaves out weight 0",
            **{name: Raw(PackedSequence([0.0], [1]))},
        )
        for name in ("weights", "biases", "labels", "inputs")
    ),
    softmax(
        "sampled_inputs_dtype",
        DTypeError,
        f"inputs must have one of the dtypes {FLOATS}, got int32; cast it first",
        inputs=X.astype("int32"),
    ),
    softmax(
        "sampled_weights_dtype",
        DTypeError,
        f"weights must have one of the dtypes {FLOATS}, got int32; cast it first",
        weights=W.astype("int32"),
    ),
    softmax(
        "sampled_shard_dtype",
        DTypeError,
        f"weights[1] must have one of the dtypes {FLOATS}, got bool; cast it first",
        weights=W[:4],
        second_shard=W[4:] > 0,
    ),
    nce(
        "sampled_biases_dtype",
        DTypeError,
        f"biases must have one of the dtypes {FLOATS}, got int32; cast it first",
        biases=B.astype("int32"),
    ),
    softmax(
        "sampled_labels_dtype",
        DTypeError,
        "labels must be integer class ids, got float32; cast them to int64",
        labels=Y.astype("float32"),
    ),
    nce(
        "sampled_candidates_dtype",
        DTypeError,
        "sampled must be integer class ids, got float32; cast them to int64",
        sampled=COUNTS,
    ),
    softmax(
        "sampled_counts_dtype",
        DTypeError,
        "sampled_expected must hold expected counts, got bool; cast them to float32",
        sampled_expected=COUNTS > 0,
    ),
    softmax("sampled_biases_none", ArgumentTypeError, f"biases is None, {KINDS}", biases=None),
    softmax(
        "sampled_values_no_tuple",
        ArgumentTypeError,
        "sampled_values must be the three arrays (sampled, true_expected, sampled_expected), got a int; "
        "pass what a function of seqloss.samplers returned",
        sampled_values=5,
    ),
    nce(
        "sampled_values_two",
        ArgumentTypeError,
        "sampled_values must be the three arrays (sampled, true_expected, sampled_expected), got 2 of them; "
        "pass what a function of seqloss.samplers returned",
        sampled_values=([1, 2, 3], [1.0]),
    ),
    # --- options ---
    softmax(
        "sampled_strategy",
        OptionError,
        "partition_strategy must be 'mod' or 'div', got 'foo'",
        partition_strategy="foo",
    ),
    nce(
        "sampled_strategy_with_shards",
        OptionError,
        "partition_strategy must be 'mod' or 'div', got None",
        **TWO,
        partition_strategy=None,
    ),
    softmax("sampled_num_true", OptionError, "num_true must be at least 1, got 0", num_true=0),
    softmax("sampled_num_sampled", OptionError, "num_sampled must be at least 1, got 0", num_sampled=0),
    nce(
        "sampled_num_classes",
        ArgumentTypeError,
        "num_classes must be an integer, got 7.0; convert it with int(...)",
        num_classes=7.0,
    ),
    softmax(
        "sampled_remove",
        ArgumentTypeError,
        "remove_accidental_hits must be True or False, got 1; if a positional argument ended up here by mistake, pass "
        "it by keyword",
        remove_accidental_hits=1,
    ),
    nce(
        "sampled_subtract",
        ArgumentTypeError,
        "subtract_log_q must be True or False, got None; if a positional argument ended up here by mistake, pass it "
        "by keyword",
        subtract_log_q=None,
    ),
    softmax("sampled_name", ArgumentTypeError, "name must be a string or None, got 5", name=5),
    # --- values ---
    softmax(
        "sampled_label_too_large",
        LabelError,
        f"labels[1, 0] is 7, outside [0, 7); {CLASS}",
        TRACED,
        labels=edited(Y, at_1_0=7),
    ),
    nce(
        "sampled_label_negative",
        LabelError,
        f"labels[0, 0] is -100, outside [0, 7) (and 1 more); {CLASS}",
        TRACED,
        labels=edited(Y, at_0_0=-100, at_2_0=-1),
    ),
    softmax(
        "sampled_label_drawn",
        LabelError,
        f"labels[1, 0] is 7, outside [0, 7); {CLASS}",
        TRACED,
        **NONE,
        labels=edited(Y, at_1_0=7),
    ),
    softmax(
        "sampled_label_host",
        LabelError,
        f"labels[1, 0] is 7, outside [0, 7); {CLASS}",
        IN_A_GRAPH,
        labels=Raw(edited(Y, at_1_0=7)),
    ),
    nce(
        "sampled_candidate_too_large",
        LabelError,
        f"sampled[1] is 7, outside [0, 7); {CLASS}",
        TRACED,
        sampled=edited(SAMPLED, at_1=7),
    ),
    softmax(
        "sampled_too_many_to_draw",
        OptionError,
        "num_sampled is 8, but candidates that are drawn here are all different, and there are only 7 classes; lower "
        "num_sampled, or pass sampled_values",
        TRACED,
        **NONE,
        num_sampled=8,
    ),
    nce(
        "sampled_drawn_for_host_labels_while_tracing",
        UnreadableError,
        "inputs have no values yet (traced, batched, or without storage), but candidates are drawn on the host; draw "
        "them outside the compiled function, as with samplers.log_uniform_candidate_sampler, and pass them as "
        "sampled_values",
        {**DRAWN, "torch-fullgraph": "PyTorch refuses to trace the list of labels"},
        **NONE,
        labels=Raw(Y.tolist()),
    ),
    nce(
        "sampled_drawn_while_tracing",
        UnreadableError,
        "labels have no values yet (traced, batched, or without storage), but candidates are drawn on the host; draw "
        "them outside the compiled function, as with samplers.log_uniform_candidate_sampler, and pass them as "
        "sampled_values",
        DRAWN,
        **NONE,
    ),
]
