"""Measures builds.py when it is asked: a line `one` is one build (answer: its milliseconds), a line `many N` is N builds
at once (answer: builds a second). The worker has two processes, as buildr's agent has two slots."""

import os
import subprocess
import sys
import time

from builds import build

here = os.path.dirname(os.path.abspath(__file__))
command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "builds", "worker", "--concurrency", "2", "-l", "ERROR"]
worker = subprocess.Popen([*command, "--without-gossip", "--without-mingle"], cwd=here, stdout=subprocess.DEVNULL)
order = (os.environ["BASELINE_REPO"], os.environ["BASELINE_IMAGE"], ["true"])


def builds(count):
    began = time.monotonic()
    for result in [build.delay(*order) for _ in range(count)]:
        assert result.get(timeout=120)["status"] == "passed"
    return time.monotonic() - began


try:
    builds(2)
    print("ready", flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "one":
            print(builds(1) * 1000, flush=True)
        else:
            print(int(words[1]) / builds(int(words[1])), flush=True)
finally:
    worker.terminate()
    worker.wait()
