"""Laws of stopping: one line, the signal's exit code, and blocks that are not interrupted."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from faults import environment
from patchcore_runtime.stopping import held, is_stopping, stoppable

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pthread_sigmask"), reason="signals are blocked where POSIX threads exist"
)


def send(number):
    """Send a signal to this process, and wait until the command knows of it."""
    os.kill(os.getpid(), number)
    while not is_stopping():
        time.sleep(0.001)


def forever():
    while True:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_stop_is_one_line_and_the_exit_code_of_its_signal(number, code, words, capfd):
    before = signal.getsignal(number)

    def run():
        send(number)
        forever()

    assert stoppable("program", run) == code
    assert capfd.readouterr() == ("", f"program: {words}\n")
    assert signal.getsignal(number) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_a_held_block_ends_before_the_stop(capfd):
    done = []

    def run():
        with held():
            send(signal.SIGINT)
            time.sleep(0.05)
            done.append("block")
        forever()

    assert stoppable("program", run) == 130
    assert done == ["block"]
    assert capfd.readouterr().err.count("\n") == 1


def test_an_error_that_a_library_makes_of_the_interrupt_is_not_shown(capfd):
    def run():
        send(signal.SIGINT)
        try:
            forever()
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    assert stoppable("program", run) == 130
    assert capfd.readouterr().err == "program: interrupted\n"


def test_further_signals_do_not_interrupt_the_cleaning():
    cleaned = []

    def run():
        try:
            send(signal.SIGINT)
            forever()
        finally:
            for _ in range(5):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.01)
            cleaned.append("all")

    assert stoppable("program", run) == 130
    assert cleaned == ["all"]


def test_an_interrupt_in_a_finaliser_is_not_lost(capfd):
    class Slow:
        def __del__(self):
            send(signal.SIGINT)
            time.sleep(0.2)

    def run():
        Slow()
        forever()

    assert stoppable("program", run) == 130
    assert capfd.readouterr().err == "program: interrupted\n"


def test_a_command_that_nobody_stops_ends_as_it_does(capfd):
    assert stoppable("program", lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        stoppable("program", lambda: 1 // 0)
    assert capfd.readouterr().err == ""
    assert not [one for one in threading.enumerate() if one.name == "stopping"]


def test_a_library_that_installs_a_handler_behind_pythons_back_never_runs_it():
    program = (
        "import ctypes, os, signal, sys, time\n"
        "from patchcore_runtime.stopping import stoppable\n"
        "def run():\n"
        "    libc = ctypes.CDLL(None)\n"
        "    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)\n"
        "    libc.signal(signal.SIGINT, 0)\n"  # SIG_DFL: the process would die at once
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(30)\n"
        "sys.exit(stoppable('program', run))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "program: interrupted\n")
