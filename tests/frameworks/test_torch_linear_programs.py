"""The linear loss in programs of torch.compile and torch.export, which hold it as an operator of torch.library."""

import gc
import io
import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import seqloss
from seqloss.backends.torch import execution
from seqloss.losses.linear_op import LinearLossOp

FEATURES, CLASSES = 6, 11


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def asked(monkeypatch):
    """What passes through the products were asked for, when programs ran: None of one without gradients."""
    seen, through = [], LinearLossOp._through

    def watched(self, arrays, counted, cotangents):
        seen.append(tuple(self.spec[-3:]) if cotangents is not None else None)
        return through(self, arrays, counted, cotangents)

    monkeypatch.setattr(LinearLossOp, "_through", watched)
    return seen


def batch(dtype=torch.float32, time=5):
    """Hidden, kernel, bias, weights and targets; a token is out, and its row of hidden is NaN."""
    rng = np.random.default_rng(0)
    hidden = torch.from_numpy(rng.normal(size=(3, time, FEATURES))).to(dtype)
    kernel = torch.from_numpy(rng.normal(size=(FEATURES, CLASSES))).float()
    bias, weights = torch.from_numpy(rng.normal(size=CLASSES)).float(), torch.from_numpy(rng.random((3, time))).float()
    targets = torch.from_numpy(rng.integers(0, CLASSES, (3, time)))
    hidden[0, 1], targets[0, 1] = torch.nan, -100
    return *(x.requires_grad_() for x in (hidden, kernel, bias, weights)), targets


def loss_of(hidden, kernel, bias, weights, targets, **options):
    return seqloss.linear_sequence_loss(hidden, kernel, targets, weights, bias=bias, ignore_index=-100, **options)


def compiled(function, **options):
    return torch.compile(function, fullgraph=True, backend="aot_eager", **options)


def value_and_gradients(function, arrays, upstream=0.3):
    loss = function(*arrays)
    return loss, *torch.autograd.grad(loss.sum(), [x for x in arrays if x.requires_grad], torch.tensor(upstream))


def assert_same(found, expected):
    assert [x.dtype for x in found] == [x.dtype for x in expected]
    torch.testing.assert_close(list(found), list(expected), rtol=0, atol=0)


def assert_close(found, expected):
    torch.testing.assert_close(list(found), list(expected), rtol=1e-5, atol=1e-6)


