"""Every case of the table, in every backend, mode and dtype, against the oracle."""

import suite


def test_case(conformance):
    suite.run(*conformance)
