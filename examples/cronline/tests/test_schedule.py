"""Whole lines: when they run next."""

from datetime import datetime
from itertools import islice

import pytest

from cronline import CronError, Schedule


def check(line, start, *expected):
    runs = Schedule.parse(line).runs(datetime.fromisoformat(start))
    assert [run.isoformat(" ", "minutes") for run in islice(runs, len(expected))] == list(expected)


def test_a_run_is_always_later_than_now():
    check("0 12 * * *", "2026-01-01T12:00", "2026-01-02 12:00")
    check("0 12 * * *", "2026-01-01T11:59:59", "2026-01-01 12:00")


def test_over_the_end_of_a_year():
    check("59 23 31 12 *", "2026-12-31T23:59", "2027-12-31 23:59")


def test_short_months_are_passed_over():
    check("0 0 31 * *", "2026-01-31T00:00", "2026-03-31 00:00", "2026-05-31 00:00")


def test_leap_day():
    check("0 0 29 2 *", "2026-01-01T00:00", "2028-02-29 00:00", "2032-02-29 00:00")


def test_leap_day_across_a_century_without_one():
    check("0 0 29 2 *", "2096-03-01T00:00", "2104-02-29 00:00")


def test_office_hours_skip_the_weekend():
    check("*/30 9-17 * * mon-fri", "2026-01-02T17:20", "2026-01-02 17:30", "2026-01-05 09:00")


def test_either_day_is_enough_when_both_are_restricted():
    check("0 0 13 * fri", "2026-02-07T00:00", "2026-02-13 00:00", "2026-02-20 00:00")
    check("0 0 13 * fri", "2026-01-10T00:00", "2026-01-13 00:00", "2026-01-16 00:00")


@pytest.mark.parametrize("nickname, expected", [
    ("@hourly", "2026-01-01 01:00"),
    ("@daily", "2026-01-02 00:00"),
    ("@weekly", "2026-01-04 00:00"),
    ("@monthly", "2026-02-01 00:00"),
    ("@Yearly", "2027-01-01 00:00"),
])
def test_nicknames(nickname, expected):
    check(nickname, "2026-01-01T00:00", expected)


def test_a_day_that_does_not_exist():
    with pytest.raises(CronError, match="never runs"):
        Schedule.parse("0 0 30 2 *").after(datetime(2026, 1, 1))


@pytest.mark.parametrize("line", ["", "* * * *", "* * * * * *", "@sometimes"])
def test_the_number_of_fields(line):
    with pytest.raises(CronError, match="needs five"):
        Schedule.parse(line)
