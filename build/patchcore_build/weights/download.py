"""Download torchvision's ImageNet weights once; without a network, say what to do instead.

backbone name -> CACHE/NAME-<first digits of its SHA-256>.pth

The whole SHA-256 verifies every copy, cached or new. torchvision publishes its first digits in
the file's name; TORCHVISION_DIGESTS has the others, as independent projects have measured them.
A download grows in `NAME.part`. An interrupted run leaves that file behind, and the next run
resumes it. Each file has a lock of the operating system, which even a killed process releases. So
two runs never write the same part: the second waits, and then finds the finished file.
"""

# pooch would replace most of this module, but it cannot resume a download, has no lock between
# processes, and has no limit of size.

import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO
from urllib.parse import urlsplit

from patchcore_build.errors import WeightsError
from patchcore_build.weights.read import digest

BASE_URL = "https://download.pytorch.org/models/"
# The weights torchvision calls IMAGENET1K_V1.
TORCHVISION_FILES: Mapping[str, str] = MappingProxyType(
    {
        "resnet18": "resnet18-f37072fd.pth",
        "resnet34": "resnet34-b627a593.pth",
        "resnet50": "resnet50-0676ba61.pth",
        "resnet101": "resnet101-63fe2227.pth",
        "wide_resnet50_2": "wide_resnet50_2-95faca4d.pth",
        "wide_resnet101_2": "wide_resnet101_2-32ee1156.pth",
    }
)
TORCHVISION_DIGESTS: Mapping[str, str] = MappingProxyType(
    {
        "resnet18-f37072fd.pth":
            "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        "resnet34-b627a593.pth":
            "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
        "resnet50-0676ba61.pth":
            "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        "resnet101-63fe2227.pth":
            "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
        "wide_resnet50_2-95faca4d.pth":
            "95faca4d11227dddf8633dbb5ff6c8a9003c1aa5b8945c73834b8007b10950b8",
        "wide_resnet101_2-32ee1156.pth":
            "32ee11565f95f2f07223b243ada444a6457c4b90a88e6e293922813faf6dfd06",
    }
)  # fmt: skip
MAX_BYTES = 2**29  # the largest file of torchvision's has 255 MB
Progress = Callable[[int, int | None], None]

_TIMEOUT_S = 30.0  # without a single byte, not for the whole file
_BLOCK_BYTES = 1 << 18


class _TransferError(Exception):
    """The cause of a failed download, without the advice that every error message ends with."""


def fetch_weights(
    backbone: str,
    *,
    cache: Path,
    base_url: str = BASE_URL,
    files: Mapping[str, str] = TORCHVISION_FILES,
    progress: Progress | None = None,
) -> Path:
    """Return the cached weights of a backbone; download or resume them if necessary.

    Args:
        backbone: A key of `files`.
        cache: Folder of the downloads, created if absent; see `user_cache_dir`.
        base_url: http or https address to which the file name is appended.
        files: File name by backbone; each ends in `-<8 to 64 digits of its SHA-256>.<suffix>`.
        progress: Called with the bytes received and the bytes in all (None if unknown).

    Returns:
        A file with the SHA-256 of TORCHVISION_DIGESTS; a file of another project begins with the
        digits in its name.

    Raises:
        WeightsError: The backbone is unknown, or no verified copy is available; the message says
            how to get the file by hand.
    """
    if backbone not in files:
        raise WeightsError(
            f"{backbone}: no weights to download; choose one of {', '.join(files)},"
            " or pass --weights FILE"
        )
    name = files[backbone]
    target = cache / name
    url = f"{base_url.rstrip('/')}/{name}"
    try:
        prefix = TORCHVISION_DIGESTS.get(name) or _digest_prefix(name)
        if target.is_file() and digest(target).startswith(prefix):
            return target
        if urlsplit(url).scheme not in ("http", "https"):
            raise _TransferError("expected an http or https address")
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache / f"{name}.lock"):
            if not (target.is_file() and digest(target).startswith(prefix)):
                _download(url, target, prefix, progress)
    except (_TransferError, OSError, http.client.HTTPException, ValueError) as error:
        raise WeightsError(
            f"{url}: cannot be downloaded ({_reason(error)}); fetch it on another machine and"
            f" copy it to {target}, or pass --weights FILE"
        ) from error
    return target


