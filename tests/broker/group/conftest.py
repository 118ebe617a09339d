"""Property tests repeat themselves: the same examples each run, no time limit per example, no files left behind."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")
