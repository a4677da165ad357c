"""Conformance suites: proof that an implementation keeps what its Protocol in `core` promises.

They raise AssertionError with one sentence, so they run under any test runner.
"""

from stillhouse.testing.encoders import check_encoder
from stillhouse.testing.providers import check_provider
from stillhouse.testing.store import check_store
from stillhouse.testing.students import check_student

__all__ = ["check_encoder", "check_provider", "check_store", "check_student"]
