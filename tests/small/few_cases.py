"""A pytest plugin: three cases and one family are all there are, for tests of the census itself."""

from seqloss.testing import cases, families

cases.CASES = tuple(case for case in cases.CASES if case.name in ("flags_none", "weights_ones", "masked_inf"))
families.FAMILIES = tuple(row for row in families.FAMILIES if row.name == "nce_loss-plain")