def cached_weights(backbone: str, *, cache: Path) -> Path | None:
    """The verified copy of a backbone's weights in a folder, which `fetch_weights` returns.

    Raises:
        WeightsError: the file cannot be read.
    """
    name = TORCHVISION_FILES[backbone]
    path = cache / name
    verified = path.is_file() and digest(path) == TORCHVISION_DIGESTS[name]
    return path if verified else None


def user_cache_dir(
    environ: Mapping[str, str] = os.environ, *, platform: str = sys.platform
) -> Path:
    """Find the folder for downloaded weights by the conventions of the operating system.

    `XDG_CACHE_HOME` if it is absolute (as the XDG specification demands), else `LOCALAPPDATA` on
    Windows, `~/Library/Caches` on macOS and `~/.cache` elsewhere. Nothing is created.

    Args:
        environ: Environment variables.
        platform: As `sys.platform`.

    Returns:
        `<cache>/patchcore/weights`.
    """
    home = Path.home()
    if Path(environ.get("XDG_CACHE_HOME", "")).is_absolute():
        base = Path(environ["XDG_CACHE_HOME"])
    elif platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = home / ".cache"
    return base / "patchcore" / "weights"


def _digest_prefix(name: str) -> str:
    found = re.fullmatch(r"[\w.-]+-([0-9a-f]{8,64})\.\w+", name)
    if found is None:
        raise _TransferError(f"the name {name!a} does not end in digits of a SHA-256")
    return found[1]


def _download(url: str, target: Path, prefix: str, progress: Progress | None) -> None:
    """Complete NAME.part and rename it; if a resumed part is corrupt, download it once more."""
    part = target.with_name(f"{target.name}.part")
    for _ in range(2):
        resumed = part.exists() and part.stat().st_size > 0
        _transfer(url, part, progress)
        got = digest(part)
        if got.startswith(prefix):
            part.replace(target)
            return
        part.unlink()
        if not resumed:
            break
    raise _TransferError(f"its SHA-256 begins with {got[: len(prefix)]}, expected {prefix}")


def _transfer(url: str, part: Path, progress: Progress | None) -> None:
    """Append the missing bytes to `part`, or rewrite it if the server cannot resume."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "patchcore-build"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  scheme is checked above
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310  same
            _receive(response, part, start, progress)
    except urllib.error.HTTPError as error:
        with error:
            # "Range not satisfiable": the part is complete, and its digest decides about it.
            if not (start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
                raise _TransferError(f"HTTP {error.code} {error.reason}") from error


def _receive(
    response: http.client.HTTPResponse, part: Path, start: int, progress: Progress | None
) -> None:
    content_range = response.headers.get("Content-Range", "")
    resumes = content_range.startswith(f"bytes {start}-")  # only a 206 response has this header
    done = start if resumes else 0
    length = response.headers.get("Content-Length", "")
    total = done + int(length) if length.isdecimal() and len(length) < 20 else None
    _refuse_size(max(done, total or 0))
    with part.open("ab" if resumes else "wb") as file:
        while block := response.read(_BLOCK_BYTES):
            done += len(block)
            if done > MAX_BYTES:
                file.truncate(0)  # nobody continues it
            _refuse_size(done)
            file.write(block)
            if progress is not None:
                progress(done, total)
    if total is not None and done < total:
        raise _TransferError(f"the connection ended after {done} of {total} bytes; try again")


def _refuse_size(size: int) -> None:
    if size > MAX_BYTES:
        raise _TransferError(f"expected {MAX_BYTES} bytes or fewer, got {size} or more")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait until no other process locks `path`; the empty file stays, since removing it races."""
    with path.open("ab") as file:
        _acquire(file)
        yield  # closing the file releases the lock


if sys.platform == "win32":
    import msvcrt

    def _acquire(file: IO[bytes]) -> None:
        while True:
            try:
                return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            except OSError as error:
                if error.errno != 36:  # EDEADLOCK of the C runtime
                    raise
else:
    import fcntl

    def _acquire(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)


def _reason(error: Exception) -> str:
    """The cause on one line; urllib wraps the error of the operating system in `reason`."""
    cause = getattr(error, "reason", error)
    text = getattr(cause, "strerror", None) or str(cause) or type(error).__name__
    return " ".join(str(text).split())[:200]
