"""Run commands in forks of a process into which fault_shim.c is preloaded; injection.py starts it.

JSON lines {"argv", "kind", "nth", "onward"} on stdin -> JSON lines {"code", "stdout", "stderr",
"calls"} on stdout. `argv` are the arguments of patchcore-runtime, or `fit PHOTOS OUTPUT`: all steps
of a fit with a small network in place of MindSpore's.
"""

import ctypes
import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
from pathlib import Path

import patchcore_runtime
from artifact_factory import make_artifact, tiny_config
from patchcore_runtime.cli.command_line import add_command, new_parser, run_command_line
from patchcore_runtime.cli.main import main

KINDS = ("write", "print", "rename", "fsync", "open", "malloc")  # as fault_shim.c numbers them
_LONGEST_S = 60  # then SIGALRM ends a command that hangs


def _fit(arguments):
    parser, commands = new_parser("fit", "", "", "")
    command = add_command(commands, "fit", _run_fit, summary="fit", examples="")
    command.add_argument("photos", type=Path)
    command.add_argument("output", type=Path)
    return run_command_line(parser, arguments)


def _run_fit(arguments, _parser):
    make_artifact(arguments.output, arguments.photos, tiny_config())
    return 0


def _child(request, library, stdout, stderr):
    """Run one command as in a process of its own; return its exit code."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stderr)
    signal.alarm(_LONGEST_S)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - until the process ends
    argv = request["argv"]
    library.arm_faults(KINDS.index(request["kind"]) + 1, request["nth"], request["onward"])
    return _fit(argv) if argv[0] == "fit" else main(argv)


def _serve(request, library, calls, answers):
    receiving, stderr = os.pipe()
    with tempfile.TemporaryFile() as stdout:
        pid = os.fork()
        if pid == 0:
            sys.exit(_child(request, library, stdout.fileno(), stderr))
        os.close(stderr)
        with os.fdopen(receiving, errors="replace") as said:
            lines = said.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        stdout.seek(0)
        answer = {
            "code": code,
            "stdout": stdout.read().decode(errors="replace"),
            "stderr": lines,
            "calls": dict(zip(KINDS, calls[1 : 1 + len(KINDS)], strict=True)),
        }
    print(json.dumps(answer), file=answers, flush=True)


def serve():
    """Answer requests until stdin ends."""
    for module in pkgutil.walk_packages(patchcore_runtime.__path__, "patchcore_runtime."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    library = ctypes.CDLL(None)
    library.share_calls.restype = ctypes.POINTER(ctypes.c_int)
    calls = library.share_calls()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        _serve(json.loads(line), library, calls, answers)


if __name__ == "__main__":
    serve()
