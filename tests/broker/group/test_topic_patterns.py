"""Regular expressions: the names they mean, whatever they are, and none of those they do not."""

import re

import pytest
from hypothesis import given, settings, strategies as st

from ottla.broker.group.matched_topics import IMAGES_MAX, PATTERNS_MAX, MatchedTopics
from ottla.client.topic_pattern import BadPattern, check_pattern, matching

letters = st.sampled_from(["a", "b", "-", ".", "[ab]", "[^a]", "\\."])
patterns = st.recursive(
    letters,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{1,3}"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=8,
)
names = st.frozensets(st.text("ab-._", min_size=1, max_size=8), max_size=8)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(patterns, names)
def test_what_both_libraries_know_means_the_same_whole_names(pattern: str, topics: frozenset[str]) -> None:
    assert matching(pattern, topics) == tuple(sorted(name for name in topics if re.fullmatch(pattern, name)))


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(st.lists(st.tuples(patterns, names), max_size=12))
def test_what_is_kept_from_one_image_to_the_next_is_what_would_be_found_anew(
    steps: list[tuple[str, frozenset[str]]],
) -> None:
    kept = MatchedTopics()
    known = [pattern for pattern, _ in steps[:3]]
    for pattern, topics in steps:
        image = dict.fromkeys(topics)
        for each in (pattern, *known):
            assert kept.names(each, image) == matching(each, topics)


def test_no_more_patterns_are_kept_than_the_limit() -> None:
    kept, topics = MatchedTopics(), {"a": None}
    for number in range(PATTERNS_MAX + 10):
        assert kept.names(f"a|{number}", topics) == ("a",)
    assert len(kept._matched) == 10
    for _ in range(IMAGES_MAX + 1):
        assert kept.names("b", {"a": None}) == ()
    assert len(kept._matched) == 1, "nor for longer than they are asked for"


@pytest.mark.parametrize("pattern", ["((a{1,90}){1,10})?b*", "(?i)A+", "a|aa|(a|b){0,60}", ".*" * 40])
def test_a_large_pattern_is_matched_all_the_same(pattern: str) -> None:
    check_pattern(pattern)
    assert matching(pattern, ["a" * 60, "c" * 60]) == (("a" * 60,) if pattern[0] != "." else ("a" * 60, "c" * 60))


@pytest.mark.parametrize("pattern", ["(", "a**b(", "(?=a)", "\\1", "(a{1000}){1000}", "x" * 1_001, "\ud800"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        check_pattern(pattern)
    with pytest.raises(BadPattern):
        matching(pattern, [])


def test_the_clusters_own_topics_are_not_matched() -> None:
    assert matching(".*", ["__consumer_offsets", "__transaction_state", "__mine"]) == ("__mine",)
