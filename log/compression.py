"""Kafka's five compression codecs, each by the fastest library. Libraries load when first used: a command that
compresses nothing must not pay for them.

Decompression is bounded: a batch of 1 KB that unpacks to 1 GB is refused, not unpacked.
"""

import struct
import zlib
from collections.abc import Callable
from enum import IntEnum

from .errors import CorruptBatch
from .storage import Buffer


class Compression(IntEnum):
    """Bits 0 to 2 of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


CHUNK = 1 << 20
ZSTD_WINDOW_MAX = 1 << 27
"""What zstd's own command line accepts; a larger window is a way to make us allocate memory."""

# Snappy as Java's SnappyOutputStream (xerial) frames it:
# | magic: 82 'SNAPPY' 00 | version: i32 = 1 | compatible version: i32 = 1 | then ( length: i32 | raw snappy block )*
XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_HEADER = XERIAL_MAGIC + struct.pack(">ii", 1, 1)
XERIAL_BLOCK = 32 * 1024


def compress(codec: Compression, data: Buffer, level: int | None = None) -> bytes:
    """``data`` compressed; ``level`` is the codec's own scale, None its default. Snappy has no levels."""
    return _COMPRESS[codec](data, level)


def decompress(codec: Compression, data: Buffer, max_bytes: int) -> bytes:
    """``data`` restored. Raises CorruptBatch if it is damaged or would be more than ``max_bytes``."""
    try:
        restored = _DECOMPRESS[codec](data, max_bytes)
    except CorruptBatch:
        raise
    except Exception as error:  # each library has its own exceptions, some only RuntimeError or ValueError
        raise CorruptBatch(f"{codec.name.lower()} data cannot be decompressed: {error}") from error
    if len(restored) > max_bytes:
        raise _too_large(codec, max_bytes)
    return restored


def _too_large(codec: Compression, max_bytes: int) -> CorruptBatch:
    return CorruptBatch(f"{codec.name.lower()} data decompresses to more than {max_bytes} bytes")


def _compress_none(data: Buffer, level: int | None) -> bytes:
    return bytes(data)


def _decompress_none(data: Buffer, max_bytes: int) -> bytes:
    return bytes(data)


def _compress_gzip(data: Buffer, level: int | None) -> bytes:
    compressor = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, 31)
    return compressor.compress(data) + compressor.flush()


def _decompress_gzip(data: Buffer, max_bytes: int) -> bytes:
    """All members: Java's GZIPInputStream reads concatenated ones too."""
    restored = []
    room = max_bytes + 1
    rest: Buffer = data
    while rest and room > 0:
        member = zlib.decompressobj(31)
        restored.append(member.decompress(rest, room))
        room -= len(restored[-1])
        if not member.eof and room > 0:
            raise CorruptBatch("gzip data ends early")
        rest = member.unused_data
    if not restored:
        raise CorruptBatch("gzip data is empty")
    return b"".join(restored)


def _compress_snappy(data: Buffer, level: int | None) -> bytes:
    import cramjam

    view = memoryview(data)
    parts = [XERIAL_HEADER]
    for start in range(0, len(view), XERIAL_BLOCK):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + XERIAL_BLOCK]))
        parts += (len(block).to_bytes(4, "big"), block)
    return b"".join(parts)


def _decompress_snappy(data: Buffer, max_bytes: int) -> bytes:
    """Framed as Java frames it, or one raw block as librdkafka and Go clients send it."""
    view = memoryview(data)
    if view[: len(XERIAL_MAGIC)] != XERIAL_MAGIC:
        return _snappy_block(view, max_bytes, max_bytes)
    parts = []
    room = max_bytes
    position = len(XERIAL_HEADER)
    if len(view) < position:
        raise CorruptBatch("snappy data ends inside of its header")
    while position < len(view):
        size = int.from_bytes(view[position : position + 4], "big")
        position += 4
        if not 0 < size <= len(view) - position:
            raise CorruptBatch(f"snappy block of {size} bytes does not fit")
        parts.append(_snappy_block(view[position : position + size], room, max_bytes))
        room -= len(parts[-1])
        position += size
    return b"".join(parts)


def _snappy_block(block: memoryview, room: int, max_bytes: int) -> bytes:
    import cramjam

    if cramjam.snappy.decompress_raw_len(block) > room:
        raise _too_large(Compression.SNAPPY, max_bytes)
    return bytes(cramjam.snappy.decompress_raw(block))


def _compress_lz4(data: Buffer, level: int | None) -> bytes:
    """In blocks that stand alone: Kafka's Java reader takes no others."""
    import lz4.frame

    return lz4.frame.compress(  # type: ignore[no-any-return]
        data, compression_level=level or 0, store_size=False, block_linked=False
    )


def _decompress_lz4(data: Buffer, max_bytes: int) -> bytes:
    import lz4.frame

    decompressor = lz4.frame.LZ4FrameDecompressor()
    restored: bytes = decompressor.decompress(data, max_bytes + 1)
    if len(restored) <= max_bytes and not decompressor.eof:
        raise CorruptBatch("lz4 data ends early")
    return restored


def _compress_zstd(data: Buffer, level: int | None) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=3 if level is None else level).compress(data)


def _decompress_zstd(data: Buffer, max_bytes: int) -> bytes:
    """By pieces: the size a frame claims for itself is not to be believed before it is there."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_MAX)
    restored = []
    room = max_bytes + 1
    with decompressor.stream_reader(data, read_across_frames=True) as reader:
        while room > 0 and (piece := reader.read(min(room, CHUNK))):
            restored.append(piece)
            room -= len(piece)
    if room > 0:
        _check_whole_zstd(data, max_bytes + 1 - room)
    return b"".join(restored)


def _check_whole_zstd(data: Buffer, size: int) -> None:
    """A reader stops silently where its input ends inside of a frame; the frame header knows better if it says."""
    import zstandard

    claimed = zstandard.get_frame_parameters(data).content_size
    if claimed != zstandard.CONTENTSIZE_UNKNOWN and claimed > size:
        raise CorruptBatch("zstd data ends early")


_COMPRESS: dict[Compression, Callable[[Buffer, int | None], bytes]] = {
    Compression.NONE: _compress_none,
    Compression.GZIP: _compress_gzip,
    Compression.SNAPPY: _compress_snappy,
    Compression.LZ4: _compress_lz4,
    Compression.ZSTD: _compress_zstd,
}

_DECOMPRESS: dict[Compression, Callable[[Buffer, int], bytes]] = {
    Compression.NONE: _decompress_none,
    Compression.GZIP: _decompress_gzip,
    Compression.SNAPPY: _decompress_snappy,
    Compression.LZ4: _decompress_lz4,
    Compression.ZSTD: _decompress_zstd,
}
