"""Fault injection on real node processes: the schedules, loads and checkers of the simulation, the kernel's network."""
