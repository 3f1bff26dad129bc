"""Importing stays light, the floors hold, and the public names are the promised ones."""

import ast
import inspect
from pathlib import Path

import pytest

import seqloss
from seqloss.core.protocol import Backend

PACKAGE = Path(seqloss.__file__).parent
HEAVY = ("numpy", "torch", "tensorflow", "jax", "keras", "scipy")

PUBLIC = {
    "nce_loss",
    "sampled_softmax_loss",
    "sequence_loss",
    "sequence_loss_and_grad",
    "sequence_loss_by_example",
    "linear_sequence_loss",
    "linear_sequence_loss_and_grad",
    "linear_loss_sum",
    "token_loss",
    "loss_sum",
    "LossSum",
    "sequence_mask",
    "next_token",
    "Smoothing",
    "sparse_softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits",
    "sigmoid_cross_entropy_with_logits",
    "weighted_cross_entropy_with_logits",
    "Reduction",
    "compute_weighted_loss",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
    "sigmoid_cross_entropy",
    "register_backend",
    "SeqlossError",
    "ShapeError",
    "DTypeError",
    "ArgumentTypeError",
    "OptionError",
    "LabelError",
    "UnreadableError",
    "MixedBackendsError",
    "DeviceError",
    "BackendError",
}


def imported_by(python, program):
    return python(f"import sys; {program}; print(*[m for m in {HEAVY} if m in sys.modules])").split()


FACES = ["keras", "torch"]
"""Modules of seqloss that import a framework."""


@pytest.mark.parametrize("module", ["seqloss", "seqloss.__main__", "seqloss.core.dispatch", "seqloss.core.protocol"])
def test_importing_brings_no_framework_and_no_numpy(python, module):
    assert imported_by(python, f"import {module}") == []


def test_the_import_test_can_fail(python):
    assert imported_by(python, "import seqloss, numpy") == ["numpy"]


def test_a_call_on_lists_brings_numpy_alone(python):
    assert imported_by(python, "import seqloss; seqloss.sequence_loss([[[0.0, 1.0]]], [[1]])") == ["numpy"]


def test_public_names():
    assert set(seqloss.__all__) == PUBLIC
    assert all(getattr(seqloss, name).__doc__ for name in PUBLIC)


@pytest.mark.parametrize("name", FACES)
def test_a_face_is_there_without_an_import_of_its_own(python, name):
    """Shown by dir, and imported when it is used; a framework that is not installed is named, with what to do."""
    program = f"""
import importlib.util, sys, seqloss
assert "{name}" in dir(seqloss)
if importlib.util.find_spec("{name}") is None:
    assert not hasattr(seqloss, "{name}")
    try:
        seqloss.{name}
    except AttributeError as error:
        assert str(error) == "seqloss.{name} needs {name}, which is not installed; add it with: " \
            'python -m pip install ".[{name}]" -c constraints.txt (in a checkout of seqloss)', error
else:
    assert seqloss.{name} is sys.modules["seqloss.{name}"]
    assert all(getattr(seqloss.{name}, each).__doc__ for each in seqloss.{name}.__all__)
"""
    assert python(program) == ""


def test_dir_shows_public_names_alone(python):
    """And a submodule only if it is public; all of it is there, or needs a framework that may be missing."""
    program = "import seqloss, seqloss.testing, seqloss.__main__; print(*[n for n in dir(seqloss) if n[:2] != '__'])"
    shown = set(python(program).split())
    assert shown == {*PUBLIC, *FACES, "legacy", "samplers"}
    assert all(hasattr(seqloss, name) for name in shown - set(FACES))
    assert "__version__" in dir(seqloss)


def test_a_name_that_people_guess_leads_to_the_right_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'cross_entropy'; call seqloss\.token_loss .*sequence_loss"):
        seqloss.cross_entropy(None, None)


def test_a_name_that_does_not_exist_is_an_ordinary_error():
    with pytest.raises(AttributeError, match=r"^module 'seqloss' has no attribute 'no_such_name'$"):
        seqloss.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", [name for name in sorted(PUBLIC) if name.endswith("Error") and name != "SeqlossError"])
