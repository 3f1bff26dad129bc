"""check_loss on losses of torch: what is known of them is found, and each way to ask works."""

import pathlib
import runpy
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

import seqloss
from seqloss.testing import Conventions, check_loss, frameworks
from seqloss.testing.check import judging

IGNORING = Conventions(("logits", "targets"), layout="packed", ignore_label=-100)
LINEAR = replace(IGNORING, arguments=("hidden", "embedding", "targets"))
TOKENS = Conventions(("logits", "targets"), returns="tokens")
UNREDUCED = {"average_across_timesteps": False, "average_across_batch": False}
CHEAP = (
    "impossible_classes",
    "padding",
    "unsafe_masks",
    "empty",
    "label_policy",
    "shift",
    "one_hot",
    "confident_tokens",
    "double_backward",
)
PEERS = {
    "cross_entropy": F.cross_entropy,
    "linear_cross_entropy": getattr(F, "linear_cross_entropy", None),  # since torch 2.13
}


def violated(check):
    return {finding.invariant for finding in check.findings if finding.verdict == "violated"}


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer is not None])
def test_known_losses(name):
    check = check_loss(PEERS[name], modes=(), invariants=CHEAP)
    conventions = IGNORING if name == "cross_entropy" else LINEAR
    assert (check.name, check.backend, check.conventions) == (f"torch.nn.functional.{name}", "torch", conventions)
    assert violated(check) == {"unsafe_masks", "empty", "confident_tokens"}, check.report()
    details = {finding.invariant: finding.detail for finding in check.findings}
    assert details["label_policy"] == "raises IndexError"
    assert ("never -inf" in details["impossible_classes"]) == (name == "linear_cross_entropy")
    # The mean of no tokens is 0 / 0.
    assert details["empty"] == "the value where all weights are 0: nan"


@pytest.mark.parametrize("name", ["torch_cross_entropy", "torch_cross_entropy_by_token", "seqloss_on_torch"])
def test_example(name):
    peers = runpy.run_path(pathlib.Path(__file__).parents[2] / "examples" / "peers.py")["PEERS"]
    assert check_loss(**peers[name](), modes=(), invariants=["padding", "one_hot"]).holds


def test_sequence_loss_holds():
    check = check_loss(seqloss.sequence_loss, backend="torch", modes=("compile",))
    assert check.holds, check.report()
    assert {(f.mode, f.verdict) for f in check.findings if f.invariant == "compiled_is_eager"} == {("compile", "holds")}
    assert {f.dtype for f in check.findings if f.invariant == "count_of_70000"} == {"float32", "float16", "bfloat16"}
    assert all(f.verdict == "holds" for f in check.findings), check.report()


def test_token_loss_needs_its_mask():
    """Without it, weights are multiplied in outside, and NaN is seen through them."""
    names = ("padding", "unsafe_masks", "upstream_gradients", "double_backward")
    check = check_loss(seqloss.token_loss, backend="torch", conventions=TOKENS, modes=(), invariants=names)
    assert violated(check) == {"unsafe_masks"}, check.report()


def test_kit_counts_in_the_dtype_of_the_losses():
    """They are float32, whatever the logits are: weights of a half dtype neither overflow nor are rounded."""
    names = ["count_of_70000"]
    tokens = check_loss(seqloss.token_loss, backend="torch", conventions=TOKENS, modes=(), invariants=names)
    assert all(f.verdict == "holds" for f in tokens.findings), tokens.report()

    def summed(logits, targets, weights):
        return torch.sum(seqloss.sequence_loss(logits, targets, weights, **UNREDUCED))

    total = check_loss(summed, backend="torch", conventions=Conventions(returns="sum"), modes=(), invariants=names)
    assert all(f.verdict == "holds" for f in total.findings), total.report()
    assert {f.dtype for f in (*tokens.findings, *total.findings)} == {"float32", "float16", "bfloat16"}


def test_partial_is_recognised():
    check = check_loss(partial(F.cross_entropy, label_smoothing=0.0), modes=(), invariants=["padding"])
    assert (check.name, check.conventions, check.holds) == ("torch.nn.functional.cross_entropy", IGNORING, True)


@pytest.mark.parametrize(
    "keywords, said",
    [
        ({"reduction": "none"}, {"returns": "tokens"}),
        ({"reduction": "sum"}, {"returns": "sum"}),
        ({"ignore_index": 0}, {"ignore_label": 0}),
        ({"ignore_index": 1, "reduction": "none"}, {"ignore_label": 1, "returns": "tokens"}),
    ],
)
def test_keywords_of_a_partial_change_its_conventions(keywords, said):
    names = ("padding", "permutation", "one_hot", "split_batches", "gradient_sign", "sizes_of_one", "label_policy")
    check = check_loss(partial(F.cross_entropy, **keywords), modes=(), invariants=names)
    assert check.conventions == replace(IGNORING, **said)
    assert check.holds, check.report()


@pytest.mark.parametrize("said", [1.0, (1.0,), (1.0, 2.0, 3.0)])
def test_sum_and_count_that_is_none(said):
    with pytest.raises(seqloss.OptionError, match=r"must return \(sum, count\)"):
        check_loss(lambda *arrays: said, backend="torch", conventions={"returns": "sum_and_count"})


