import pytest

from wordy import Count, count


@pytest.mark.parametrize("text, expected", [("", Count(0, 0)), ("a b\n", Count(2, 1)), ("a\n\nb", Count(2, 2))])
def test_count(text: str, expected: Count) -> None:
    assert count(text) == expected
