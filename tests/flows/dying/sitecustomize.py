"""Ends the process of a stage, as kill -9 does, once so many events were told. Python itself imports this where its
folder is on the path; `tests.flows.test_kills` puts it there."""

import os
import signal
import sys
import threading
import time

forks = 0
"""Between the stage server and this process: one is the supervisor, two are the stage."""


def _watch(events: str, count: int) -> None:
    while True:
        try:
            with open(events, "rb") as file:  # noqa: PTH123  (pathlib would have to be imported into every process)
                if file.read().count(b"\n") >= count:
                    os.kill(os.getpid(), signal.SIGKILL)
        except FileNotFoundError:
            pass
        time.sleep(0.001)


def _start() -> None:
    arguments = (os.environ["DEEPMILL_EVENTS"], int(os.environ["DEEPMILL_TEST_DIES_AFTER"]))
    threading.Thread(target=_watch, args=arguments, daemon=True).start()


def _count() -> None:
    global forks
    forks += 1
    if forks == 2:
        _start()


if "DEEPMILL_TEST_DIES_AFTER" in os.environ:
    if sys.orig_argv[1:3] == ["-m", "infra.worker"]:
        _start()
    elif sys.orig_argv[1:3] == ["-m", "infra.stage_server"]:
        os.register_at_fork(after_in_child=_count)
