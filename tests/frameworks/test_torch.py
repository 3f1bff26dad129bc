"""What only PyTorch has: compile, torch.func, double backward, export, devices, saved tensors, shared memory."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import seqloss
from seqloss.backends.numpy import threads
from seqloss.backends.torch import numbers
from seqloss.core import errors
from seqloss.testing import cases, oracle, tolerances


def arrays(dtype=torch.float64, shape=(2, 3, 5)):
    logits, targets, weights = cases.draw(*shape)
    return torch.tensor(logits, dtype=dtype), torch.tensor(targets), torch.tensor(weights, dtype=dtype)


def plain_loss(z, y, w):
    """The same loss from torch's own pieces, for derivatives of any order."""
    nll = torch.nn.functional.cross_entropy(z.reshape(-1, z.shape[-1]), y.reshape(-1), reduction="none")
    return (nll * w.reshape(-1)).sum() / w.sum()


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


@pytest.mark.parametrize("dynamic", [None, True])
def test_inductor_loss_and_gradients(dynamic):
    z, y, w = arrays(torch.float32, (4, 7, 11))
    leaves = [x.clone().requires_grad_() for x in (z, w)]
    compiled = torch.compile(seqloss.sequence_loss, fullgraph=True, dynamic=dynamic)
    loss = compiled(leaves[0], y, leaves[1])
    gradients = torch.autograd.grad(loss, leaves)
    expected, expected_gradients = seqloss.sequence_loss_and_grad(z, y, w, wrt=("logits", "weights"))
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-5, atol=1e-7)


def test_compile_in_a_cold_interpreter(python):
    """The first call of the process happens while tracing: no adapter has been loaded before."""
    printed = python(
        "import warnings, torch, seqloss\n"
        "warnings.filterwarnings('ignore', '<class .torch.autograd.function.Function', DeprecationWarning)\n"
        "f = torch.compile(seqloss.sequence_loss, fullgraph=True, backend='aot_eager')\n"
        "print(float(f(torch.zeros(1, 2, 4), torch.zeros(1, 2, dtype=torch.long))))\n"
    )
    assert float(printed) == pytest.approx(np.log(4), rel=1e-6)


def test_dynamic_sizes_compile_once():
    graphs = []
    compiled = torch.compile(
        seqloss.sequence_loss, fullgraph=True, dynamic=True, backend=lambda graph, _: graphs.append(graph) or graph
    )
    for batch, time in ((2, 3), (4, 5), (3, 7)):
        z, y, w = arrays(torch.float32, (batch, time, 5))
        torch.testing.assert_close(compiled(z, y, w), seqloss.sequence_loss(z, y, w))
    assert len(graphs) == 1


def test_export_with_dynamic_sizes():
    class Model(torch.nn.Module):
        def forward(self, z, y, w):
            return seqloss.sequence_loss(z, y, w)

    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}
    program = torch.export.export(Model(), arrays(), dynamic_shapes={"z": sizes, "y": sizes, "w": sizes}).module()
    z, y, w = arrays(shape=(4, 7, 5))
    z = z.requires_grad_()
    loss = program(z, y, w)
    torch.testing.assert_close(loss, seqloss.sequence_loss(z, y, w))
    torch.testing.assert_close(torch.autograd.grad(loss, z), torch.autograd.grad(plain_loss(z, y, w), z))


def test_strict_export():
    class Model(torch.nn.Module):
        def forward(self, z, y, w):
            return seqloss.sequence_loss(z, y, w)

    example = arrays()
    program = torch.export.export(Model(), example, strict=True).module()
    torch.testing.assert_close(program(*example), seqloss.sequence_loss(*example))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # sizes are compared in Python, as they should be
def test_jit_trace_bakes_no_labels_in():
    z, y, w = arrays()
    traced = torch.jit.trace(seqloss.sequence_loss, (z, y, w), check_trace=False)
    torch.testing.assert_close(traced(2 * z, (y + 1) % 5, w), seqloss.sequence_loss(2 * z, (y + 1) % 5, w))


def test_inference_mode():
    with torch.inference_mode():
        loss = seqloss.sequence_loss(*arrays())
    torch.testing.assert_close(loss, plain_loss(*arrays()))


