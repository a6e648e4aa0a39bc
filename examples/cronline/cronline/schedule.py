"""A whole crontab line: the moments it names, one after the other."""

import calendar
from dataclasses import dataclass
from datetime import datetime, timedelta

from .fields import KINDS, CronError, Field

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

# 29 February comes back within eight years, also across a century that has no leap day.
HORIZON = timedelta(days=366 * 8)


@dataclass(frozen=True)
class Schedule:
    """When something runs. Times carry no zone: they are the clock on the wall."""

    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    @classmethod
    def parse(cls, line):
        """Reads five fields or a nickname such as `@daily`; raises CronError."""
        parts = NICKNAMES.get(line.strip().lower(), line).split()
        if len(parts) != len(KINDS):
            raise CronError(f"{line!r} has {len(parts)} fields; it needs five, or one of {', '.join(NICKNAMES)}")
        return cls(*(Field.parse(kind, part) for kind, part in zip(KINDS, parts)))

    def names_day(self, moment):
        """Whether it runs on this day. When both days are restricted, either is enough, as in cron itself."""
        by_month_day = moment.day in self.day
        by_weekday = moment.isoweekday() % 7 in self.weekday
        if self.day.is_any or self.weekday.is_any:
            return by_month_day and by_weekday
        return by_month_day or by_weekday

    def after(self, moment):
        """The first run later than `moment`; raises CronError when there is none, as on 30 February."""
        at = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        horizon = at + HORIZON
        while at <= horizon:
            if at.month not in self.month:
                days = calendar.monthrange(at.year, at.month)[1]
                at = _midnight(at) + timedelta(days=days - at.day + 1)
            elif not self.names_day(at):
                at = _midnight(at) + timedelta(days=1)
            elif at.hour not in self.hour:
                at = at.replace(minute=0) + timedelta(hours=1)
            elif at.minute not in self.minute:
                at += timedelta(minutes=1)
            else:
                return at
        raise CronError("this never runs: no such day exists")

    def runs(self, moment):
        """All runs later than `moment`, without end."""
        while True:
            moment = self.after(moment)
            yield moment


def _midnight(moment):
    return datetime(moment.year, moment.month, moment.day)
