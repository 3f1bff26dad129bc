"""Whether two arrays are the same, and what is wrong if they are not."""

from typing import Any

from seqloss.core import options
from seqloss.testing.comparison import rules as ruling
from seqloss.testing.comparison.findings import findings, notes_on_sides
from seqloss.testing.comparison.measure import Measured
from seqloss.testing.comparison.result import Comparison
from seqloss.testing.comparison.sides import read

Array = Any

__all__ = ["ParityError", "assert_parity", "compare"]


class ParityError(AssertionError):
    """Two arrays that should be the same are not; ``comparison`` holds what was found."""

    comparison: Comparison | None = None


def compare(
    actual: Array,
    expected: Array,
    *,
    bound: Array | float | None = None,
    scale: Array | float | None = None,
    compute: str | None = None,
    labels: Array | None = None,
    weights: Array | None = None,
    check_framework: bool = False,
    check_dtype: bool = True,
    name: str | None = None,
) -> Comparison:
    """Compare two arrays of any frameworks, and say what differs.

    The two must agree in shape, dtype, the places of NaN, of exact zeros and of infinities, and then in their values::

        |actual - expected| <= bound * ulp(max(|actual|, |expected|, scale))

    Parameters
    ----------
    actual : array of any shape
        What is to be checked: a NumPy array, a torch or JAX array, a TensorFlow tensor or variable, an array of a
        registered framework, or Python numbers in lists; floats of all four dtypes, integers or bools. It may require
        gradients, be on an accelerator, and need not be contiguous.
    expected : array of the same shape
        What it should be: likewise, of the same framework or of another one. Python numbers have no dtype of their
        own and go with every dtype that can hold them. NumPy's ``longdouble`` counts as a float wider than float64.
    bound : float or array, optional
        How many units in the last place (ULP) of ``compute`` a value may be off: at least 0 and finite, a number or an
        array that broadcasts to the results, such as that of :func:`seqloss.testing.token_bound`. None means the
        entries of the table in :mod:`seqloss.testing.tolerances` for logits of a range up to 20: 20 ULP beside an
        ``expected`` of a wider dtype than ``compute``, and 40 ULP between two computed results. 0 asks for equal
        numbers. Integers and bools must always be equal.
    scale : float or array, optional
        The size of the numbers that were added up, at least 0, which broadcasts to the results: where they cancel, the
        rounding error is theirs and not that of the sum. A sum of summands that are not 0 may be 0 on one side only.
    compute : str, optional
        The name of the float dtype that was computed in. None means float32, and for float64 if both are float64.
        A result of another dtype may be off by one more unit of its own, for its rounding, unless the bound is 0.
    labels : array, optional
        A number for each token, of the leading sizes of the results. The report shows it next to an entry.
    weights : array, optional
        The same. The report also says how many of the differing entries are at tokens of weight 0.
    check_framework : bool, default False
        Whether the frameworks must be the same.
    check_dtype : bool, default True
        Whether the dtypes must be the same. If not, the unit in the last place is that of the coarser dtype.
    name : str, optional
        What is compared, for the report.

    Returns
    -------
    Comparison
        What was found: true if the arrays are the same. Its ``report()`` is for people, ``as_dict()`` for JSON.

    Raises
    ------
    ArgumentTypeError
        If an argument is not a dense array, or an option is not of its type.
    DTypeError
        If an array holds neither floats of one of the four dtypes nor integers nor bools.
    UnreadableError
        If an array has no values, because it is traced.
    OptionError
        If a bound, a scale or a dtype to compute in makes no sense.
    ShapeError
        If bound, scale, labels or weights do not fit the shape of the results.

    See Also
    --------
    assert_parity : Raises the report as an error.

    Notes
    -----
    -0.0 equals 0.0 and NaN equals NaN, but the report notes where zeros have the other sign and where all is NaN. Below
    the smallest normal number of the dtype, zero and everything within one smallest normal number agree, because some
    executors flush such numbers to zero; in float16 none does.

    It does not matter which array is called expected: the verdict is the same if the two are swapped. Nothing is
    differentiated or written, and the values of an array on an accelerator are waited for.

    References
    ----------
    ``torch.testing.assert_close`` and ``numpy.testing.assert_allclose`` compare by relative and absolute tolerances.

    Examples
    --------
    >>> import numpy as np
    >>> from seqloss.testing import compare
    >>> expected = np.array([[0.5, 0.0], [2.0, 1.0]], "float32")
    >>> actual = np.array([[0.5, 0.0], [2.0, 1.00001]], "float32")
    >>> result = compare(actual, expected, labels=[[7, 0], [3, 5]], weights=[[1, 0], [1, 0.5]])
    >>> result.same
    False
    >>> print(result.report())
    DIFFERENT: 1 of 4 entries differs by more than 40 ULP of float32
      actual    numpy.ndarray float32 [2, 2] on cpu
      expected  numpy.ndarray float32 [2, 2] on cpu
      first     [1, 1] is 1.00001001, expected 1: 84 ULP, 40 allowed (label 5, weight 0.5)
      values    ULP of float32: max 84, p99 84, median 0; relative to the largest: 5.01e-06
      weights   0 of the 1 that differ are at tokens of weight 0
    """
    return measured(
        actual,
        expected,
        bound=bound,
        scale=scale,
        compute=compute,
        labels=labels,
        weights=weights,
        check_framework=check_framework,
        check_dtype=check_dtype,
        name=name,
    )[0]


