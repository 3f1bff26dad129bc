"""``seqloss.torch``: the loss as a module. It must be the function, whatever is done to it."""

import copy
import doctest
import inspect
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import seqloss
from seqloss import Smoothing

SHAPE, CLASSES = (2, 4), 5
CLASS_WEIGHTS = [1.0, 2, 0.5, 3, 1]
PRIOR = np.array([0.5, 1, 1, 2, 0.25])
IN_CALLS = {"logits", "targets", "weights", "lengths", "cu_seqlens", "normalizer"}


def halved(labels, logits):
    return nn.functional.cross_entropy(logits, labels.long(), reduction="none") / 2


OPTIONS = {
    "average_across_timesteps": False,
    "average_across_batch": False,
    "sum_over_timesteps": {
        "sum_over_timesteps": True,
        "average_across_timesteps": False,
        "average_across_batch": False,
    },
    "sum_over_batch": {"sum_over_batch": True, "average_across_timesteps": False, "average_across_batch": False},
    "softmax_loss_function": halved,
    "name": "criterion",
    "ignore_index": (3, 4),
    "label_smoothing": Smoothing(0.2, prior=PRIOR, exclude=(1,)),
    "class_weights": CLASS_WEIGHTS,
    "z_loss": 0.1,
    "softcap": 2.0,
    "reduction": "sequence_mean",
    "check_labels": True,
    "exact": True,
}
"""For each option a value that changes what the loss of the batch is, with what it needs beside it."""


def made(name):
    value = OPTIONS[name]
    return value if isinstance(value, dict) else {name: value}


def batch(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    logits = (2 * torch.randn(*SHAPE, CLASSES, generator=generator)).to(dtype).requires_grad_()
    weights = torch.tensor([[1, 0.5, 2, 1], [0.25, 1, 0, 0]])
    return logits, torch.tensor([[0, 1, 2, 3], [4, 1, 1, 0]]), weights


def same(loss, expected, logits):
    """The same bits, for the loss and the gradient with respect to the logits."""
    assert loss.dtype == expected.dtype
    assert loss.shape == expected.shape
    gradients = [torch.autograd.grad(x.sum(), logits)[0] for x in (loss, expected)]
    assert torch.equal(loss, expected)
    assert torch.equal(*gradients)
    assert gradients[0].dtype == logits.dtype


def everything():
    """A module with each kind of state."""
    return seqloss.torch.SequenceLoss(
        ignore_index=4, class_weights=CLASS_WEIGHTS, label_smoothing=OPTIONS["label_smoothing"], z_loss=0.1
    )


def expected_of_everything(arrays, **more):
    options = {"class_weights": CLASS_WEIGHTS, "label_smoothing": OPTIONS["label_smoothing"], "z_loss": 0.1}
    return seqloss.sequence_loss(*arrays, ignore_index=4, **options, **more)


def test_the_options_are_those_of_the_function():
    function = inspect.signature(seqloss.sequence_loss).parameters
    module = inspect.signature(seqloss.torch.SequenceLoss).parameters
    assert list(module) == [name for name in function if name not in IN_CALLS] == list(OPTIONS)
    assert set(inspect.signature(seqloss.torch.SequenceLoss.forward).parameters) == {"self", *IN_CALLS}
    for name, parameter in module.items():
        assert parameter.default == function[name].default
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert f"\n{name} : " in inspect.getdoc(seqloss.torch.SequenceLoss)


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_passes_through(name):
    arrays = batch()
    loss = seqloss.torch.SequenceLoss(**made(name))(*arrays)
    same(loss, seqloss.sequence_loss(*arrays, **made(name)), arrays[0])
    plain = seqloss.sequence_loss(*arrays)
    if name not in ("name", "check_labels", "exact"):
        assert loss.shape != plain.shape or abs(loss - plain) > 1e-3


def test_the_check_of_labels_passes_through():
    logits, targets, _ = batch()
    targets[0, 0] = CLASSES
    assert seqloss.torch.SequenceLoss(check_labels=False)(logits, targets).isnan()


def test_the_name_passes_through():
    with torch.profiler.profile() as profile:
        seqloss.torch.SequenceLoss(name="criterion")(*batch())
    assert "criterion" in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize(
    "more",
    [
        {"lengths": torch.tensor([3, 1])},
        {"normalizer": 7},
        {"lengths": torch.tensor([3, 1]), "normalizer": torch.tensor(7)},
        {"cu_seqlens": torch.tensor([0, 3, 8])},
    ],
)
def test_what_belongs_to_a_batch_is_given_in_the_call(more):
    logits, *others = batch()
    packed = "cu_seqlens" in more
    arrays = [logits.flatten(0, 1), *(x.flatten() for x in others)] if packed else [logits, *others]
    loss = everything()(*arrays, **more)
    same(loss, expected_of_everything(arrays, **more), logits)
    assert abs(loss - everything()(*batch())) > 1e-3 or packed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype):
    arrays = batch(dtype)
    same(everything()(*arrays), expected_of_everything(arrays), arrays[0])


