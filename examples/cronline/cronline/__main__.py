"""The command: `cronline LINE [--from TIME] [--count N]`."""

import argparse
import sys
from datetime import datetime
from itertools import islice

from . import CronError, Schedule
from .describe import describe
from .version import VERSION


def main(arguments=None):
    """Prints what the line means and its next runs; ends with 2 when it means nothing."""
    parser = argparse.ArgumentParser(prog="cronline", description="When does this crontab line run next?")
    parser.add_argument("line", help="five fields in quotes, or a nickname such as @daily")
    parser.add_argument("--from", dest="start", type=datetime.fromisoformat, default=datetime.now(),
                        metavar="TIME", help="count from this time, as 2026-01-31T12:00 (default: now)")
    parser.add_argument("--count", type=int, default=3, metavar="N", help="how many runs to show (default: 3)")
    parser.add_argument("--version", action="version", version=f"cronline {VERSION}")
    options = parser.parse_args(arguments)
    try:
        schedule = Schedule.parse(options.line)
        print(describe(schedule))
        for run in islice(schedule.runs(options.start), options.count):
            print(run.strftime("%Y-%m-%d %H:%M"))
    except CronError as error:
        print(f"cronline: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
