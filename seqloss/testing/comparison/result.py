"""What a comparison found, without the arrays."""

from dataclasses import asdict, dataclass
from typing import Any

from seqloss.testing.comparison import text
from seqloss.testing.strict import jsonable


@dataclass(frozen=True)
class Side:
    """One of the two arrays.

    Parameters
    ----------
    framework : str
        The framework that owns it; "python" for numbers and lists.
    type : str
        Its class with the package that has it, as in "torch.Tensor".
    shape : tuple of int
        Its shape.
    dtype : str
        The name of its dtype, as in "bfloat16"; "bool", "int" or "float" for Python numbers, which have no dtype.
    device : str or None
        Where it is, in the words of its framework; None where that is unknown.
    """

    framework: str
    type: str
    shape: tuple[int, ...]
    dtype: str
    device: str | None

    @property
    def kind(self) -> str:
        """Which kind of numbers it holds.

        Returns
        -------
        str
            "bool", "int" or "float".
        """
        return "bool" if self.dtype == "bool" else "int" if self.dtype.startswith(("int", "uint")) else "float"


@dataclass(frozen=True)
class Entry:
    """One entry of the two arrays.

    Parameters
    ----------
    index : tuple of int
        Its place, () in an array without axes.
    actual, expected : float or int or bool
        What the two arrays hold there.
    ulp : float or None
        The distance in units of the last place; None beside a NaN, an infinity or integers.
    allowed : float or None
        The distance that is allowed at this entry, in the same units.
    label : int or float or None
        The label of the token, if labels were given.
    weight : float or None
        The weight of the token, if weights were given.
    """

    index: tuple[int, ...]
    actual: float
    expected: float
    ulp: float | None = None
    allowed: float | None = None
    label: float | None = None
    weight: float | None = None


@dataclass(frozen=True)
class Places:
    """Where the two arrays hold one special kind of number: NaN, exact zero, or infinity.

    Parameters
    ----------
    actual, expected : int
        How many of them each side has.
    differing : int
        How many entries differ in it. Infinities of the other sign differ.
    first : Entry or None
        The first of these.
    """

    actual: int
    expected: int
    differing: int
    first: Entry | None


@dataclass(frozen=True)
class Spread:
    """How far the finite entries are apart, in units of the last place.

    Parameters
    ----------
    max, p99, median : float
        The largest distance, one that at least 99 of 100 entries do not exceed, and the median: of an even number of
        entries the larger of the two in the middle.
    """

    max: float
    p99: float
    median: float


@dataclass(frozen=True)
class Comparison:
    """What :func:`seqloss.testing.compare` found; true if the arrays are the same.

    Parameters
    ----------
    name : str or None
        What was compared, if a name was given.
    actual, expected : Side
        The two arrays.
    problems : tuple of str
        What is wrong, out of "framework", "shape", "dtype", "nan", "zeros", "infinities" and "values", in this order.
    size : int
        The number of entries that were compared: 0 where the shapes differ.
    dtype : str
        The dtype whose units of the last place count, the coarser of the two; "int" where both hold integers.
    compute : str
        The dtype in whose units the bound counts.
    bound : float
        The bound; the largest, if it is not the same everywhere.
    nan, zeros, infinities : Places or None
        Where the special numbers are; None where the shapes differ.
    ulp : Spread or None
        The raw distances; None where no entry is finite on both sides, and for integers.
    ulp_at_scale : Spread or None
        The same in units of the last place of ``scale``, where that is larger; None without a scale.
    largest_difference : float or None
        The largest absolute difference of finite entries.
    relative_to_largest : float or None
        The same, as a fraction of the largest expected entry.
    differing : int
        How many entries differ by more than is allowed, NaN, zeros and infinities included.
    differing_at_weight_0 : int or None
        How many of them belong to tokens of weight 0, if weights were given.
    first : Entry or None
        The first of the differing entries, in the order of their indices.
    worst : Entry or None
        The finite entry that is furthest off, relative to what is allowed there; None where all are equal.
    notes : tuple of str
        What is not wrong but good to know.
    """

    name: str | None
    actual: Side
    expected: Side
    problems: tuple[str, ...]
    size: int
    dtype: str
    compute: str
    bound: float
    nan: Places | None = None
    zeros: Places | None = None
    infinities: Places | None = None
    ulp: Spread | None = None
    ulp_at_scale: Spread | None = None
    largest_difference: float | None = None
    relative_to_largest: float | None = None
    differing: int = 0
    differing_at_weight_0: int | None = None
    first: Entry | None = None
    worst: Entry | None = None
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing is wrong.

        Returns
        -------
        bool
            True if there are no problems.
        """
        return not self.problems

    def __bool__(self) -> bool:
        # Without it "assert compare(...)" would always pass.
        return self.same

    def report(self) -> str:
        """The findings in a few lines of ASCII; the first problem is in the first line.

        Returns
        -------
        str
            The lines, without a newline at the end.
        """
        return text.report(self)

    def __str__(self) -> str:
        return self.report()

    def as_dict(self) -> dict[str, Any]:
        """The findings as one object of strict JSON.

        Returns
        -------
        dict
            The attributes by name, with "same" in front. Tuples are lists, and floats that are not finite are the
            strings "nan", "inf" and "-inf", which ``float`` reads.
        """
        return {"same": self.same, **{name: jsonable(value) for name, value in asdict(self).items()}}