def test_each_error_is_also_a_builtin_one_and_keeps_its_class_in_autograph(name):
    error = getattr(seqloss, name)
    assert issubclass(error, seqloss.SeqlossError)
    assert issubclass(error, ValueError) != issubclass(error, TypeError)
    assert error.__init__ is Exception.__init__


OF_A_TOKEN = "label_smoothing=0.0, class_weights=None, z_loss=0.0, softcap=None, "
LINEAR = (
    "(hidden, kernel, targets, weights=None, name=None, *, bias=None, ignore_index=None, lengths=None, "
    f"cu_seqlens=None, {OF_A_TOKEN}reduction=None, normalizer=None, check_labels=None, exact=False, chunk=None"
)
SIGNATURE = (
    "(logits, targets, weights=None, average_across_timesteps=True, average_across_batch=True, "
    "sum_over_timesteps=False, sum_over_batch=False, softmax_loss_function=None, name=None, *, ignore_index=None, "
    f"lengths=None, cu_seqlens=None, {OF_A_TOKEN}reduction=None, normalizer=None, check_labels=None, exact=False"
)


@pytest.mark.parametrize(
    "function, expected",
    [
        (seqloss.sequence_loss, SIGNATURE + ")"),
        (seqloss.sequence_loss_and_grad, SIGNATURE + ", cotangent=None, wrt='logits')"),
        (
            seqloss.loss_sum,
            "(logits, targets, weights=None, *, ignore_index=None, lengths=None, cu_seqlens=None, softcap=None, "
            "accuracy=False, check_labels=None, exact=False)",
        ),
        (seqloss.linear_sequence_loss, LINEAR + ")"),
        (seqloss.linear_sequence_loss_and_grad, LINEAR + ", cotangent=None, wrt=('hidden', 'kernel'))"),
        (
            seqloss.linear_loss_sum,
            "(hidden, kernel, targets, weights=None, *, bias=None, ignore_index=None, lengths=None, cu_seqlens=None, "
            "softcap=None, accuracy=False, check_labels=None, exact=False, chunk=None)",
        ),
        (seqloss.token_loss, f"(logits, targets, *, active=None, {OF_A_TOKEN}exact=False)"),
        (
            seqloss.next_token,
            "(targets, weights=None, *, lengths=None, segment_ids=None, cu_seqlens=None, ignore_index=None)",
        ),
        (seqloss.sequence_mask, "(lengths, maxlen=None, dtype='bool')"),
        (seqloss.register_backend, "(framework, adapter_module)"),
    ],
)
def test_signatures(function, expected):
    """The positional order and the defaults are those of TensorFlow 1.15; options are keyword-only."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)) == expected


# --- the floors of the house: imports only go down ------------------------------------------------------------------

FLOORS = [
    {"core.errors", "core.hints", "core.open_sizes", "core.smoothing"},
    {"core.dtypes", "core.options", "core.shapes", "core.types"},
    {"core.objectives", "core.packed"},
    {"core.contract", "core.linear"},
    {"core.protocol"},
    {"core.argument"},
    {"core.labels", "backends.compensated"},
    {"backends.chunks"},
    {"backends.base", "backends.numpy"},
    {"backends.on_numpy"},
    {"backends.array_api", "backends.torch", "backends.tensorflow", "backends.jax"},
    {"core.dispatch"},
    {"core.extras"},
    {"core.call"},
    {"losses.beside", "losses.classes", "losses.columns", "losses.counting", "losses.kernels", "losses.masking"},
    {"losses.reduction"},
    {"losses.packing"},
    {"losses.arguments", "losses.objective", "losses.token_arguments"},
    {
        "losses.accuracy",
        "losses.linear_arguments",
        "losses.custom",
        "losses.sequence_op",
        "losses.settings",
        "losses.token_op",
    },
    {"losses.totals", "losses.linear_codes"},
    {"losses.linear_op"},
    {"losses.ops"},
    {"losses.sums", "losses.weighting", "losses.sampled"},
    {"losses.cross_entropies"},
    {"losses.time_lists"},
    {"sequence", "linear", "loss_sum", "shift", "tokens", "masks", "samplers", "with_logits"},
    {"weighted", "legacy", "sampling"},
    {""},
    {"compat"},
    {"keras", "torch"},
    {"testing"},
    {"commands"},
    {"parity"},
    {"__main__"},
]
FRAMEWORKS = {"backends.numpy", "backends.torch", "backends.tensorflow", "backends.jax"}
MAY_IMPORT = {
    "torch": {"backends.torch", "torch", "testing"},
    "tensorflow": {"backends.tensorflow", "testing"},
    "jax": {"backends.jax", "testing"},
    "keras": {"keras"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(module):
    """The room of a module name relative to the package: the longest prefix that stands in FLOORS."""
    parts = module.split(".") if module else [""]
    while parts:
        name = ".".join(parts)
        if any(name in floor for floor in FLOORS):
            return name
        parts.pop()
    return None


def level(name):
    return next(i for i, floor in enumerate(FLOORS) if name in floor)


def imports(path):
    """Every absolute module name that a file imports, inside functions too; names of a from-import are tried."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def violations(own, names):
    here = room(own)
    if here is None:
        return [] if own in ("core", "backends", "losses") else [f"{own} stands on no floor"]
    found = []
    for name in names:
        top = name.partition(".")[0]
        if top in MAY_IMPORT and not any(here == room or here.startswith(room) for room in MAY_IMPORT[top]):
            found.append(f"{own} imports {name}")
        if top == "seqloss":
            there = room(name.partition(".")[2])
            if {here, there} < FRAMEWORKS and here != there:
                found.append(f"{own} imports {name}, another backend")
                continue
            lazily = (here == "core.dispatch" and there.startswith("backends")) or (here == "" and there in FACES)
            if there is None or (there != here and level(there) >= level(here) and not lazily):
                found.append(f"{own} imports {name}, which does not stand below it")
    return found


