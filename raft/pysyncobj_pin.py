"""The exact PySyncObj our overrides were written against, made harmless where it is dangerous.

`pysyncobj_core` replaces name-mangled privates. A release that renames one would silently give us the stock
method back, so an unknown source is refused at import. Two globals of the library are replaced here, once per
process: pickle (a pickle from the network is remote code execution, defect D10) and the journal factory (the
constructor has no hook for a journal of one's own).
"""

import hashlib
from typing import Any, NoReturn

import pysyncobj.journal
import pysyncobj.pickle
import pysyncobj.syncobj
from pysyncobj.version import VERSION

PINNED_VERSION = "0.3.17"
PINNED_SHA256 = "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4"


class PySyncObjChanged(ImportError):
    """The installed PySyncObj is not the one our overrides were written and fuzzed against."""


class PickleForbidden(RuntimeError):
    """Something reached PySyncObj's pickle. Nothing of ours does; this is a bug or an attack."""


def check_pin(version: str, source: bytes) -> None:
    """Raise PySyncObjChanged unless ``version`` and the bytes of syncobj.py are the pinned ones."""
    found = hashlib.sha256(source).hexdigest()
    if version != PINNED_VERSION or found != PINNED_SHA256:
        raise PySyncObjChanged(
            f"OTTLA-PYSYNCOBJ-CHANGED: needs PySyncObj {PINNED_VERSION} with sha256(syncobj.py) {PINNED_SHA256}, "
            f"found {version} with {found}. Install pysyncobj=={PINNED_VERSION} from the package index."
        )


def _refuse_pickle(*_args: object, **_keywords: object) -> NoReturn:
    raise PickleForbidden("PySyncObj tried to use pickle")


def _journal_or_stock(journal: Any = None) -> Any:
    if isinstance(journal, pysyncobj.journal.Journal):
        return journal
    return _stock_create_journal(journal)


def _installed_source() -> bytes:
    spec = pysyncobj.syncobj.__spec__
    assert spec is not None
    return bytes(spec.loader.get_data(spec.origin))  # wherever Python itself found it, a zip included


check_pin(VERSION, _installed_source())
for _module in (pysyncobj.pickle, pysyncobj.journal):  # journal.py imported the names themselves
    for _name in ("loads", "dumps", "load", "dump"):
        setattr(_module, _name, _refuse_pickle)
_stock_create_journal = pysyncobj.syncobj.createJournal
pysyncobj.syncobj.createJournal = _journal_or_stock
