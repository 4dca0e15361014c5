"""Laws of calls that fail: files are old or new, one line says why, each image has its line."""

import pytest

from injection import COMMANDS, KINDS, Workplace, injected, no_shim, server

pytestmark = pytest.mark.skipif(bool(no_shim()), reason=no_shim())

SPREAD = 3  # calls of a kind; `make trust` lets every one fail
ONWARD = ("write", "open", "malloc")  # as on a disk or in a memory that stays full


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder for the compiled shim, inputs and outputs."""
    return tmp_path_factory.mktemp("injected")


@pytest.fixture(scope="module")
def running(scratch):
    """The process into which the shim is preloaded."""
    with server(scratch) as started:
        yield started


@pytest.fixture(scope="module")
def place(scratch):
    """Inputs and outputs."""
    return Workplace(scratch)


@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_call_fails_files_are_old_or_new_and_one_line_says_why(running, place, command):
    codes, faults = [], []
    for kind in KINDS:
        onward = kind in ONWARD
        for nth, run, wrong in injected(running, place, command, kind, onward=onward, most=SPREAD):
            codes.append(run.code)
            faults += [f"{kind} {nth}: {words}" for words in wrong]
    assert faults == []
    assert codes.count(1) > len(codes) / 2, "most failures are told by the exit code"