def test_gradcheck():
    z, y, w = arrays()
    leaves = (z.requires_grad_(), w.requires_grad_())
    assert torch.autograd.gradcheck(lambda z, w: seqloss.sequence_loss(z, y, w), leaves)


def test_gradgradcheck():
    """Second derivatives, the mixed one at weight 0 among them."""
    z, y, w = arrays()
    leaves = (z.requires_grad_(), w.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda z, w: seqloss.sequence_loss(z, y, w), leaves)


@pytest.mark.parametrize("which", ["func", "autograd"])
def test_hessian(which):
    z, y, w = arrays()
    if which == "func":
        actual = torch.func.jacrev(torch.func.jacrev(lambda z: seqloss.sequence_loss(z, y, w)))(z)
    else:
        actual = torch.autograd.functional.hessian(lambda z: seqloss.sequence_loss(z, y, w), z)
    expected = torch.autograd.functional.hessian(lambda z: plain_loss(z, y, w), z)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_third_derivative():
    z, y, w = arrays(shape=(1, 1, 3))

    def along(loss):
        return torch.func.grad(torch.func.grad(torch.func.grad(lambda s: loss(z * s, y, w))))(torch.tensor(1.0))

    torch.testing.assert_close(along(seqloss.sequence_loss), along(plain_loss))


def test_second_derivative_with_a_masked_nan():
    z, y, w = arrays()
    z[0, 0] = torch.nan
    w[0, 0] = 0
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(seqloss.sequence_loss(z, y, w), z, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), z)
    assert torch.isfinite(second).all()
    assert (second[0, 0] == 0).all() and (second[0, 1] != 0).all()


def test_vmap_of_grad():
    z, y, w = arrays()
    batch = torch.stack([z, 2 * z, -z])
    actual = torch.func.vmap(torch.func.grad(seqloss.sequence_loss), in_dims=(0, None, None))(batch, y, w)
    expected = torch.stack([torch.func.grad(plain_loss)(one, y, w) for one in batch])
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("argument", [0, 2])
def test_grad_of_vmap(argument):
    z, y, w = arrays()
    stacked = [torch.stack([x, x + 1]) for x in (z, y.clamp(max=3), w)]

    def total(loss, *stacked):
        return torch.func.vmap(loss)(*stacked).sum()

    actual = torch.func.grad(total, argnums=1 + argument)(seqloss.sequence_loss, *stacked)
    losses = [lambda x, i=i: plain_loss(*(x if j == argument else s[i] for j, s in enumerate(stacked))) for i in (0, 1)]
    expected = torch.stack([torch.func.grad(f)(stacked[argument][i]) for i, f in enumerate(losses)])
    torch.testing.assert_close(actual, expected)


def test_vmap_over_targets_alone():
    z, y, w = arrays()
    labels = torch.stack([y, (y + 1) % 5])
    actual = torch.func.vmap(lambda y: seqloss.sequence_loss(z, y, w))(labels)
    torch.testing.assert_close(actual, torch.stack([seqloss.sequence_loss(z, y, w) for y in labels]))


def dual_numbers(function, z):
    with torch.autograd.forward_ad.dual_level():
        return function(torch.autograd.forward_ad.make_dual(z, z))


FORWARD = {
    "jvp": lambda function, z: torch.func.jvp(function, (z,), (z,)),
    "hessian": lambda function, z: torch.func.hessian(function)(z),
    "jacfwd": lambda function, z: torch.func.jacfwd(function)(z),
    "dual_numbers": dual_numbers,
    "over_a_gradient": lambda function, z: torch.func.jvp(torch.func.grad(function), (z,), (z,)),
}
LOSSES = {
    "sequence": seqloss.sequence_loss,
    "exact": lambda z, y, w: seqloss.sequence_loss(z, y, w, exact=True),
    "token": lambda z, y, w: seqloss.token_loss(z, y).sum(),
    "softmax": lambda z, y, w: seqloss.softmax_cross_entropy(z.detach(), z),
    "sigmoid": lambda z, y, w: seqloss.sigmoid_cross_entropy(z.detach(), z),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("transform", FORWARD)
def test_forward_mode_is_refused(transform, loss):
    z, y, w = arrays(torch.float32)
    with pytest.raises(seqloss.BackendError) as caught:
        FORWARD[transform](lambda z: LOSSES[loss](z, y, w), z)
    assert str(caught.value) == errors.FORWARD_MODE


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "exact"])
def test_forward_mode_in_a_compiled_function(loss):
    z, y, w = arrays()

    def forward(z, along):
        return torch.func.jvp(lambda z: LOSSES[loss](z, y, w), (z,), (along,))[1]

    along = torch.linspace(-1, 1, z.numel(), dtype=z.dtype).reshape(z.shape)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[loss](z, y, w), z)
    compiled = torch.compile(forward, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(z.detach(), along), (gradient * along).sum())


