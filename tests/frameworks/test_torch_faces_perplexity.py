"""``seqloss.torch.Perplexity``: a sum of batches, as a module. ``tests/engines`` has several processes."""

import copy
import inspect
import io
import pickle

import pytest
import torch
from torch.nn import functional

import seqloss
from seqloss.torch import Perplexity

CLASSES = 5


def batches():
    """Logits, targets and weights of batches with uneven numbers of tokens."""
    generator = torch.Generator().manual_seed(3)
    for shape in ((2, 4), (1, 1), (3, 2), (1, 7)):
        logits = 3 * torch.randn(*shape, CLASSES, generator=generator)
        targets = torch.randint(CLASSES, shape, generator=generator)
        yield logits, targets, 0.25 * torch.randint(6, shape, generator=generator)


def fed(metric, order=(0, 1, 2, 3)):
    given = list(batches())
    for i in order:
        metric.update(*given[i])
    return metric


def expected(**options):
    """From PyTorch's own losses of tokens, in float64."""
    losses, counts = 0.0, 0.0
    for logits, targets, weights in batches():
        cap = options.get("softcap")
        logits = logits.double() if cap is None else cap * torch.tanh(logits.double() / cap)
        nll = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        weights = weights.double().flatten() * (targets.flatten() != options.get("ignore_index"))
        losses, counts = losses + (weights * nll).sum(), counts + weights.sum()
    return torch.exp(losses / counts)


def test_the_options_are_those_of_the_function():
    function = inspect.signature(seqloss.loss_sum).parameters
    module = inspect.signature(Perplexity).parameters
    of_a_batch = {"logits", "targets", "weights", "lengths", "cu_seqlens"}
    assert set(inspect.signature(Perplexity.update).parameters) == {"self", *of_a_batch}
    assert list(module) == [name for name in function if name not in {"accuracy", *of_a_batch}]
    assert all(parameter.default == function[name].default for name, parameter in module.items())
    assert all(f"\n{name} : " in inspect.getdoc(Perplexity) for name in module)


@pytest.mark.parametrize(
    "options", [{}, {"ignore_index": 2}, {"softcap": 1.5}, {"exact": True}, {"check_labels": True}]
)
def test_the_perplexity_of_batches_of_uneven_sizes(options):
    found = fed(Perplexity(**options)).compute()
    assert found.dtype is torch.float64
    assert found.shape == ()
    torch.testing.assert_close(found, expected(**options), rtol=1e-9 if "exact" in options else 1e-6, atol=0)
    mean_of_means = torch.stack([seqloss.sequence_loss(*batch, **options) for batch in batches()]).mean()
    assert abs(torch.exp(mean_of_means) - found) > 1e-2


def test_labels_are_checked_where_that_is_asked_for():
    logits, targets = torch.zeros(1, 2, CLASSES), torch.tensor([[0, CLASSES]])
    metric = Perplexity(check_labels=False)
    metric.update(logits, targets)
    assert metric.compute().isnan()
    with pytest.raises(seqloss.LabelError):
        Perplexity().update(logits, targets)


@pytest.mark.parametrize("more", [{"lengths": torch.tensor([3, 1])}, {"cu_seqlens": torch.tensor([0, 3, 8])}])
def test_lengths_and_offsets(more):
    logits, targets, weights = next(batches())
    arrays = logits, targets, weights
    if "cu_seqlens" in more:
        arrays = logits.flatten(0, 1), targets.flatten(), weights.flatten()
    metric = Perplexity()
    metric.update(*arrays, **more)
    mean = seqloss.sequence_loss(*arrays, **more)
    torch.testing.assert_close(metric.compute(), mean.double().exp(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 3, 0, 2)])
def test_no_order_changes_a_bit(order):
    assert torch.equal(fed(Perplexity(), order).compute(), fed(Perplexity()).compute())
    assert fed(Perplexity(), order).sum().to_dict() == fed(Perplexity()).sum().to_dict()


def test_the_sum_has_the_other_results():
    total = fed(Perplexity()).sum()
    assert isinstance(total, seqloss.LossSum)
    assert torch.equal(total.perplexity(), fed(Perplexity()).compute())
    torch.testing.assert_close(total.mean(), expected().log(), rtol=1e-6, atol=0)


def test_reset_and_no_tokens():
    metric = fed(Perplexity())
    metric.reset()
    assert metric.compute() == 1
    assert torch.equal(fed(metric).compute(), fed(Perplexity()).compute())


def loaded(metric):
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    fresh = Perplexity(ignore_index=2)
    fresh.load_state_dict(torch.load(file))
    return fresh


@pytest.mark.parametrize("way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), loaded, Perplexity.all_reduce])
def test_copies_go_on_by_themselves(way):
    metric = fed(Perplexity(ignore_index=2), (0, 1))
    other = way(metric)
    before = metric.compute()
    assert torch.equal(other.compute(), before)
    assert repr(other) == repr(metric) == "Perplexity(ignore_index=2)"
    assert torch.equal(fed(other, (2, 3)).compute(), fed(Perplexity(ignore_index=2)).compute())
    assert torch.equal(metric.compute(), before)


@pytest.mark.parametrize("change", [torch.nn.Module.half, torch.nn.Module.double, lambda x: x.to(torch.bfloat16)])
def test_a_change_of_dtype_loses_nothing(change):
    assert torch.equal(change(fed(Perplexity())).compute(), fed(Perplexity()).compute())


def test_no_graph_is_kept():
    logits, *others = next(batches())
    metric = Perplexity()
    metric.update(logits.requires_grad_(), *others)
    assert not any(x.requires_grad for x in metric.buffers())
    assert not metric.compute().requires_grad


@pytest.mark.parametrize(
    "options", [{"ignore_index": 1.5}, {"softcap": 0.0}, {"check_labels": 1}, {"exact": 1}], ids=repr
)
def test_options_are_checked_when_it_is_made_as_the_function_does(options):
    with pytest.raises(seqloss.SeqlossError) as wanted:
        seqloss.loss_sum(*next(batches()), **options)
    with pytest.raises(type(wanted.value)) as found:
        Perplexity(**options)
    assert str(found.value) == str(wanted.value)


@pytest.mark.parametrize("name", ["accuracy", "label_smoothing", "weights"])
def test_other_options_are_refused(name):
    told = (
        rf"^Perplexity has no argument '{name}'; it has ignore_index, softcap, check_labels, exact\. Pass what belongs"
    )
    with pytest.raises(seqloss.ArgumentTypeError, match=told):
        Perplexity(**{name: True})


def test_compiled():
    torch.compiler.reset()
    metric = Perplexity()
    update = torch.compile(metric.update, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        logits, *others = next(batches())
        update(logits.requires_grad_(), *others)
    plain = fed(Perplexity(), (0, 0))
    torch.testing.assert_close(metric.compute(), plain.compute(), rtol=1e-6, atol=0)
    assert abs(plain.compute() - 1) > 1e-2
