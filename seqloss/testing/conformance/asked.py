"""What kernels are asked for: statistics, priors, caps and masks, each of them alone and together."""

from typing import Any, NamedTuple

import numpy as np

from seqloss.core.contract import Cotangents, Spec
from seqloss.core.dtypes import compute_dtype
from seqloss.core.protocol import Array, Backend

NAMES = ("nll", "lse", "unl")


class Asked(NamedTuple):
    """One way to call a kernel."""

    lse: bool = False
    unl: bool = False
    prior: tuple[float, ...] | None = None
    softcap: float | None = None
    masked: bool = False

    def spec(self, dtype: str) -> Spec:
        return Spec(dtype, self.lse, self.unl, self.softcap)

    @property
    def names(self) -> tuple[str, ...]:
        """The statistics that it asks for."""
        return tuple(name for name, wanted in zip(NAMES, (True, self.lse, self.unl), strict=True) if wanted)

    def given(self, dtype: str) -> Array | None:
        """The prior as NumPy's array, in the dtype of the spec for logits of ``dtype``."""
        return None if self.prior is None else np.array(self.prior, compute_dtype(dtype))

    def __str__(self) -> str:
        more = ["a prior"] * bool(self.prior) + [f"softcap {self.softcap}"] * bool(self.softcap)
        more += ["active"] * self.masked
        return f"{' and '.join(self.names)}{''.join(f', with {text}' for text in more)}"


def choice(prior: tuple[float, ...], dtype: str) -> tuple[Asked, ...]:
    """Each statistic alone and all together; each of prior, cap and mask without the others and with them.

    A kernel sees its dtype and what it is asked for independently of each other, and there are frameworks that compile
    each call: so in half precision the least and the most are enough.
    """
    least, most = Asked(masked=True), Asked(lse=True, unl=True, prior=prior, softcap=3.0, masked=True)
    if dtype in ("float16", "bfloat16"):
        return least, most
    return (
        Asked(),
        least,
        Asked(lse=True),
        Asked(unl=True, masked=True),
        Asked(unl=True, prior=prior),
        Asked(softcap=30.0, masked=True),
        Asked(lse=True, unl=True, softcap=3.0),
        most,
    )


def mask(shape: tuple[int, ...]) -> Array:
    """Every other token, the first row's shifted by one: each kind of token is on both sides."""
    return (np.arange(np.prod(shape)).reshape(shape) + np.array([[0], [1]])) % 2 == 0


def upstream(asked: Asked, shape: tuple[int, ...], dtype: str) -> list[tuple[str, dict[str, Array]]]:
    """Cotangents for what is asked for, with a text: one alone, all together with some that are 0, and none.

    The second row has cotangents of 0 alone.
    """
    count = shape[-1]
    rows = {
        "nll": np.linspace(0.5, 2, count),
        "lse": np.linspace(-1.5, -0.25, count),
        "unl": np.linspace(0.25, 1.75, count)[::-1],
    }
    live = np.array([[1], [0]])
    given = {name: (rows[name] * live).astype(compute_dtype(dtype)) for name in asked.names}
    some = {name: x * (np.arange(count) % 3 != i) for i, (name, x) in enumerate(given.items())}
    if asked.lse:
        # At the first token they add up to 0, which is not the same as being 0.
        some["lse"][0, 0] = -sum(x[0, 0] for name, x in some.items() if name != "lse")
    together = [(f"cotangents of {' and '.join(given)}", some)]
    if asked.names == ("nll",):
        return [("a cotangent of nll", given), *([("no cotangents", {})] if asked == Asked() else [])]
    if asked.names == NAMES:
        return together
    name = asked.names[1]
    alone = [(f"a cotangent of {name}", {name: given[name]})]
    zeros = [("a cotangent of nll, and zeros", {"nll": given["nll"], name: 0 * given[name]})]
    return [*alone, *together, *(zeros if asked.lse else [])]


def cotangents(backend: Backend, given: dict[str, Array]) -> Cotangents:
    """As a kernel takes them: None for those that are not there."""
    return Cotangents(*(backend.asarray(given[name]) if name in given else None for name in NAMES))


def placed_or_none(backend: Backend, x: Array | None) -> Any:
    return None if x is None else backend.asarray(x)