def test_checkpoint():
    z, y, w = arrays()
    z.requires_grad_()
    loss = torch.utils.checkpoint.checkpoint(seqloss.sequence_loss, z, y, w, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(loss, z), torch.autograd.grad(plain_loss(z, y, w), z))


def numbers_in(residuals):
    if isinstance(residuals, tuple):
        return [x for each in residuals for x in numbers_in(each)]
    return [] if residuals is None else [np.asarray(residuals)]


def test_saved_for_backward():
    """Of size [batch, time, classes] only the logits themselves are kept, and no copy of them."""
    z, y, w = arrays(torch.float32, (4, 7, 1000))
    z.requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        loss = seqloss.sequence_loss(z, y, w)
    # What NumPy has computed lies beside the tensors, where no hook sees it.
    beside = numbers_in(loss.grad_fn.residuals.of_op)
    assert len(beside) > 3
    assert max(x.size for x in beside) <= 2 * w.numel() and sum(x.nbytes for x in beside) <= 32 * w.numel()
    large = [x for x in saved if x.numel() >= z.numel()]
    assert [x.data_ptr() for x in large] == [z.data_ptr()]
    assert max(x.numel() for x in saved if x.numel() < z.numel()) <= w.numel()
    loss.backward()
    assert z.grad.shape == z.shape


def test_the_loss_does_not_keep_the_logits_alive_after_backward():
    z, y, w = arrays(torch.float32)
    z.requires_grad_()
    logits = 2 * z
    alive = weakref.ref(logits)
    loss = seqloss.sequence_loss(logits, y, w)
    loss.backward()
    del logits
    gc.collect()
    assert alive() is None


def test_vectorized_jacobian():
    z, y, w = arrays()

    def losses(z):
        return seqloss.sequence_loss(z, y, w, False, False)

    jacobian = torch.autograd.functional.jacobian
    torch.testing.assert_close(jacobian(losses, z, vectorize=True), jacobian(losses, z))


def test_a_custom_loss_under_torch_func():
    z, y, w = arrays()

    def gradient(z):
        return seqloss.sequence_loss_and_grad(z, y, w, softmax_loss_function=twice)[1]

    def twice(labels, logits):
        return 2 * seqloss.token_loss(logits, labels)

    expected = 2 * seqloss.sequence_loss_and_grad(z, y, w)[1]
    torch.testing.assert_close(torch.func.vmap(gradient)(z[None])[0], expected)
    with torch.inference_mode():
        torch.testing.assert_close(gradient(z), expected)


@pytest.mark.parametrize("argument", ["targets", "weights"])
def test_devices_must_agree(argument):
    z, y, w = arrays()
    moved = {"targets": y, "weights": w, argument: {"targets": y, "weights": w}[argument].to("meta")}
    with pytest.raises(seqloss.DeviceError, match=rf"logits is on cpu but {argument} is on meta; move {argument} to"):
        seqloss.sequence_loss(z, **moved)


def test_meta_tensors_have_shapes_and_no_values():
    z, y, w = (x.to("meta") for x in arrays())
    loss = seqloss.sequence_loss(z, y, w)
    assert (loss.shape, loss.device.type, loss.dtype) == ((), "meta", torch.float64)


def test_check_labels_cannot_be_forced_while_tracing():
    z, y, w = arrays()
    with pytest.raises(seqloss.UnreadableError, match="check_labels=True must read"):
        torch.func.vmap(lambda y: seqloss.sequence_loss(z, y, w, check_labels=True))(y[None])


