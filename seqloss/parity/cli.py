"""The command ``parity``: options and the way through the other modules."""

import argparse
from pathlib import Path

from seqloss.commands import backends, output
from seqloss.core import extras
from seqloss.core.errors import OptionError
from seqloss.parity import functions

HELP = "compare loss and gradient of every installed backend with a reference"

DESCRIPTION = """\
Computes the loss of a batch of real text in every installed backend, each in its own process. Each token loss and each
gradient entry is compared with a reference in float64.

The sentences of the text are the rows of the batch, their bytes the labels, and a byte-bigram model fitted on the
text gives the logits (float32). The first byte of a sentence is predicted from a newline. The padding holds NaN
logits and label -100. A last row has 41 confident tokens, margins 20 to 60, where the common formula for cross
entropy returns exactly 0; this row is left out of the loss, bits per byte and perplexity that are reported.
White space is collapsed. Sentences continue in a new row after 256 bytes. Of a long text only the first sentences are
used, as many as fit in 16,384 positions.

With --function another function is compared on the same text: the value and, where a framework differentiates, the
gradient with respect to each argument. Functions with weights get padded rows, with NaN logits and label -100 in the
padding. The others get the tokens packed. Both get at most 4,096 positions, including the confident ones. Functions of
lists get the first 16 bytes of each sentence. linear_sequence_loss, or linear for short, gets padded rows of hidden
states of size 16 with NaN in the padding, embeddings of the 256 bytes with a bias, smoothing, and chunks of 300 tokens.
Its gradients by formula are compared too; NumPy has only those. Sampled losses get hidden states of size 16, a random
projection of the logits of 512 tokens, and 32 candidates.

With --exact the sequence loss is computed with exact=True. In every backend each result must then be the value of the
reference, rounded to float32 once: a difference of one bit is a disagreement.

loss         mean over the bytes of the text, in nats
token ULP    worst difference of a token loss from the reference, in units of the last place, and what is allowed there
grad ULP     the same for gradient entries, of sequence_loss_and_grad and of the framework's own differentiation
time         time of one sequence_loss_and_grad call and of reading its results, after one call to warm up; the start of
             the process and the import of the framework do not count

exit status  0: all backends that ran agree with the reference
             1: one disagrees, crashed or timed out
             2: the request cannot be carried out: bad options, a text that cannot be used, an unknown backend, or one
                that was asked for and is not installed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("--text", type=Path, metavar="FILE", help="a UTF-8 text (default: a page of Alice's Adventures in Wonderland)")
    add(
        "--function",
        default=functions.DEFAULT,
        metavar="NAME",
        help=f"what to compute: {', '.join(functions.NAMES)} (default: {functions.DEFAULT})",
    )
    add("--exact", action="store_true", help="with exact=True: every result must be the true value, rounded once")
    backends.add_arguments(parser)
    output.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Compute, compare, give out; the exit status."""
    options.function = functions.SHORT.get(options.function, options.function)
    if options.function not in functions.NAMES:
        raise OptionError(f"unknown function {options.function!r}; choose from {', '.join(functions.NAMES)}")
    if options.exact and options.function != functions.DEFAULT:
        raise OptionError(
            f"--exact is a mode of {functions.DEFAULT}; {options.function} has none, leave one of them out"
        )
    output.check(options)
    choice = backends.select(options)
    backends.need_numpy("the reference")
    # Not earlier, so that the help of any command is instant, and a missing NumPy is a message.
    from seqloss.commands import processes
    from seqloss.parity import batch, figures, judge, report, text

    content = text.read(options.text)
    made = batch.build(content.sentences)
    row = functions.FUNCTIONS.get(options.function)
    inputs = made.inputs if row is None else row.inputs(made)
    expected = judge.reference(made, options.exact) if row is None else judge.reference_of(row, inputs)
    verdicts: list[judge.Verdict] = []
    distances: dict[str, figures.Distances] = {}
    how = {"function": options.function, "exact": options.exact}
    for outcome in processes.run_each(choice, "seqloss.parity.compute:compute", how, options.timeout, inputs=inputs):
        verdicts.append(judge.judge(outcome, expected))
        if output.has_figures(options) and outcome.arrays:
            distances[outcome.framework] = figures.distances(outcome.arrays, expected)
    verdicts += [judge.Verdict(name, "not installed", [], install=extras.command(name)) for name in choice.missing]
    told = report.Told(content, made, expected, verdicts, options.function, inputs, options.exact)
    return output.give(report.build(told, figures.draw(distances, expected)), options)
