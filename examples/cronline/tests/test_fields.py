"""One field at a time: what it allows, and what it refuses."""

import pytest

from cronline.fields import KINDS, CronError, Field

MINUTE, HOUR, DAY, MONTH, WEEKDAY = KINDS


@pytest.mark.parametrize("kind, text, values", [
    (MINUTE, "5", {5}),
    (MINUTE, "*/15", {0, 15, 30, 45}),
    (MINUTE, "50/5", {50, 55}),
    (HOUR, "9-17/4", {9, 13, 17}),
    (DAY, "1,15,31", {1, 15, 31}),
    (MONTH, "jan-mar", {1, 2, 3}),
    (MONTH, "DEC", {12}),
    (WEEKDAY, "mon-fri", {1, 2, 3, 4, 5}),
    (WEEKDAY, "7", {0}),
    (WEEKDAY, "sat,sun", {6, 0}),
])
def test_allows(kind, text, values):
    assert Field.parse(kind, text).values == values


@pytest.mark.parametrize("kind, text, says", [
    (MINUTE, "60", "not within 0 to 59"),
    (MINUTE, "-1", "not within"),
    (MINUTE, "", "not within"),
    (HOUR, "17-9", "runs backwards"),
    (HOUR, "*/0", "above 0"),
    (HOUR, "*/x", "above 0"),
    (DAY, "0", "not within 1 to 31"),
    (MONTH, "juni", "month: 'juni'"),
])
def test_refuses(kind, text, says):
    with pytest.raises(CronError, match=says):
        Field.parse(kind, text)
