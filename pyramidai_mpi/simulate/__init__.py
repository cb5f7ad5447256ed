"""Runs on clusters that are not there: the real scheduler under a virtual clock, over stored execution trees.

`forest` holds the trees, `dealing` says who begins with what, `counting` gives the loads that follow from that alone,
`cluster` drives the scheduler's state machine, `study` crosses them all, `planning` searches the number of ranks that
is in time, and `stored` reads results.
"""

MAY_IMPORT = ("base", "pyramid", "sched", "store")
