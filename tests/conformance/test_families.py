"""Every row of the families, in every backend, mode and dtype, against the formulas in wide floats."""

import inspect

import family_suite

import seqloss
from seqloss import legacy, samplers, sampling
from seqloss.testing import families


def test_family(family):
    family_suite.run(*family)


def public():
    """The names of all public functions and of the classes that compute."""
    for prefix, module in (("", seqloss), ("", sampling), ("legacy.", legacy), ("samplers.", samplers)):
        for name in getattr(module, "__all__", vars(module)):
            member = getattr(module, name)
            # Of a module without __all__ what it defines itself.
            is_own = hasattr(module, "__all__") or getattr(member, "__module__", None) == module.__name__
            if is_own and inspect.isfunction(member) and not name.startswith("_"):
                yield prefix + name


def test_every_public_function_is_in_the_table():
    named = {row.function for row in families.FAMILIES}
    aliases = {"legacy.sequence_loss_by_example": "sequence_loss_by_example"}
    missing = {aliases.get(name, name) for name in public()} - named - set(families.ELSEWHERE)
    assert not missing
    assert named <= set(public())


def test_every_array_has_a_name():
    assert [row.name for row in families.FAMILIES if len(row.arguments) != len(row.arrays())] == []


def test_names_are_unique():
    names = [row.name for row in families.FAMILIES]
    assert len(names) == len(set(names))
