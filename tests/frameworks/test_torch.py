"""What only PyTorch has: compile, torch.func, double backward, export, devices, saved tensors."""

import gc
import weakref

import numpy as np
import pytest
import torch

import seqloss
from seqloss.testing import cases


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


@pytest.mark.parametrize("transform", ["jvp", "hessian", "jacfwd"])
def test_forward_mode_is_refused(transform):
    z, y, w = arrays()
    run = {
        "jvp": lambda f: torch.func.jvp(f, (z,), (z,)),
        "hessian": lambda f: torch.func.hessian(f)(z),
        "jacfwd": lambda f: torch.func.jacfwd(f)(z),
    }[transform]
    with pytest.raises((NotImplementedError, RuntimeError), match=r"jvp|forward"):
        run(lambda z: seqloss.sequence_loss(z, y, w))


def test_checkpoint():
    z, y, w = arrays()
    z.requires_grad_()
    loss = torch.utils.checkpoint.checkpoint(seqloss.sequence_loss, z, y, w, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(loss, z), torch.autograd.grad(plain_loss(z, y, w), z))


def test_saved_for_backward():
    """Of size [batch, time, classes] only the logits themselves are kept, and no copy of them."""
    z, y, w = arrays(torch.float32, (4, 7, 1000))
    z.requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        loss = seqloss.sequence_loss(z, y, w)
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
@pytest.mark.parametrize("layout", ["sparse", "nested", "jagged"])
def test_tensors_that_are_not_dense_are_refused(layout):
    z, y, w = arrays()
    if layout == "sparse":
        bad, mend = z.to_sparse(), r"logits\.to_dense\(\)"
    else:
        kind = torch.jagged if layout == "jagged" else torch.strided
        bad, mend = torch.nested.nested_tensor([z[0], z[1, :2]], layout=kind), "to_padded_tensor"
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
    with pytest.raises(seqloss.DTypeError, match=r"logits must be of one of the dtypes .* got float8_e4m3fn"):
        seqloss.sequence_loss(z.to(torch.float8_e4m3fn), y, w)
