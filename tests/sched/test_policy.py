"""The names of the policies."""

from __future__ import annotations

from pyramidai_mpi.base import settings
from pyramidai_mpi.sched.policy import RULES, Policy


def test_the_settings_know_the_policies_of_the_scheduler_and_each_has_rules():
    assert list(settings.POLICIES) == list(Policy) == list(RULES)