@pytest.mark.parametrize("path", FILES, ids=[own_name(path) or "seqloss" for path in FILES])
def test_imports_only_go_down(path):
    assert violations(own_name(path), imports(path)) == []


@pytest.mark.parametrize(
    "own, imported",
    [
        ("core.shapes", "seqloss.core.dispatch.load"),
        ("losses.reduction", "torch"),
        ("backends.jax.ops", "seqloss.core.dispatch.load"),
        ("backends.jax.ops", "seqloss.backends.numpy.ops"),
        ("sequence", "seqloss.testing.oracle"),
        ("attic", "os"),
    ],
)
def test_the_floors_test_can_fail(own, imported):
    assert len(violations(own, [imported])) == 1


def test_no_assert_in_the_library():
    """Asserts vanish under python -O; only the testing kit may use them."""
    library = [path for path in FILES if "testing" not in path.parts]
    assert [p for p in library if any(isinstance(n, ast.Assert) for n in ast.walk(ast.parse(p.read_text())))] == []


ROOMS = (
    *("__init__.py", "blocks.py", "cross_entropy.py", "distribution.py", "execution.py", "linear.py"),
    *("numbers.py", "ops.py", "sigmoid.py", "softmax.py", "sums.py"),
)
OF_A_BACKEND = {name for name in vars(Backend) if name[0] != "_"}


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow", "jax"])
def test_the_backends_have_the_same_rooms(backend):
    own = {
        "numpy": {"calls.py", "compiled.py", "library.py", "rows.py", "threads.py"},
        "torch": {"mesh.py", "operators.py"},
    }.get(backend, set())
    assert {path.name for path in (PACKAGE / "backends" / backend).glob("*.py")} == {*ROOMS, *own}


# How a framework goes through the classes, and with which numbers, is its own affair; and NumPy has no products of its
# own for the linear loss.
SHARED = ("cross_entropy.py", "execution.py", "ops.py", "sigmoid.py", "softmax.py", "sums.py")


@pytest.mark.parametrize("room_name", SHARED)
@pytest.mark.parametrize("backend", ["torch", "tensorflow", "jax"])
def test_the_rooms_hold_the_same_functions_of_a_backend_in_the_same_order(backend, room_name):
    def functions(name):
        tree = ast.parse((PACKAGE / "backends" / name / room_name).read_text())
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        return [name for name in names if name in OF_A_BACKEND]

    assert functions(backend) == functions("numpy")
