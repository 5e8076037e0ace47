from hypothesis import assume, given
from hypothesis import strategies as st

from keepshot.keys import generator, key, permutation

PARTS = st.lists(st.text(max_size=5) | st.integers(), min_size=1, max_size=4)


def test_keys_are_the_same_everywhere_and_for_ever() -> None:
    assert key(0, "demonstrations", "capitals", 3) == 1783420382209801711
    assert permutation(6, 0, "shuffle") == [5, 4, 2, 3, 1, 0]


@given(PARTS, PARTS)
def test_different_parts_have_different_keys(left: list[str | int], right: list[str | int]) -> None:
    assume(left != right)
    assert key(*left) != key(*right)


@given(PARTS)
def test_a_key_is_a_63_bit_number_and_depends_on_nothing_else(parts: list[str | int]) -> None:
    assert 0 <= key(*parts) < 2**63
    first = generator(*parts).random()
    generator("other").random()
    assert generator(*parts).random() == first


def test_text_and_numbers_and_seams_are_told_apart() -> None:
    assert len({key("1"), key(1), key("a", "b"), key("ab"), key("a,b"), key('a","b'), key("é"), key("e\u0301")}) == 8


@given(st.integers(0, 50), PARTS)
def test_a_permutation_has_every_number_once(length: int, parts: list[str | int]) -> None:
    assert sorted(permutation(length, *parts)) == list(range(length))
    assert permutation(length, *parts) == permutation(length, *parts)


def test_permutations_differ_by_key_and_every_order_comes_up() -> None:
    assert len({tuple(permutation(3, seed)) for seed in range(100)}) == 6
