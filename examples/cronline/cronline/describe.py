"""A schedule in words."""

from .fields import MONTHS, WEEKDAYS

WEEKDAY_NAMES = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split()
MONTH_NAMES = (
    "January February March April May June July August September October November December".split()
)


def describe(schedule):
    """One line of plain English."""
    parts = [_clock(schedule)]
    if not schedule.day.is_any:
        parts.append("on day " + _words(schedule.day.text, str))
    if not schedule.weekday.is_any:
        joint = "or on" if not schedule.day.is_any else "on"
        parts.append(f"{joint} {_words(schedule.weekday.text, _weekday)}")
    if not schedule.month.is_any:
        parts.append("in " + _words(schedule.month.text, _month))
    return ", ".join(parts)


def _clock(schedule):
    minute, hour = schedule.minute.text, schedule.hour.text
    if minute.isdecimal() and hour.isdecimal():
        return f"at {int(hour):02}:{int(minute):02}"
    if schedule.minute.is_any:
        said = "every minute"
    elif minute.startswith("*/"):
        said = f"at every {_ordinal(minute[2:])} minute"
    else:
        said = f"at minute {_words(minute, str)}"
    if schedule.hour.is_any:
        return said
    if hour.startswith("*/"):
        return f"{said}, in every {_ordinal(hour[2:])} hour"
    return f"{said}, in hour{'' if hour.isdecimal() else 's'} {_words(hour, str)}"


def _words(text, name):
    """`1-5,7` as "1 to 5 and 7"."""
    parts = []
    for part in text.split(","):
        span, _, step = part.partition("/")
        said = "any" if span == "*" else " to ".join(name(end) for end in span.split("-"))
        parts.append(f"{said} by {step}" if step else said)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _weekday(text):
    return WEEKDAY_NAMES[int(text) % 7 if text.isdecimal() else WEEKDAYS.index(text.lower())]


def _month(text):
    return MONTH_NAMES[int(text) - 1 if text.isdecimal() else MONTHS.index(text.lower())]


def _ordinal(number):
    if number[-2:] in ("11", "12", "13"):
        return number + "th"
    return number + {"1": "st", "2": "nd", "3": "rd"}.get(number[-1], "th")
