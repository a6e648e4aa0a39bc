"""Counts words."""

from attrs import frozen


@frozen
class Count:
    """How many words and lines a text has."""

    words: int
    lines: int


def count(text: str) -> Count:
    """Count a text."""
    return Count(words=len(text.split()), lines=text.count("\n"))
