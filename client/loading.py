"""Loads much at once without the garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """For imports. They make some hundred thousand objects, nearly all of which stay: the collector, which their number
    wakes more than a hundred times, finds nothing and takes a tenth of the whole."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:  # else the program keeps something there, which is not ours to move
            gc.freeze()
            gc.unfreeze()  # into the oldest generation, where what stays belongs
        if was_on:
            gc.enable()
