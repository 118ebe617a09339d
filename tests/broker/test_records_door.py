"""What the door for records makes of its parameters."""

import pytest
from aiohttp.test_utils import make_mocked_request

from ottla.broker.http.records import _read_options


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", {"from": "earliest", "group": None, "limit": None, "partitions": None}),
        ("from=end&limit=1&partition=3", {"from": "latest", "group": None, "limit": 1, "partitions": [3]}),
        ("from=7&limit=10000", {"from": 7, "group": None, "limit": 10_000, "partitions": None}),
    ],
)
def test_what_is_asked_for(query, options):
    assert _read_options(make_mocked_request("GET", f"/?{query}"), 0) == options


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", "limit is '0', not a whole number from 1 to 10000"),
        ("limit=10001", "not a whole number from 1 to 10000"),
        ("limit=-1", "limit is '-1'"),
        ("limit=%C2%B2", "limit is"),
        ("limit=" + "9" * 5000, "limit is '999"),
        ("from=yesterday", "from is 'yesterday'"),
        ("partition=", "partition is ''"),
        ("limit=1&limit=2", "limit is there twice"),
        ("group=", "group has 0 characters, not 1 to 255"),
        ("form=1", "unknown parameter 'form'"),
    ],
)
def test_what_cannot_be_meant_is_refused(query, said):
    with pytest.raises(ValueError, match=said):
        _read_options(make_mocked_request("GET", f"/?{query}"), 0)