def test_check_labels_cannot_be_forced_without_storage():
    z, y, w = (x.to("meta") for x in arrays())
    with pytest.raises(seqloss.UnreadableError, match="check_labels=True must read"):
        seqloss.sequence_loss(z, y, w, check_labels=True)


@pytest.mark.parametrize("export", [False, True])
def test_a_structure_error_while_compiling_is_torchs_own(export):
    """The listed deviation: fullgraph compilation and strict export wrap every error of the traced code."""
    z, y, w = arrays()

    class Model(torch.nn.Module):
        def forward(self, z, y, w):
            return seqloss.sequence_loss(z, y, w)

    run = (
        (lambda *a: torch.export.export(Model(), a, strict=True))
        if export
        else torch.compile(seqloss.sequence_loss, fullgraph=True, backend="aot_eager")
    )
    with pytest.raises(torch._dynamo.exc.Unsupported, match="targets must have the shape"):
        run(z, y.T, w)


def test_a_flag_of_numpy_in_a_program_is_refused_in_words():
    """In a program it is an array; the message says what to pass instead."""
    z, y, w = arrays()
    program = torch.compile(
        lambda z: seqloss.sequence_loss(z, y, w, average_across_batch=np.True_), fullgraph=True, backend="aot_eager"
    )
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"average_across_batch must be .* or convert it with bool"):
        program(z)


@pytest.mark.parametrize("run", ["compile", "export"])
def test_a_structure_error_keeps_its_class_elsewhere(run):
    z, y, w = arrays()

    class Model(torch.nn.Module):
        def forward(self, z, y, w):
            return seqloss.sequence_loss(z, y, w)

    runs = {
        "compile": torch.compile(seqloss.sequence_loss, backend="aot_eager"),
        "export": lambda *a: torch.export.export(Model(), a),
    }
    with pytest.raises(seqloss.ShapeError, match="targets must have the shape"):
        runs[run](z, y.T, w)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
@pytest.mark.parametrize("layout", ["sparse", "nested"])
def test_tensors_that_are_not_dense_are_refused(layout):
    z, y, w = arrays()
    if layout == "sparse":
        bad, mend = z.to_sparse(), r"logits\.to_dense\(\)"
    else:
        bad, mend = torch.nested.nested_tensor([z[0], z[1, :2]]), "to_padded_tensor"
    with pytest.raises(seqloss.ArgumentTypeError, match=f"not a dense array; pass .*{mend}"):
        seqloss.sequence_loss(bad, y, w)


def test_parameter_and_non_contiguous_input():
    z, y, w = arrays()
    parameter = torch.nn.Parameter(z.transpose(0, 1))
    loss = seqloss.sequence_loss(parameter.transpose(0, 1), y, w)
    loss.backward()
    torch.testing.assert_close(loss.detach(), plain_loss(z, y, w))
    assert parameter.grad.shape == parameter.shape


def test_name_is_a_profiler_region():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        seqloss.sequence_loss(*arrays(), name="my_loss")
    assert "my_loss" in {event.name for event in profile.events()}


def test_logits_that_need_no_gradient_stay_without_graph():
    assert not seqloss.sequence_loss(*arrays()).requires_grad


def test_loss_and_grad_is_detached():
    z, y, w = arrays()
    loss, gradient = seqloss.sequence_loss_and_grad(z.requires_grad_(), y, w)
    assert not loss.requires_grad and not gradient.requires_grad


def test_float8_is_refused():
    z, y, w = arrays(torch.float32)
    with pytest.raises(seqloss.DTypeError, match=r"logits must have one of the dtypes .* got float8_e4m3fn"):
        seqloss.sequence_loss(z.to(torch.float8_e4m3fn), y, w)


# --- eager tensors on the CPU, whose memory NumPy reads ------------------------------------------------------------


def same_bits(actual, expected):
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[actual.element_size()]
    np.testing.assert_array_equal(actual.detach().view(kind), expected.detach().view(kind))