def test_autocast():
    model, criterion = nn.Linear(3, CLASSES), everything()
    _, *others = batch()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.ones(*SHAPE, 3))
        loss = criterion(logits, *others)
    assert logits.dtype is torch.bfloat16
    same(loss, expected_of_everything((logits, *others)), logits)
    assert loss.dtype is torch.float32


def saved_and_loaded(module):
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    smoothing = Smoothing(0.2, prior=[1.0] * CLASSES, exclude=(1,))
    fresh = seqloss.torch.SequenceLoss(
        ignore_index=4, class_weights=[1.0] * CLASSES, label_smoothing=smoothing, z_loss=0.1
    )
    fresh.load_state_dict(torch.load(file))
    return fresh


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "state_dict": saved_and_loaded,
}


@pytest.mark.parametrize("way", COPIES)
def test_copies(way):
    arrays, module = batch(), everything()
    other = COPIES[way](module)
    same(other(*arrays), expected_of_everything(arrays), arrays[0])
    assert repr(other) == repr(module)
    assert other.class_weights is not module.class_weights


def test_buffers_move_and_are_all_the_state():
    module = everything()
    assert list(module.state_dict()) == ["class_weights", "smoothing_prior"]
    assert module.label_smoothing.prior is None  # not beside the buffer
    assert list(module.parameters()) == []
    assert {x.device.type for x in module.to("meta").buffers()} == {"meta"}
    assert list(seqloss.torch.SequenceLoss(label_smoothing=0.1).state_dict()) == []


def test_what_was_given_is_copied_and_has_no_gradient():
    given = torch.tensor(CLASS_WEIGHTS, requires_grad=True)
    module, arrays = seqloss.torch.SequenceLoss(class_weights=given), batch()
    with torch.no_grad():
        given.zero_()
    assert not module.class_weights.requires_grad
    same(module(*arrays), seqloss.sequence_loss(*arrays, class_weights=CLASS_WEIGHTS), arrays[0])


def test_a_loss_function_that_is_a_module_is_a_part():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.5))

        def forward(self, labels, logits):
            return self.scale * nn.functional.cross_entropy(logits, labels, reduction="none")

    module = seqloss.torch.SequenceLoss(softmax_loss_function=Scaled())
    assert [name for name, _ in module.named_parameters()] == ["softmax_loss_function.scale"]
    module(*batch()).backward()
    assert module.softmax_loss_function.scale.grad != 0


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, ""),
        ({"average_across_timesteps": True, "label_smoothing": 0, "exact": np.False_}, ""),
        ({"exact": True, "ignore_index": -100}, "ignore_index=-100, exact=True"),
        ({"ignore_index": 0, "reduction": "sum"}, "ignore_index=0, reduction='sum'"),
        ({"label_smoothing": Smoothing(0.1)}, "label_smoothing=Smoothing(eps=0.1)"),
        (
            {"class_weights": CLASS_WEIGHTS, "label_smoothing": OPTIONS["label_smoothing"]},
            "label_smoothing=Smoothing(eps=0.2, prior=<5 classes>, exclude=(1,)), class_weights=<5 classes>",
        ),
        ({"softmax_loss_function": halved}, "softmax_loss_function=halved"),
    ],
)
def test_repr_shows_what_is_not_as_by_default(options, expected):
    assert repr(seqloss.torch.SequenceLoss(**options)) == f"SequenceLoss({expected})"