@pytest.mark.parametrize("count", [float, int, torch.tensor])
def test_a_count_may_be_a_number(count):
    def loss(logits, targets):
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=-100)
        return losses, count((targets != -100).sum().item())

    conventions = {"arguments": ("logits", "targets"), "returns": "sum_and_count", "ignore_label": -100}
    names = ("padding", "one_hot", "empty", "split_batches")
    check = check_loss(loss, backend="torch", conventions=conventions, modes=(), invariants=names)
    assert check.holds, check.report()


def test_mapping_changes_the_conventions_of_a_known_loss():
    check = check_loss(F.cross_entropy, conventions={"ignore_label": -100}, modes=(), invariants=["padding"])
    assert (check.conventions, check.holds) == (IGNORING, True)


@pytest.mark.parametrize("written", ["forward", "backward", "labels"])
def test_writing_where_no_gradient_sees_it(written):
    def loss(logits, targets):
        if written == "labels":
            targets[targets == -100] = 0
        value = F.cross_entropy(logits, targets)
        if written == "forward":
            logits.data.mul_(2)
        if written == "backward" and value.requires_grad:
            value.register_hook(lambda cotangent: [logits.data.mul_(2), None][1])
        return value

    names = ("one_hot", "arguments_unwritten", "many_classes")
    check = check_loss(loss, backend="torch", conventions=IGNORING, modes=(), invariants=names)
    assert "arguments_unwritten" in violated(check), check.report()
    details = {f.invariant: f.detail for f in check.findings}
    name = "targets" if written == "labels" else "logits"
    assert details["arguments_unwritten"].startswith(f"the {name} after the call: ")


class Detached(torch.autograd.Function):
    """A fused loss with its gradient ready: the second derivative is forgotten, and the upstream is thought to be 1."""

    @staticmethod
    def forward(ctx, logits, targets):
        ctx.slope = torch.softmax(logits, -1) - F.one_hot(targets, logits.shape[-1])
        return -torch.log_softmax(logits, -1).gather(-1, targets[..., None])[..., 0]

    @staticmethod
    def backward(ctx, cotangent):
        return cotangent.mean() * ctx.slope, None


def test_fused_kernel_with_mistakes():
    names = ("permutation", "one_hot", "upstream_gradients", "double_backward")
    conventions = Conventions(("logits", "targets"), returns="tokens")
    check = check_loss(Detached.apply, backend="torch", conventions=conventions, modes=(), invariants=names)
    assert violated(check) == {"one_hot", "upstream_gradients", "double_backward"}, check.report()
    (finding,) = [f for f in check.findings if f.invariant == "upstream_gradients"]
    assert len(finding.example["targets"][0]) + len(finding.example["targets"]) == 3  # two tokens


class Linear(torch.autograd.Function):
    """A fused linear loss, whose kernel gets its gradient as it was made, whatever arrives from above."""

    @staticmethod
    def forward(ctx, hidden, kernel, targets, weights):
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in (hidden, kernel)]
            loss = seqloss.linear_sequence_loss(*leaves, targets, weights)
        ctx.slopes = torch.autograd.grad(loss, leaves)
        return loss.detach()

    @staticmethod
    def backward(ctx, cotangent):
        return cotangent * ctx.slopes[0], ctx.slopes[1], None, None


def test_kernel_without_the_upstream_gradient():
    names = ("upstream_gradients", "kernel_upstream", "kernel_gradients", "tied_embeddings")
    arguments = ("hidden", "kernel", "targets", "weights")
    check = check_loss(Linear.apply, backend="torch", conventions={"arguments": arguments}, modes=(), invariants=names)
    assert violated(check) == {"kernel_upstream"}, check.report()


def test_masked_hidden_reaches_the_kernel_of_linear_cross_entropy():
    check = check_loss(PEERS["linear_cross_entropy"], modes=(), invariants=["masked_hidden", "kernel_gradients"])
    assert violated(check) == {"masked_hidden"}, check.report()


def test_refused_second_derivatives_are_right():
    def exact(*arrays):
        return seqloss.sequence_loss(*arrays, exact=True)

    check = check_loss(exact, backend="torch", modes=(), invariants=["double_backward"])
    assert check.findings[0].verdict == "holds"
    assert check.findings[0].detail.startswith("refused: ")


def other_in_compiled_code(logits, targets, weights):
    loss = seqloss.sequence_loss(logits, targets, weights)
    return loss * 2 if torch.compiler.is_compiling() else loss


def test_compiled_code_that_differs(monkeypatch):
    monkeypatch.setattr(judging, "COMPILED_CALLS", 4)  # each is a compilation
    check = check_loss(other_in_compiled_code, backend="torch", modes=("compile",), invariants=["compiled_is_eager"])
    (finding,) = check.findings
    assert (finding.mode, finding.verdict) == ("compile", "violated")
    assert finding.detail.startswith("the value in compile: ")


