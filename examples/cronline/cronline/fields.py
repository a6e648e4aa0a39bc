"""The five fields of a crontab line, each read into the set of values it allows."""

from dataclasses import dataclass

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
WEEKDAYS = "sun mon tue wed thu fri sat".split()


class CronError(ValueError):
    """A crontab line that means nothing; the message says which part, and what is allowed there."""


@dataclass(frozen=True)
class Kind:
    """What one field may hold."""

    name: str
    lowest: int
    highest: int
    words: tuple = ()

    def value(self, text):
        """One number or name, as a number."""
        if text.lower() in self.words:
            return self.words.index(text.lower()) + self.lowest
        if not text.isdecimal() or not self.lowest <= int(text) <= self.highest:
            raise CronError(f"{self.name}: {text!r} is not within {self.lowest} to {self.highest}")
        return int(text)


KINDS = (
    Kind("minute", 0, 59),
    Kind("hour", 0, 23),
    Kind("day of month", 1, 31),
    Kind("month", 1, 12, tuple(MONTHS)),
    Kind("day of week", 0, 7, tuple(WEEKDAYS)),
)


@dataclass(frozen=True)
class Field:
    """The values that one field allows, and how it was written."""

    kind: Kind
    text: str
    values: frozenset

    @classmethod
    def parse(cls, kind, text):
        """Reads `*`, `5`, `1-5`, `*/10`, `1-30/2`, and lists of these."""
        values = frozenset(value for part in text.split(",") for value in cls._part(kind, part))
        if kind.name == "day of week":
            values = frozenset(value % 7 for value in values)  # 7 is Sunday, as 0 is
        return cls(kind, text, values)

    @staticmethod
    def _part(kind, part):
        span, slash, step = part.partition("/")
        if slash and (not step.isdecimal() or int(step) == 0):
            raise CronError(f"{kind.name}: the step in {part!r} must be a number above 0")
        if span == "*":
            first, last = kind.lowest, kind.highest
        elif "-" in span:
            first, last = map(kind.value, span.split("-", 1))
            if first > last:
                raise CronError(f"{kind.name}: {span!r} runs backwards")
        else:
            first = kind.value(span)
            last = kind.highest if slash else first
        return range(first, last + 1, int(step) if slash else 1)

    @property
    def is_any(self):
        """Whether the field says nothing: `*`."""
        return self.text == "*"

    def __contains__(self, value):
        return value in self.values