def loss_and_gradients(z, y, w, **options):
    leaves = z.detach().clone().requires_grad_(), w.detach().clone().requires_grad_()
    loss = seqloss.sequence_loss(leaves[0], y, leaves[1], **options)
    return loss, *torch.autograd.grad(loss.sum(), leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_eager_tensors_are_computed_by_numpy(dtype):
    """Same bits as NumPy's own results, for all that NumPy knows."""
    z, y, w = arrays(torch.float32)
    z = z.to(dtype)
    w = w.to(torch.float64) if dtype is torch.float64 else w
    loss, *gradients = loss_and_gradients(z, y, w)
    assert gradients[0].dtype is dtype
    # NumPy has no bfloat16 of its own: its gradient is the wide one, rounded.
    host = z.float() if dtype is torch.bfloat16 else z
    expected, (d_logits, d_weights) = seqloss.sequence_loss_and_grad(
        host.numpy(), y.numpy(), w.numpy(), wrt=("logits", "weights")
    )
    same_bits(loss, torch.tensor(expected))
    same_bits(gradients[0], torch.from_numpy(d_logits).to(dtype))
    same_bits(gradients[1], torch.from_numpy(d_weights))


@pytest.mark.parametrize("make", ["transposed", "expanded", "sliced", "offset"])
def test_views(make):
    z, y, w = arrays(torch.float32, (4, 6, 5))
    view = {
        "transposed": lambda x: x.transpose(0, 1),
        "expanded": lambda x: x[:1].expand(4, *x.shape[1:]),
        "sliced": lambda x: x[::2, 1::2],
        "offset": lambda x: x[1:, 2:],
    }[make]
    views = [view(x) for x in (z, y, w)]
    for actual, expected in zip(
        loss_and_gradients(*views), loss_and_gradients(*(x.contiguous() for x in views)), strict=True
    ):
        same_bits(actual.contiguous(), expected)
    leaf = z.clone().requires_grad_()
    seqloss.sequence_loss(view(leaf), *views[1:]).backward()
    assert leaf.grad.shape == z.shape


def test_expanded_cotangent():
    z, y, _ = arrays(torch.float32)
    z.requires_grad_()
    (actual,) = torch.autograd.grad(seqloss.token_loss(z, y).sum(), z)  # the gradient of a sum is a scalar, expanded
    (expected,) = torch.autograd.grad(seqloss.token_loss(z, y), z, torch.ones(2, 3))
    same_bits(actual, expected)


@pytest.mark.parametrize("written", ["logits", "targets", "weights"])
def test_a_write_between_forward_and_backward_is_noticed(written):
    z, y, w = arrays(torch.float32)
    leaf = z.clone().requires_grad_()
    given = {"logits": leaf * 1, "targets": y.clone(), "weights": w.clone()}
    loss = seqloss.sequence_loss(**given)
    given[written].detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("exact", [False, True])
def test_the_caller_may_write_into_a_result(exact):
    """Losses are needed in the backward pass too, as numbers of NumPy, which autograd does not watch."""
    z, y, w = arrays(torch.float32)
    leaves = z.clone().requires_grad_(), w.clone().requires_grad_()
    losses = {
        "token": lambda z, w: seqloss.token_loss(z, y, exact=exact),
        "one token": lambda z, w: seqloss.token_loss(z[0, 0], y[0, 0], exact=exact),
        "sequence": lambda z, w: seqloss.sequence_loss(z, y, w, average_across_batch=False, exact=exact),
        "explicit": lambda z, w: seqloss.sequence_loss(z, y, w, **cases.PLAIN, exact=exact),
    }
    for loss in losses.values():
        expected = torch.autograd.grad(3 * loss(*leaves).sum(), leaves, allow_unused=True)
        value = loss(*leaves)
        value *= 3
        actual = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
        same_bits(actual[0], expected[0])
        assert actual[1] is None or torch.equal(actual[1], expected[1])


def test_weights_that_depend_on_the_logits():
    """With create_graph the way over the weights must not be counted twice."""
    z, y, _ = arrays(torch.float64)
    z.requires_grad_()

    def gradients(loss):
        (first,) = torch.autograd.grad(loss(z, y, z[..., 0] ** 2), z, create_graph=True)
        return first, torch.autograd.grad((first * torch.arange(first.numel()).reshape(first.shape)).sum(), z)[0]

    torch.testing.assert_close(gradients(seqloss.sequence_loss), gradients(plain_loss), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("create_graph", [False, True])
def test_hooks_of_the_logits_are_called_once(create_graph):
    z, y, w = arrays(torch.float64)
    z.requires_grad_()
    logits, calls = z * 1.0, []
    logits.register_hook(lambda gradient: calls.append(1) or 2 * gradient)
    (actual,) = torch.autograd.grad(seqloss.sequence_loss(logits, y, w), z, create_graph=create_graph)
    torch.testing.assert_close(actual, 2 * torch.autograd.grad(plain_loss(z, y, w), z)[0])
    assert calls == [1]


def test_retained_graph():
    z, y, w = arrays(torch.float32)
    z.requires_grad_()
    loss = seqloss.sequence_loss(z, y, w)
    once, twice = (torch.autograd.grad(loss, z, retain_graph=True)[0] for _ in range(2))
    same_bits(once, twice)


def test_backward_in_threads():
    z, y, w = arrays(torch.float32, (8, 16, 1000))
    expected = loss_and_gradients(z, y, w)
    found = [None] * 8

    def work(i):
        found[i] = loss_and_gradients(z, y, w)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(found))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for results in found:
        for actual, wanted in zip(results, expected, strict=True):
            same_bits(actual, wanted)


def test_no_more_threads_than_torch_was_told(monkeypatch):
    counts = []
    share = threads.share
    monkeypatch.setattr(threads, "share", lambda *a: counts.append(threads.allowed()) or share(*a))
    z, y, w = arrays(torch.float32, (2, 100, 4000))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 3)
        loss_and_gradients(z, y, w)
        # The other way: without a gradient in the forward pass.
        seqloss.token_loss(z.requires_grad_(), y).sum().backward()
    finally:
        torch.set_num_threads(before)
    assert len(counts) >= 3 and set(counts) == {before + 3}