def measured(
    actual: Array,
    expected: Array,
    *,
    bound: Array | float | None = None,
    scale: Array | float | None = None,
    compute: str | None = None,
    labels: Array | None = None,
    weights: Array | None = None,
    check_framework: bool = False,
    check_dtype: bool = True,
    name: str | None = None,
) -> tuple[Comparison, Measured | None]:
    """What ``compare`` returns, and the numbers of the single entries; None where the shapes differ."""
    for option, value in (("check_framework", check_framework), ("check_dtype", check_dtype)):
        options.flag(option, value)
    options.scope_name("name", name)
    a, e = read("actual", actual), read("expected", expected)
    wrong = {
        "framework": check_framework and a.side.framework != e.side.framework,
        "shape": a.values.shape != e.values.shape,
        "dtype": check_dtype and not ruling.dtypes_agree(a, e),
    }
    problems = tuple(problem for problem, is_wrong in wrong.items() if is_wrong)
    rules = ruling.rules(a, e, bound, scale, compute)
    largest_bound = float(rules.bound.max(initial=0))
    found = Comparison(
        name, a.side, e.side, problems, 0, rules.dtype, rules.compute, largest_bound, notes=notes_on_sides(a, e)
    )
    if wrong["shape"]:
        return found, None
    tokens = {
        option.removesuffix("s"): ruling.token_numbers(option, value, e.values.shape)
        for option, value in (("labels", labels), ("weights", weights))
    }
    return findings(found, a, e, rules, tokens)


def assert_parity(
    actual: Array,
    expected: Array,
    *,
    bound: Array | float | None = None,
    scale: Array | float | None = None,
    compute: str | None = None,
    labels: Array | None = None,
    weights: Array | None = None,
    check_framework: bool = False,
    check_dtype: bool = True,
    name: str | None = None,
) -> None:
    """Raise an error that says what differs, unless two arrays are the same.

    The arguments, and what counts as the same, are those of :func:`seqloss.testing.compare`.

    Parameters
    ----------
    actual : array of any shape
        What is to be checked, of any framework.
    expected : array of the same shape
        What it should be, of any framework.
    bound : float or array, optional
        How many units in the last place of ``compute`` a value may be off.
    scale : float or array, optional
        The size of the numbers that were added up.
    compute : str, optional
        The name of the float dtype that was computed in.
    labels : array, optional
        A number for each token, for the report.
    weights : array, optional
        A number for each token, for the report.
    check_framework : bool, default False
        Whether the frameworks must be the same.
    check_dtype : bool, default True
        Whether the dtypes must be the same.
    name : str, optional
        What is compared, for the report.

    Raises
    ------
    ParityError
        If they differ: an ``AssertionError`` with the report as its text and the :class:`Comparison` in
        ``comparison``. The other errors are those of ``compare``.

    See Also
    --------
    compare : Returns what was found.

    Examples
    --------
    >>> from seqloss.testing import assert_parity
    >>> assert_parity([0.1 + 0.2], [0.3])
    >>> assert_parity([0.1 + 0.2], [0.3], bound=0, name="sum")
    Traceback (most recent call last):
        ...
    seqloss.testing.comparison.ParityError: sum: DIFFERENT: 1 of 1 entry differs by more than 0 ULP of float64
      actual    list float [1]
      expected  list float [1]
      first     [0] is 0.30000000000000004, expected 0.29999999999999999: 1 ULP, 0 allowed
      values    ULP of float64: max 1, p99 1, median 1; relative to the largest: 1.85e-16
    """
    __tracebackhide__ = True
    found = compare(
        actual,
        expected,
        bound=bound,
        scale=scale,
        compute=compute,
        labels=labels,
        weights=weights,
        check_framework=check_framework,
        check_dtype=check_dtype,
        name=name,
    )
    if not found.same:
        error = ParityError(found.report())
        error.comparison = found
        raise error