BAD = [
    {"average_across_timesteps": 1},
    {"sum_over_timesteps": True},
    {"softmax_loss_function": 3},
    {"name": 3},
    {"ignore_index": 1.5},
    {"label_smoothing": 1.0},
    {"label_smoothing": Smoothing(0.1, prior=[0.0] * CLASSES)},
    {"label_smoothing": Smoothing(0.1, prior=[1.0, -1, 1, 1, 1])},
    {"class_weights": [1.0, -1, 1, 1, 1]},
    {"class_weights": ["a"] * CLASSES},
    {"class_weights": CLASS_WEIGHTS, "label_smoothing": Smoothing(0.1, centred=True)},
    {"class_weights": CLASS_WEIGHTS, "label_smoothing": Smoothing(0.1, exclude=(CLASSES,))},
    {"class_weights": CLASS_WEIGHTS, "label_smoothing": Smoothing(0.1, prior=[1.0])},
    {"z_loss": -1},
    {"softcap": 0.0},
    {"softcap": 1.0, "softmax_loss_function": halved},
    {"reduction": "average"},
    {"reduction": "sum", "average_across_batch": False},
    {"check_labels": 1},
    {"exact": True, "softmax_loss_function": halved},
]


@pytest.mark.parametrize("options", BAD, ids=lambda options: "-".join(options))
def test_options_are_checked_when_it_is_made_as_the_function_does(options):
    with pytest.raises(seqloss.SeqlossError) as expected:
        seqloss.sequence_loss(*batch(), **options)
    with pytest.raises(type(expected.value)) as found:
        seqloss.torch.SequenceLoss(**options)
    assert str(found.value) == str(expected.value)


def test_classes_that_cannot_be_are_refused_before_their_number_is_known():
    with pytest.raises(seqloss.OptionError, match=r"class ids in \[0, the number of classes\), got -1"):
        seqloss.torch.SequenceLoss(label_smoothing=Smoothing(0.1, exclude=(0, -1)))


@pytest.mark.parametrize("options", [{"label_smooth": 0.1}, {"normalizer": 3}, {"weights": None}])
def test_other_names_are_refused(options):
    told = rf"^SequenceLoss has no argument '{next(iter(options))}'; it has average_.*, exact\. Pass what belongs to"
    with pytest.raises(seqloss.ArgumentTypeError, match=told):
        seqloss.torch.SequenceLoss(**options)


@pytest.mark.parametrize(
    "options, more",
    [({"class_weights": [1.0]}, {}), ({"reduction": "none"}, {"normalizer": 3}), ({}, {"lengths": [9, 1]})],
)
def test_what_depends_on_the_batch_is_refused_by_the_call(options, more):
    with pytest.raises(seqloss.SeqlossError) as expected:
        seqloss.sequence_loss(*batch(), **options, **more)
    with pytest.raises(type(expected.value)) as found:
        seqloss.torch.SequenceLoss(**options)(*batch(), **more)
    assert str(found.value) == str(expected.value)


def test_compiled():
    """One graph, for the loss and the gradient."""
    torch.compiler.reset()
    arrays = batch()
    compiled = torch.compile(everything(), fullgraph=True, backend="aot_eager")
    loss, expected = compiled(*arrays, normalizer=torch.tensor(6)), expected_of_everything(arrays, normalizer=6)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(x, arrays[0])[0] for x in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["sequence", "perplexity", "causal_lm"])
def test_examples(name):
    module = getattr(seqloss.torch, name)
    results = doctest.testmod(module)
    assert results.attempted > 5
    assert results.failed == 0