def test_anomaly_mode():
    z, y, w = arrays(torch.float32)
    z.requires_grad_()
    with torch.autograd.set_detect_anomaly(True, check_nan=True):
        seqloss.sequence_loss(z, y, w).backward()
        broken = seqloss.sequence_loss(z * torch.nan, y, w, check_labels=False)
        with pytest.raises(RuntimeError, match="returned nan values"):
            broken.backward()


class Seen(TorchDispatchMode):
    """A mode that is shown all operations, as profilers and savers of memory are."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **kwargs or {})


def test_dispatch_modes_see_operations():
    z, y, w = arrays(torch.float32)
    expected = loss_and_gradients(z, y, w)
    with Seen() as seen:
        actual = loss_and_gradients(z, y, w)
    torch.testing.assert_close(actual, expected)
    assert sum("exp" in name for name in seen.names) >= 2


def test_a_subclass_stays_what_it_is():
    class Mine(torch.Tensor):
        pass

    z, y, w = arrays(torch.float32)
    loss = seqloss.sequence_loss(z.as_subclass(Mine), y, w)
    assert type(loss) is Mine
    torch.testing.assert_close(loss.as_subclass(torch.Tensor), seqloss.sequence_loss(z, y, w))


# --- compiled programs ---------------------------------------------------------------------------------------------


def ulps(actual, expected, dtype="float32"):
    return float(np.max(tolerances.excess(actual.detach().numpy(), expected, dtype, np.float64(1))))


@pytest.mark.parametrize("offset, dynamic", [(0.0, None), (0.0, True), (1e5, None)])
def test_inductor_is_right_to_the_last_digits(offset, dynamic):
    """At any confidence, and wherever the logits lie."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (1, 64, 50))
    targets = rng.integers(0, 50, (1, 64))
    logits[0, np.arange(64), targets[0]] += np.linspace(-60, 60, 64)
    logits = (logits + offset).astype("float32")
    expected = oracle.tokens(logits, targets)
    z = torch.tensor(logits, requires_grad=True)
    loss = torch.compile(seqloss.token_loss, fullgraph=True, dynamic=dynamic)(z, torch.tensor(targets))
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert ulps(loss, expected.nll) <= 4
    assert ulps(gradient, expected.slope) <= 6


