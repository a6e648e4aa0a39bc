"""Crontab lines: what they mean and when they run next.

    >>> from datetime import datetime
    >>> from cronline import Schedule
    >>> Schedule.parse("30 4 1 * *").after(datetime(2026, 1, 15))
    datetime.datetime(2026, 2, 1, 4, 30)
"""

from .fields import CronError
from .schedule import Schedule

__all__ = ["CronError", "Schedule"]
