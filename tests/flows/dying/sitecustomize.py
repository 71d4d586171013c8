"""Ends the process of a stage, as kill -9 does, once so many events were told. Python itself imports this where its
folder is on the path; `tests.flows.test_kills` puts it there."""

import os
import signal
import sys
import threading
import time


def _watch(events: str, count: int) -> None:
    while True:
        try:
            with open(events, "rb") as file:  # noqa: PTH123  (pathlib would have to be imported into every process)
                if file.read().count(b"\n") >= count:
                    os.kill(os.getpid(), signal.SIGKILL)
        except FileNotFoundError:
            pass
        time.sleep(0.001)


if "DEEPMILL_TEST_DIES_AFTER" in os.environ and sys.orig_argv[1:3] == ["-m", "infra.worker"]:
    arguments = (os.environ["DEEPMILL_EVENTS"], int(os.environ["DEEPMILL_TEST_DIES_AFTER"]))
    threading.Thread(target=_watch, args=arguments, daemon=True).start()