def test_inductor_with_logits_that_are_not_finite():
    """-infinity is what a class is ruled out with."""
    z, y, w = arrays(torch.float32, (2, 3, 40))
    z[:, :, 1::2] = -torch.inf
    z[0, 0], w[0, 0] = torch.nan, 0
    z[1, 2] = torch.nan
    y = 2 * (y // 2)
    compiled = torch.compile(seqloss.sequence_loss, fullgraph=True)
    options = {**cases.PLAIN, "check_labels": False}
    leaves = z.requires_grad_(), w.requires_grad_()
    loss = compiled(z, y, w, **options)
    gradients = torch.autograd.grad(loss.sum(), leaves)
    expected, *expected_gradients = loss_and_gradients(z, y, w, **options)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0, equal_nan=True)
    torch.testing.assert_close(gradients, tuple(expected_gradients), rtol=1e-5, atol=1e-9, equal_nan=True)
    assert torch.isnan(gradients[0][1, 2]).all() and (gradients[0][0, 0] == 0).all()


def test_a_compiled_program_reads_the_logits_in_one_loop():
    """The forward pass makes one loop of maximum and sum, the backward pass one of all there is."""
    z, y, w = arrays(torch.float32, (1, 32, 4096))
    z.requires_grad_()

    def run():
        torch.compile(seqloss.sequence_loss, fullgraph=True)(z, y, w).backward()

    _, programs = torch._inductor.utils.run_and_get_code(run)
    passes = [program.count("x0<static_cast<int64_t>(32L); x0+=static_cast<int64_t>(1L)") for program in programs]
    assert passes == [1, 1]


@pytest.mark.parametrize("made", [lambda x: x, lambda x: x[0][None]], ids=["given", "computed"])
@pytest.mark.parametrize("order", ["logits", "mixed"])
def test_second_derivatives_inside_of_a_compiled_program(order, made):
    """Of arrays of the caller, and of such as the program makes of them."""
    z, y, w = (x[:1] for x in arrays())
    direction = torch.linspace(-1, 1, z.numel(), dtype=z.dtype).reshape(z.shape)

    def second(loss):
        def along(z, w):
            of_made = torch.func.grad(lambda z, w: loss(made(z), y, made(w)))
            return (of_made(z, w) * direction).sum()

        return torch.func.grad(along, argnums=0 if order == "logits" else 1)

    assert (w == 0).any()
    actual = torch.compile(second(seqloss.sequence_loss), backend="aot_eager")(z, w)
    torch.testing.assert_close(actual, second(plain_loss)(z, w), rtol=1e-9, atol=1e-12)


# --- exact losses --------------------------------------------------------------------------------------------------


def exact_arrays(dtype):
    generator = torch.Generator().manual_seed(0)
    z = 9 * torch.randn(4, 50, 130, generator=generator)
    y = torch.randint(0, 130, (4, 50), generator=generator)
    z[:, ::3].scatter_add_(-1, y[:, ::3, None], torch.full((4, 17, 1), 80.0))
    return z.to(dtype), y, torch.rand(4, 50, generator=generator)


together_has_it = pytest.mark.only_in_full("tests/together/test_exact.py has inductor, float32 and larger batches")


@pytest.mark.parametrize(
    "run, dtype",
    [
        # A compiler takes half a minute for each.
        pytest.param("inductor", torch.float32, marks=together_has_it),
        ("dynamic", torch.bfloat16),
        ("func", torch.float32),
        ("func", torch.float16),
        ("mode", torch.float32),
        ("mode", torch.bfloat16),
    ],
)
def test_exact_losses_are_the_same_bits(run, dtype):
    """Own operations of PyTorch against NumPy's kernel."""
    z, y, w = exact_arrays(dtype)
    expected = loss_and_gradients(z, y, w, exact=True)
    if run == "func":
        loss = seqloss.sequence_loss(z, y, w, exact=True)
        actual = loss, *torch.func.grad(seqloss.sequence_loss, argnums=(0, 2))(z, y, w, exact=True)
    elif run == "mode":
        with Seen():
            actual = loss_and_gradients(z, y, w, exact=True)
    else:
        compiled = torch.compile(seqloss.sequence_loss, fullgraph=True, dynamic=run == "dynamic")
        leaves = z.clone().requires_grad_(), w.clone().requires_grad_()
        loss = compiled(leaves[0], y, leaves[1], exact=True)
        actual = loss, *torch.autograd.grad(loss, leaves)
    for one, other in zip(actual, expected, strict=True):
        same_bits(one, other)