OPTIONS = {
    "mean": {},
    "none": {"reduction": "none"},
    "per sequence": {"reduction": "per_sequence", "chunk": 4},
    "sequence mean": {"reduction": "sequence_mean", "normalizer": None},
    "sum": {"reduction": "sum", "normalizer": 3.0},
    "lengths": {"lengths": torch.tensor([5, 2, 0]), "chunk": 4},
    "objective": {
        "label_smoothing": seqloss.Smoothing(0.1, exclude=(2,), centred=True),
        "z_loss": 1e-3,
        "softcap": 4.0,
    },
    "class weights": {"label_smoothing": 0.1, "class_weights": torch.linspace(0.5, 1.5, CLASSES)},
    "exact": {"exact": True, "reduction": "none"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_program_does_what_an_eager_call_does(name):
    """The same bits, because the same loop runs."""

    def call(*arrays):
        return loss_of(*arrays, **OPTIONS[name])

    arrays = batch()
    assert_close(value_and_gradients(compiled(call), arrays), value_and_gradients(call, arrays))
    with torch.no_grad():
        assert_same([compiled(call)(*arrays)], [call(*arrays)])


@pytest.mark.parametrize("reduction", ["mean", "none", "per_sequence"])
def test_packed_sequences(reduction):
    def call(*arrays):
        return loss_of(*arrays, reduction=reduction, cu_seqlens=torch.tensor([0, 4, 15]))

    hidden, kernel, bias, weights, targets = (x.detach() for x in batch())
    arrays = hidden.reshape(15, FEATURES).requires_grad_(), kernel, bias, weights.reshape(15), targets.reshape(15)
    found = value_and_gradients(compiled(call), arrays)
    assert found[0].shape == {"mean": (), "none": (15,), "per_sequence": (2,)}[reduction]
    assert_close(found, value_and_gradients(call, arrays))


def test_soft_targets():
    def call(hidden, kernel, soft):
        return seqloss.linear_sequence_loss(hidden, kernel, soft)

    hidden, kernel, *_ = batch()
    hidden = hidden.detach().nan_to_num().requires_grad_()
    soft = torch.rand(3, 5, CLASSES)
    assert_close(
        value_and_gradients(compiled(call), (hidden, kernel, soft)), value_and_gradients(call, (hidden, kernel, soft))
    )
    with pytest.raises(RuntimeError, match=r"cannot be differentiated|no gradient for soft targets"):
        compiled(call)(hidden, kernel, soft.requires_grad_()).backward()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_inductor_and_autocast_and_half_precision(reduction):
    def call(*arrays):
        return loss_of(*arrays, reduction=reduction)

    arrays = batch(torch.bfloat16)
    program = torch.compile(call, fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = program(*arrays)
    loss, *gradients = value_and_gradients(call, arrays)
    assert_same([found], [loss])
    assert_close(torch.autograd.grad(found.sum(), arrays[:4], torch.tensor(0.3)), gradients)


def test_sizes_and_numbers_may_change():
    sizes = []

    def call(hidden, kernel, bias, weights, targets, eps):
        sizes.append(1)
        return loss_of(hidden, kernel, bias, weights, targets, label_smoothing=eps, z_loss=eps)

    program = compiled(call, dynamic=True)
    for time, eps in ((5, 0.1), (7, 0.2), (9, 0.3)):
        arrays = batch(time=time)
        found = value_and_gradients(lambda *x, eps=eps: program(*x, eps), arrays)
        assert_close(found, value_and_gradients(lambda *x, eps=eps: call(*x, eps), arrays))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_that_nobody_asks_for_are_not_made(asked, reduction):
    def call(*arrays):
        return loss_of(*arrays, reduction=reduction)

    hidden, *others = (x.detach() for x in batch())
    compiled(call)(hidden.requires_grad_(), *others).sum().backward()
    assert [x for x in asked if x is not None] == [(True, False, False)]
    assert len(asked) == (1 if reduction == "mean" else 2)
    del asked[:]
    with torch.no_grad():
        compiled(call)(hidden, *others)
    compiled(call)(hidden.detach(), *others)
    assert asked == [None, None]


def test_a_tied_embedding():
    def call(hidden, weight, targets):
        return seqloss.linear_sequence_loss(hidden, weight.T, targets)

    hidden, kernel, _, _, targets = batch()
    hidden = hidden.detach().nan_to_num().requires_grad_()
    arrays = hidden, kernel.detach().T.contiguous().requires_grad_(), targets.clamp(min=0)
    found = value_and_gradients(torch.compile(call, fullgraph=True), arrays)
    assert_same(found, value_and_gradients(call, arrays))
    assert found[2].is_contiguous()


@pytest.mark.parametrize("name", ["mean", "none", "exact"])
def test_where_numpy_cannot_compute_the_chunks_are_those_of_torch(monkeypatch, name):
    """As on a GPU."""

    def call(*arrays):
        return loss_of(*arrays, **{"chunk": 4, **OPTIONS[name]})

    hidden, kernel, *others = batch()
    arrays = hidden, kernel.detach().T.contiguous().T.requires_grad_(), *others
    expected = value_and_gradients(call, arrays)
    calls = []
    monkeypatch.setattr(execution, "is_on_host", lambda arrays: bool(calls.append(1)))
    assert_close(value_and_gradients(torch.compile(call, fullgraph=True), arrays), expected)
    assert calls


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_explicit_gradients(reduction):
    def call(hidden, kernel, bias, weights, targets):
        wrt = ("hidden", "kernel", "bias", "weights")
        given = {"bias": bias, "wrt": wrt, "ignore_index": -100, "reduction": reduction}
        loss, gradients = seqloss.linear_sequence_loss_and_grad(hidden, kernel, targets, weights, **given)
        return loss, *gradients

    found = compiled(call)(*batch())
    assert_same(found, call(*batch()))
    assert not any(x.requires_grad for x in found)


def test_totals():
    def call(*arrays):
        hidden, kernel, bias, weights, targets = (x.detach() for x in arrays)
        given = {"bias": bias, "accuracy": True, "ignore_index": -100}
        total = seqloss.linear_loss_sum(hidden, kernel, targets, weights, **given)
        return total.mean(), total.accuracy()

    assert_same(compiled(call)(*batch()), call(*batch()))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_transformations_inside_of_a_program(reduction):
    hidden, kernel, _, _, targets = (x.detach() for x in batch())

    def total(hidden, kernel, targets):
        loss = seqloss.linear_sequence_loss(hidden, kernel, targets, ignore_index=-100, reduction=reduction)
        return loss.square().sum()

    def each(hidden, kernel, targets):
        return torch.func.vmap(lambda x, y: total(x[None], kernel, y[None]))(hidden, targets)

    gradients = torch.func.grad(total, argnums=(0, 1))
    of_each = torch.func.jacrev(each, argnums=(0, 1))
    for function in (gradients, lambda *x: [each(*x)], of_each):
        assert_close(compiled(function)(hidden, kernel, targets), function(hidden, kernel, targets))


def test_second_derivatives_are_refused():
    hidden, kernel, _, _, targets = (x.detach() for x in batch())

    def slope(kernel):
        return torch.func.grad(lambda k: seqloss.linear_sequence_loss(hidden, k, targets, ignore_index=-100))(kernel)

    with pytest.raises(RuntimeError, match="only first derivatives, in reverse mode"):
        compiled(torch.func.jacrev(slope))(kernel)
    # Neither may what autograd watches from outside be forgotten.
    with pytest.raises(RuntimeError, match="only first derivatives, in reverse mode"):
        (compiled(slope)(kernel.requires_grad_()).sum() + kernel.sum()).backward()


@pytest.mark.parametrize("is_reentrant", [False, True])
def test_checkpoint(is_reentrant):
    def call(*arrays):
        return checkpoint(lambda hidden, *more: loss_of(2 * hidden, *more), *arrays, use_reentrant=is_reentrant)

    def plain(hidden, *more):
        return loss_of(2 * hidden, *more)

    assert_close(value_and_gradients(compiled(call), batch()), value_and_gradients(plain, batch()))


class Head(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(FEATURES, CLASSES)

    def forward(self, hidden, targets):
        return seqloss.linear_sequence_loss(
            hidden, self.layer.weight.T, targets, bias=self.layer.bias, ignore_index=-100
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # within torch.export.save
@pytest.mark.parametrize("is_strict", [False, True])
def test_what_is_exported_keeps_its_gradient(is_strict):
    head, (hidden, _, _, _, targets) = Head(), batch()
    time = {1: torch.export.Dim("time")}
    program = torch.export.export(head, (hidden.detach(), targets), strict=is_strict, dynamic_shapes=(time, time))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    hidden, _, _, _, targets = batch(time=8)
    loaded(hidden, targets).backward()
    loss, *expected = value_and_gradients(
        lambda x, *_: head(x, targets), (hidden, head.layer.weight, head.layer.bias), 1.0
    )
    assert_same([hidden.grad, *(x.grad for x in loaded.parameters())], expected)
    assert_same([program.run_decompositions().module()(hidden, targets)], [loss])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_another_process_knows_the_operators_by_importing_the_face(python, tmp_path):
    hidden, _, _, _, targets = batch()
    torch.export.save(torch.export.export(Head(), (hidden.detach(), targets)), tmp_path / "head.pt2")
    program = f"""
import torch, seqloss.torch
head = torch.export.load({str(tmp_path / "head.pt2")!r}).module()
head(torch.zeros(3, 5, {FEATURES}), torch.zeros(3, 5, dtype=torch.int64)).backward()
print(*[tuple(x.grad.shape) for x in head.parameters()])
"""
    assert python(program).strip().splitlines()[-1] == f"({CLASSES}, {FEATURES}) ({CLASSES},)"


@pytest.mark.parametrize("is_on_host", [True, False], ids=["numpy", "torch"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_operators_keep_the_rules_of_torch_library(monkeypatch, reduction, is_on_host):
    """What they return is of the shapes, dtypes and strides that compilers are told of."""
    seen = []

    class Recorder(torch.fx.Interpreter):
        def call_function(self, target, args, kwargs):
            if "seqloss" in str(target):
                seen.append([x.detach() if isinstance(x, torch.Tensor) else x for x in args])
            return super().call_function(target, args, kwargs)

    def record(graph, _):
        return lambda *inputs: Recorder(graph).run(*inputs)

    hidden, kernel, *others = batch()
    turned = kernel.detach().T.contiguous().T
    torch.compile(lambda *x: loss_of(*x, reduction=reduction), backend=record)(hidden, turned, *others)
    (arguments,) = seen
    if not is_on_host:
        monkeypatch.setattr(execution, "is_on_host", lambda arrays: False)
    arrays, lists, of_library = arguments[:10], arguments[10:], torch.ops.seqloss
    tests = {"test_utils": ("test_schema", "test_faketensor")}
    torch.library.opcheck(of_library.linear_loss, (*arrays, *lists), **tests)
    torch.library.opcheck(of_library.linear_forward, (*arrays, None, *lists), **tests)
    loss, *kept = of_library.linear_forward(*arrays, None, *lists)
    if reduction == "none":
        torch.library.opcheck(of_library.linear_pullback, (*arrays, *kept, torch.ones_like(loss), *lists), **tests)
    else:
        assert [x.stride() for x in kept[:2]] == [(5 * FEATURES, FEATURES, 1), (1, FEATURES)]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_no_logits_are_stored(reduction):
    hidden, kernel = torch.randn(4, 512, 64, requires_grad=True), torch.randn(64, 8192, requires_grad=True)
    targets = torch.randint(0, 8192, (4, 512))

    def call(hidden, kernel):
        return seqloss.linear_sequence_loss(hidden, kernel, targets, reduction=reduction, chunk=256).sum()

    program = compiled(call)

    def step():
        program(hidden, kernel).backward()
        hidden.grad = kernel.grad = None

    step()
    gc.collect()
    tracemalloc.start()
    try:
        step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    chunk = 256 * 8192 * 4
    assert chunk < peak < 1.1 * chunk + 4 * (hidden.numel() + kernel.numel()) + (2 << 20)
