"""`patchcore-build sign`: add a signature to a finished artifact.

parsed arguments -> SHA256SUMS.sig in the artifact folder, its path on stdout. Signing is a command
of its own, so that the key and the images can be on different machines.
"""

import argparse
from pathlib import Path

from patchcore_runtime.cli.terminal import print_json


def add_sign_options(command: argparse.ArgumentParser) -> None:
    """Add the artifact and the key."""
    command.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the artifact folder")
    command.add_argument(
        "--key", type=Path, metavar="PEM", required=True,
        help="ed25519 private key; `openssl genpkey -algorithm ed25519 -out PEM` makes one",
    )  # fmt: skip


def run(arguments: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Verify every file, sign, and print the path of the signature."""
    from patchcore_build.signing import sign_artifact

    path = sign_artifact(arguments.artifact, arguments.key)
    if arguments.json:
        print_json({"signature": path})
    else:
        print(f"signature: {path}")
    return 0