def test_compiled_exact_token_losses_are_the_same_bits():
    """Of confident tokens too: as vectors, torch.compile has an expm1 that cancels."""
    y = torch.randint(0, 2, (2, 4000))  # many: then the gradients at the targets are computed by themselves
    z = 3 * torch.randn(2, 4000, 2) + 40 * torch.nn.functional.one_hot(y, 2)
    z.requires_grad_()
    losses = [f(z, y, exact=True) for f in (seqloss.token_loss, torch.compile(seqloss.token_loss, dynamic=True))]
    same_bits(*losses)
    same_bits(*(torch.autograd.grad(loss.sum(), z)[0] for loss in losses))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compiled", [False, True])
def test_nothing_is_rounded_twice(compiled, dtype):
    """Just above the middle between two half-precision numbers, by less than float32 can tell."""
    unit = torch.finfo(dtype).eps
    middle = 1 + torch.tensor([unit / 2, unit * 3 / 2], dtype=torch.float64).repeat(16)
    narrowed = numbers.narrowed
    if compiled:
        narrowed = torch.compile(narrowed, fullgraph=True)
    above, below = narrowed(middle + 2.0**-40, dtype), narrowed(middle - 2.0**-40, dtype)
    assert above.dtype is dtype
    np.testing.assert_array_equal(above.double(), np.tile([1 + unit, 1 + 2 * unit], 16))
    np.testing.assert_array_equal(below.double(), np.tile([1, 1 + unit], 16))
    assert middle.float().to(dtype)[0] == 1  # to the even number, whatever was above


@pytest.mark.parametrize("function", ["sequence", "token"])
@pytest.mark.parametrize("run", ["func", "autograd"])
def test_exact_losses_have_no_second_derivatives(run, function):
    z, y, w = arrays(torch.float32)

    def loss(z):
        if function == "token":
            return seqloss.token_loss(z, y, exact=True).square().sum()
        return seqloss.sequence_loss(z, y, w, exact=True)

    if run == "autograd":
        z.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(z), z, create_graph=True)
        second = lambda: torch.autograd.grad(gradient.square().sum(), z)  # noqa: E731
    else:
        second = lambda: torch.func.jacrev(torch.func.jacrev(loss))(z)  # noqa: E731
    with pytest.raises(seqloss.BackendError, match=r"^exact=True, and the linear loss, have only first derivatives"):
        second()


@pytest.mark.parametrize("function", [seqloss.sequence_loss, seqloss.token_loss])
def test_exact_losses_have_second_derivatives_in_a_program(function):
    """What is traced is differentiated, and so nothing can be refused."""
    z, y, _ = arrays(torch.float32)

    def hessian(exact):
        return torch.func.jacrev(torch.func.jacrev(lambda z: function(z[:1], y[:1], exact=exact).square().sum()))

    actual = torch.compile(hessian(True), backend="aot_eager")(z)
    torch.testing.assert_close(actual, hessian(False)(z))


def test_exact_gradients_with_create_graph():
    z, y, w = arrays(torch.float32)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(seqloss.sequence_loss(z, y, w, exact=True), z, create_graph=True)
    same_bits(gradient, torch.autograd.grad(seqloss.sequence_loss(z, y, w, exact=True), z)[0])


def test_exact_losses_under_vmap():
    z, y, w = arrays(torch.float32)
    batch = torch.stack([z, 2 * z, -z])
    gradient = torch.func.grad(lambda z: seqloss.sequence_loss(z, y, w, exact=True))
    same_bits(torch.func.vmap(gradient)(batch), torch.stack([gradient(one) for one in batch]))


def test_many_cotangents_of_an_exact_loss():
    z, y, _ = arrays(torch.float32)
    z.requires_grad_()
    loss = seqloss.token_loss(z, y, exact=True)
    many = torch.eye(6).reshape(6, 2, 3)
    (actual,) = torch.autograd.grad(loss, z, many, is_grads_batched=True, retain_graph=True)
    same_bits(actual, torch.stack([torch.autograd.grad(loss, z, one, retain_graph=True)[0] for one in many]))
