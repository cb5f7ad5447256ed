"""Many slides in one run: one pool of work, and for each slide an owner rank that writes its file when it is done."""

from pyramidai_mpi.cohort.records import CohortRecords
from pyramidai_mpi.cohort.run import CohortReport, SlideOutcome, run_cohort

__all__ = ["CohortRecords", "CohortReport", "SlideOutcome", "run_cohort"]
