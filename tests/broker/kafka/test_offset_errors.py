"""Errors that only newer clients know."""

import pytest

from ottla.broker.kafka.header import Header
from ottla.broker.kafka.offsets import _error
from ottla.broker.kafka.versions import ApiKey
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import OffsetResult
from ottla.log.model import TopicId

from .kio_bytes import inner, request_class


@pytest.mark.parametrize(("version", "told"), [(1, 5), (4, 5), (5, 78), (9, 78)])
def test_clients_that_know_no_offset_not_available_are_told_to_ask_again(version: int, told: int) -> None:
    asked = inner(request_class(ApiKey.LIST_OFFSETS, 1), "topics", "partitions")(partition_index=0, timestamp=-1)
    result = OffsetResult(TopicId("t"), 0, ErrorCode.OFFSET_NOT_AVAILABLE)
    assert _error(asked, result, Header(ApiKey.LIST_OFFSETS, version, 1, "", 0)) == told
