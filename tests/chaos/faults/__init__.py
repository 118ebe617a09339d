"""Faults on a schedule that one seed decides: what, when, how long, and whether it is mended before the next."""
