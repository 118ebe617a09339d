"""CRC-32C (Castagnoli, RFC 3720 appendix B.4), the checksum of Kafka's v2 batches and of our own files."""

from collections.abc import Callable

from .storage import Buffer


def _by_crc32c_package() -> Callable[[Buffer, int], int]:
    from crc32c import crc32c as implementation  # by SSE4.2 or ARMv8 instructions; takes any buffer without a copy

    return implementation


def _by_crcmod() -> Callable[[Buffer, int], int]:
    import crcmod.predefined

    implementation = crcmod.predefined.mkCrcFun("crc-32c")

    def checksum(data: Buffer, value: int = 0) -> int:
        # crcmod's C extension refuses a memoryview that does not own its bytes.
        return implementation(bytes(data), value)  # type: ignore[no-any-return]

    return checksum


def _choose() -> Callable[[Buffer, int], int]:
    try:
        return _by_crc32c_package()
    except ImportError:
        return _by_crcmod()


_checksum = _choose()


def crc32c(data: Buffer, value: int = 0) -> int:
    """The CRC-32C of ``data``, or of what gave ``value`` followed by ``data``. 0 to 2^32-1."""
    return _checksum(data, value)
