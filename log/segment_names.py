"""How the files of a segment are called, as Kafka calls them."""

from .model import Offset

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
TXN_INDEX_SUFFIX = ".txnindex"
CLEANED, SWAP, DELETED = ".cleaned", ".swap", ".deleted"
"""What ends the name of a file that is being made, that replaces others, or that is out of the log."""


def segment_name(base_offset: Offset, suffix: str = LOG_SUFFIX) -> str:
    """20 digits, so that names sort as offsets do."""
    return f"{base_offset:020d}{suffix}"