def test_missing_compiler_is_not_applicable(monkeypatch):
    driver = frameworks.load("torch")

    def missing(function):
        def run(*arrays):
            raise RuntimeError("no C++ compiler")

        return run

    monkeypatch.setattr(driver, "COMPILERS", {"inductor": missing})
    (finding,) = check_loss(F.cross_entropy, invariants=["compiled_is_eager"]).findings
    assert finding.verdict == "not applicable"
    assert finding.detail == "inductor does not work on this machine: RuntimeError: no C++ compiler"


def test_compiler_that_fails_at_the_loss_is_a_violation(monkeypatch):
    driver = frameworks.load("torch")

    def picky(function):
        def run(*arrays):
            if len(arrays) > 1:
                raise RuntimeError("unsupported")
            return function(*arrays)

        return run

    monkeypatch.setattr(driver, "COMPILERS", {"inductor": picky})
    (finding,) = check_loss(F.cross_entropy, invariants=["compiled_is_eager"]).findings
    assert finding.verdict == "violated"
    assert "unsupported" in finding.detail


def test_time_major_and_keywords():
    def by_time(targets, *, z, w):
        losses = F.cross_entropy(z.movedim(-1, 1), targets, reduction="none")
        return (losses * w).sum()

    conventions = Conventions(("targets", "z=logits", "w=weights"), layout="time", returns="sum")
    names = ("padding", "split_batches", "permutation", "one_hot", "weight_scaling", "upstream_gradients")
    check = check_loss(by_time, backend="torch", conventions=conventions, modes=(), invariants=names)
    assert check.holds, check.report()


# --- losses with options

CLASS_WEIGHTS = (0.5, 2.0, 1.0, 1.5)
RECORDED = ("one_hot", "upstream_gradients", "weight_gradients", "repeated_backward", "double_backward", "mapped")
RECORDED = (*RECORDED, "without_gradients", "padding", "split_batches")


def test_smoothing_and_class_weights_of_cross_entropy_are_known():
    loss = partial(F.cross_entropy, label_smoothing=0.1, weight=torch.tensor(CLASS_WEIGHTS))
    check = check_loss(loss, modes=(), invariants=CHEAP)
    assert check.conventions == replace(IGNORING, label_smoothing=0.1, class_weights=CLASS_WEIGHTS)
    # Beside an impossible class what is smoothed over all of them is infinite.
    assert violated(check) == {"unsafe_masks", "empty", "impossible_classes"}, check.report()


@pytest.mark.parametrize("said", [{"class_weights": CLASS_WEIGHTS}, {"label_smoothing": 0.1}])
def test_half_of_what_cross_entropy_has_is_wrong(said):
    loss = partial(F.cross_entropy, label_smoothing=0.1, weight=torch.tensor(CLASS_WEIGHTS))
    conventions = replace(IGNORING, class_weights=CLASS_WEIGHTS, **{} if "class_weights" in said else said)
    conventions = replace(conventions, denominator="weights_alone" if "label_smoothing" in said else "weights")
    assert "one_hot" in violated(check_loss(loss, conventions=conventions, modes=(), invariants=["one_hot"]))


def test_sequence_loss_with_all_options_holds():
    options = {"label_smoothing": 0.1, "class_weights": torch.tensor(CLASS_WEIGHTS), "z_loss": 1e-2, "softcap": 5.0}
    names = (*RECORDED, "impossible_classes", "confident_tokens")
    check = check_loss(partial(seqloss.sequence_loss, **options), backend="torch", modes=(), invariants=names)
    assert check.conventions.class_weights == CLASS_WEIGHTS
    assert all(f.verdict == "holds" for f in check.findings), check.report()


NORMALIZERS = {
    "weights_alone": lambda y, w: w.sum(),
    "tokens": lambda y, w: (w != 0).sum(),
    "positions": lambda y, w: y.numel(),
    "batch": lambda y, w: len(y),
    "weights": lambda y, w: (w * torch.tensor(CLASS_WEIGHTS)[y]).sum(),
}


@pytest.mark.parametrize("returns", ["mean", "sum_and_count"])
@pytest.mark.parametrize("denominator", NORMALIZERS)
def test_what_means_are_divided_by(denominator, returns):
    """Class weights are in one of them, and gradients, to the weights too, are those of the mean over the weights."""

    def loss(logits, targets, weights):
        losses = F.cross_entropy(logits.movedim(-1, 1), targets, torch.tensor(CLASS_WEIGHTS), reduction="none")
        total, count = (losses * weights).sum(), NORMALIZERS[denominator](targets, weights)
        return total / count if returns == "mean" else (total, count)

    given = {"class_weights": CLASS_WEIGHTS, "returns": returns}
    said = {**given, "denominator": denominator}
    check = check_loss(loss, backend="torch", conventions=said, modes=(), invariants=RECORDED)
    assert violated(check) == set(), check.report()
    assert {f.invariant for f in check.findings if f.verdict == "holds"} == set(RECORDED)
    other = {**given, "denominator": "batch" if denominator != "batch" else "positions"}
    check = check_loss(loss, backend="torch", conventions=other, modes=(), invariants=RECORDED)
    assert {"one_hot", "weight_gradients", "double_backward"} <= violated(check), check.report()
