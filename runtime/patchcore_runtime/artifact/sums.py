"""The content of SHA256SUMS -> file name -> digest, or ArtifactError naming the line.

A line is 64 lower-case hexadecimal digits, two spaces and a name without control characters. A
carriage return before the line's end, and a missing end of the last line, are accepted.
"""

import re
from pathlib import Path

from patchcore_runtime.errors import ArtifactError

_LINE = re.compile(rb"([0-9a-f]{64})  ([^\x00-\x1f\x7f]+)")


def parse_sums(content: bytes, path: Path) -> dict[str, str]:
    """Parse the lines of a SHA256SUMS; names are decoded byte by byte (Latin-1).

    Raises:
        ArtifactError: a line has another form, or a name is listed twice.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        match = _LINE.fullmatch(line.removesuffix(b"\r"))
        if match is None and content:
            raise ArtifactError(f"{path}: line {number}: expected `sha256  file name`")
        if match is not None:
            digest, name = (part.decode("latin-1") for part in match.groups())
            if name in sums:
                raise ArtifactError(f"{path}: line {number}: a file is listed twice; copy it again")
            sums[name] = digest
    return sums
