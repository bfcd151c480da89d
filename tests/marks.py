"""Which parameters `make test` tries, and which `make test-all` alone."""

import pytest


def slow(*given, **options):
    return pytest.param(*given, marks=pytest.mark.slow, **options)


def fast(given, kept):
    """All of `given`, those not among `kept` slow."""
    return [a if a in kept else slow(a) for a in given]
