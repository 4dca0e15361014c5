"""Run the command `patchcore-runtime` in this process."""

from patchcore_runtime.cli.main import main


def run(capsys, *argv):
    """Return (exit code, stdout, stderr) of the command."""
    try:
        code = main([str(part) for part in argv])
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err
