"""A process is told from a later one with the same number."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from infra.processes import ProcessMark, birth, is_alive_here, is_foreign_listener, send_signal, this_process


def test_only_the_same_process_is_alive() -> None:
    me = this_process()
    assert is_alive_here(me) is True
    assert is_alive_here(me.model_copy(update={"born": "another boot/1"})) is False
    assert is_alive_here(ProcessMark(host=me.host, pid=me.pid)) is True  # as older records say it
    assert is_alive_here(me.model_copy(update={"host": "elsewhere"})) is None


def test_one_that_ended_is_not() -> None:
    code = "from infra.processes import this_process; print(this_process().model_dump_json(), flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    there = ProcessMark.model_validate_json(process.stdout.readline())
    assert is_alive_here(there) is True
    process.kill()
    while is_alive_here(there):
        pass
    assert is_alive_here(there) is False  # nobody has collected it yet
    process.wait()
    assert is_alive_here(there) is False


def test_a_signal_reaches_nobody_else() -> None:
    child = subprocess.Popen(["sleep", "600"])
    told = ProcessMark(host=socket.gethostname(), pid=child.pid, born=birth(child.pid))
    for wrong in ({"born": "another boot/1"}, {"born": None}, {"host": "another-machine"}):
        assert not send_signal(told.model_copy(update=wrong), signal.SIGKILL)
    assert child.poll() is None
    assert send_signal(told, signal.SIGKILL)
    child.wait()
    assert not send_signal(told, signal.SIGKILL)


def test_whose_listener_it_is() -> None:
    """What another user's program listens on is told from our own, on both families."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    program = (
        "import os, socket, sys\n"
        "os.setuid(int(sys.argv[1]))\n"
        "server = socket.create_server((sys.argv[2], 0), family=int(sys.argv[3]))\n"
        "print(server.getsockname()[1], flush=True); sys.stdin.read()"
    )
    for user, foreign in ((0, False), (65534, True)):
        for address, family in (("127.0.0.1", socket.AF_INET), ("::", socket.AF_INET6)):
            command = [sys.executable, "-c", program, str(user), address, str(int(family))]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listener:
                assert listener.stdout is not None
                assert is_foreign_listener(int(listener.stdout.readline())) is foreign
                listener.communicate("")
    assert not is_foreign_listener(1)  # nobody listens
