"""The command and its words."""

import pytest

from cronline import Schedule
from cronline.__main__ import main
from cronline.describe import describe


@pytest.mark.parametrize("line, words", [
    ("* * * * *", "every minute"),
    ("30 4 * * *", "at 04:30"),
    ("*/2 * * * *", "at every 2nd minute"),
    ("0 0 1,15 * *", "at 00:00, on day 1 and 15"),
    ("5 */6 * * sun", "at minute 5, in every 6th hour, on Sunday"),
    ("0 22 * * 1-5", "at 22:00, on Monday to Friday"),
    ("0 0 13 * fri", "at 00:00, on day 13, or on Friday"),
    ("*/15 9-17 * jun,dec *", "at every 15th minute, in hours 9 to 17, in June and December"),
])
def test_describe(line, words):
    assert describe(Schedule.parse(line)) == words


def test_prints_the_next_runs(capsys):
    main(["@daily", "--from", "2026-02-27T08:00", "--count", "2"])
    assert capsys.readouterr().out == "at 00:00\n2026-02-28 00:00\n2026-03-01 00:00\n"


def test_a_bad_line_ends_with_two(capsys):
    with pytest.raises(SystemExit) as end:
        main(["61 * * * *"])
    assert end.value.code == 2
    assert "minute: '61'" in capsys.readouterr().err
