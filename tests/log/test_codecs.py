"""Checksums and compression against published vectors and each other's formats."""

import contextlib
import gzip
import subprocess
import sys

import cramjam
import crcmod.predefined
import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings, strategies as st

from ottla.log import checksum
from ottla.log.compression import XERIAL_HEADER, Compression, compress, decompress
from ottla.log.errors import CorruptBatch

VECTORS = [  # RFC 3720, B.4, and the check value of the CRC catalogues
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (b"", 0),
]
CODECS = list(Compression)
REAL_CODECS = CODECS[1:]


@pytest.mark.parametrize("implementation", [checksum.crc32c, checksum._by_crc32c_package(), checksum._by_crcmod()])
@pytest.mark.parametrize(("data", "expected"), VECTORS)
def test_crc32c_vectors(implementation, data: bytes, expected: int) -> None:
    assert implementation(data, 0) == expected
    assert implementation(memoryview(bytearray(data)), 0) == expected
    assert implementation(data[5:], implementation(data[:5], 0)) == expected


def test_crcmod_stands_in_where_crc32c_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing():
        raise ImportError

    monkeypatch.setattr(checksum, "_by_crc32c_package", missing)
    assert checksum._choose()(b"123456789", 0) == crcmod.predefined.mkCrcFun("crc-32c")(b"123456789")


@given(st.sampled_from(CODECS), st.binary(max_size=2000), st.integers(1, 100))
@settings(deadline=None, max_examples=100)
def test_round_trip(codec: Compression, data: bytes, repeat: int) -> None:
    content = data * repeat
    assert decompress(codec, compress(codec, content), len(content)) == content
    assert decompress(codec, memoryview(compress(codec, memoryview(content))), len(content)) == content


@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.LZ4, Compression.ZSTD])
def test_levels(codec: Compression) -> None:
    content = bytes(range(256)) * 100
    assert decompress(codec, compress(codec, content, 1), len(content)) == content


def test_formats_are_the_common_ones() -> None:
    content = b"hello " * 1000
    assert gzip.decompress(compress(Compression.GZIP, content)) == content
    assert lz4.frame.decompress(compress(Compression.LZ4, content)) == content
    assert zstandard.ZstdDecompressor().decompress(compress(Compression.ZSTD, content)) == content
    assert compress(Compression.SNAPPY, content).startswith(b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")


@pytest.mark.parametrize("size", [100, 300_000])
def test_lz4_blocks_stand_alone(size: int) -> None:
    """Java's Lz4BlockInputStream refuses blocks that refer to earlier ones."""
    header = lz4.frame.get_frame_info(compress(Compression.LZ4, bytes(range(100)) * (size // 100)))
    assert not header["block_linked"]


def test_what_other_clients_write_is_read() -> None:
    content = b"hello " * 20000
    raw_snappy = bytes(cramjam.snappy.compress_raw(content))
    assert decompress(Compression.SNAPPY, raw_snappy, len(content)) == content
    two_members = gzip.compress(content[:100]) + gzip.compress(content[100:])
    assert decompress(Compression.GZIP, two_members, len(content)) == content
    sizeless = zstandard.ZstdCompressor(write_content_size=False).compress(content)
    assert decompress(Compression.ZSTD, sizeless, len(content)) == content


@pytest.mark.parametrize("codec", REAL_CODECS)
def test_the_bound_is_exact(codec: Compression) -> None:
    packed = compress(codec, bytes(100_000))
    assert len(decompress(codec, packed, 100_000)) == 100_000
    with pytest.raises(CorruptBatch, match="more than 99999 bytes"):
        decompress(codec, packed, 99_999)


@pytest.mark.parametrize("codec", REAL_CODECS)
def test_cut_short(codec: Compression) -> None:
    content = bytes(range(256)) * 300
    packed = compress(codec, content)
    for cut in {0, 1, 5, len(packed) // 2, len(packed) - 1}:
        with pytest.raises(CorruptBatch):
            decompress(codec, packed[:cut], 1 << 20)


@given(st.sampled_from(REAL_CODECS), st.binary(max_size=100))
@settings(deadline=None)
def test_any_bytes(codec: Compression, data: bytes) -> None:
    for attempt in (data, XERIAL_HEADER + data):
        with contextlib.suppress(CorruptBatch):
            assert len(decompress(codec, attempt, 1000)) <= 1000


def test_codecs_load_only_when_used() -> None:
    """The command line's --help imports the record format and must not pay for compression."""
    program = "import sys, ottla.log.records; print({'lz4', 'zstandard', 'cramjam', 'asyncio'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
