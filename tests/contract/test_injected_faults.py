"""Laws of calls that fail: files are old or new, one line says why, each image has its line."""

import pytest

from injection import COMMANDS, KINDS, Workplace, injected, no_shim, server, whole_run

pytestmark = pytest.mark.skipif(bool(no_shim()), reason=no_shim())

# Calls of a kind that fail; `make trust` lets every one fail. A fit takes longest.
SPREAD = {"fit": 2, "learn": 3, "score": 3, "monitor": 3}
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
    good = whole_run(running, place, command)
    codes, faults = [], []
    for kind in KINDS:
        onward = kind in ONWARD
        most = SPREAD[command]
        tried = injected(running, place, command, good, kind, onward=onward, most=most)
        for nth, run, wrong in tried:
            codes.append(run.code)
            faults += [f"{kind} {nth}: {words}" for words in wrong]
    assert faults == []
    assert codes.count(1) > len(codes) / 2, "most failures are told by the exit code"
