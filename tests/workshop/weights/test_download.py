"""Laws of downloading weights, against a server on this machine."""

import hashlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from patchcore_build.errors import WeightsError
from patchcore_build.weights import download
from patchcore_build.weights.download import (
    TORCHVISION_DIGESTS,
    TORCHVISION_FILES,
    fetch_weights,
    user_cache_dir,
)

BODY = bytes(range(256)) * 4000
NAME = f"tiny-{hashlib.sha256(BODY).hexdigest()[:8]}.pth"
FILES = {"tiny": NAME, "other": "other-00000000.pth", "unnamed": "unnamed.pth"}


class Server(ThreadingHTTPServer):
    """Serves BODY under every name; its fields are the ways in which it misbehaves."""

    ranges: list[str | None]
    knows_range = True
    status = 200
    cut_at: int | None = None
    tells_length = True
    shift = 0

    @property
    def url(self) -> str:
        """Address of the folder with the file."""
        return f"http://127.0.0.1:{self.server_address[1]}/models"


class Handler(BaseHTTPRequestHandler):
    """Answers as its server tells it to."""

    server: Server

    def do_GET(self) -> None:
        """Note the range asked for and send BODY or the rest of it."""
        server = self.server
        wanted = self.headers["Range"]
        server.ranges.append(wanted)
        if server.status != 200 or not self.path.startswith("/models/"):
            self.send_error(server.status if server.status != 200 else 404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if not server.knows_range:
            start = 0
        if start >= len(BODY):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            first = start + server.shift
            self.send_header("Content-Range", f"bytes {first}-{len(BODY) - 1}/{len(BODY)}")
        if server.tells_length:
            self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        self.wfile.write(BODY[start : server.cut_at])

    def log_message(self, *args: object) -> None:
        """Keep the test output quiet."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.ranges = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(server: Server, cache: Path, backbone: str = "tiny") -> Path:
    return fetch_weights(backbone, cache=cache, base_url=server.url, files=FILES)


def names(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_a_download_ends_whole_in_the_cache_and_is_not_repeated(
    tmp_path: Path, server: Server
) -> None:
    cache = tmp_path / "new" / "cache"
    for _ in range(2):
        path = fetch(server, cache)
        assert path == cache / NAME
        assert path.read_bytes() == BODY
    assert server.ranges == [None]
    assert names(cache) == [NAME, f"{NAME}.lock"]


def test_a_file_put_into_the_cache_by_hand_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(BODY)
    path = fetch_weights("tiny", cache=tmp_path, base_url="http://127.0.0.1:1/", files=FILES)
    assert path.read_bytes() == BODY
    assert names(tmp_path) == [NAME]


def test_a_damaged_cached_file_is_replaced(tmp_path: Path, server: Server) -> None:
    (tmp_path / NAME).write_bytes(BODY[:-1])
    assert fetch(server, tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("length", [1, 70_000, len(BODY) - 1])
def test_an_interrupted_download_is_resumed_where_it_ended(
    tmp_path: Path, server: Server, length: int
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:length])
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [f"bytes={length}-"]
    assert f"{NAME}.part" not in names(tmp_path)


def test_a_server_without_ranges_makes_the_download_start_again(
    tmp_path: Path, server: Server
) -> None:
    server.knows_range = False
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:5000])
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == ["bytes=5000-"]


@pytest.mark.parametrize("part", [b"stale" * 100, BODY + b"more", b"x" * len(BODY)])
def test_a_part_of_another_file_costs_one_fresh_download(
    tmp_path: Path, server: Server, part: bytes
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(part)
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(part)}-", None]


def test_a_complete_part_is_only_checked(tmp_path: Path, server: Server) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(BODY)
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY)}-"]


def test_an_answer_for_another_range_is_not_appended(tmp_path: Path, server: Server) -> None:
    server.shift = 7
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:5000])
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == ["bytes=5000-", None]


def test_a_download_with_another_checksum_is_refused_and_not_kept(
    tmp_path: Path, server: Server
) -> None:
    got = hashlib.sha256(BODY).hexdigest()[:8]
    message = f"its SHA-256 begins with {got}, expected 00000000"
    with pytest.raises(WeightsError, match=message):
        fetch(server, tmp_path, "other")
    assert server.ranges == [None]
    assert names(tmp_path) == ["other-00000000.pth.lock"]


def test_a_cut_answer_is_refused_and_the_next_run_resumes_it(
    tmp_path: Path, server: Server
) -> None:
    server.cut_at = 300_000
    with pytest.raises(WeightsError, match=f"ended after 300000 of {len(BODY)} bytes; try again"):
        fetch(server, tmp_path)
    assert not (tmp_path / NAME).exists()
    server.cut_at = None
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, "bytes=300000-"]


def test_a_cut_answer_of_unknown_length_is_caught_by_its_checksum(
    tmp_path: Path, server: Server
) -> None:
    server.cut_at, server.tells_length = 300_000, False
    with pytest.raises(WeightsError, match="its SHA-256 begins with"):
        fetch(server, tmp_path)
    assert not (tmp_path / NAME).exists()
    server.cut_at = None
    assert fetch(server, tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_http_error_says_what_to_fetch_and_where_to_put_it(
    tmp_path: Path, server: Server, status: int
) -> None:
    server.status = status
    with pytest.raises(WeightsError) as refusal:
        fetch(server, tmp_path)
    message = str(refusal.value)
    assert message.startswith(f"{server.url}/{NAME}: cannot be downloaded (HTTP {status} ")
    assert message.endswith(
        f"; fetch it on another machine and copy it to {tmp_path / NAME}, or pass --weights FILE"
    )


def test_without_a_network_the_message_says_the_same_in_one_line(
    tmp_path: Path, server: Server
) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(WeightsError) as refusal:
        fetch_weights("tiny", cache=tmp_path, base_url=f"{url}/", files=FILES)
    assert str(refusal.value) == (
        f"{url}/{NAME}: cannot be downloaded (Connection refused); fetch it on another machine"
        f" and copy it to {tmp_path / NAME}, or pass --weights FILE"
    )


@pytest.mark.parametrize("base_url", ["file:///tmp", "ftp://127.0.0.1", "models", ""])
def test_an_address_that_is_not_http_is_refused(tmp_path: Path, base_url: str) -> None:
    with pytest.raises(WeightsError, match="expected an http or https address"):
        fetch_weights("tiny", cache=tmp_path, base_url=base_url, files=FILES)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, server: Server) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(WeightsError, match=str(tmp_path / "cache" / NAME)):
        fetch(server, tmp_path / "cache")


def test_unknown_backbones_and_names_without_digits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="vgg16: no weights to download; choose one of resnet18"):
        fetch_weights("vgg16", cache=tmp_path)
    with pytest.raises(WeightsError, match=r"'unnamed\.pth' does not end in digits of a SHA-256"):
        fetch_weights("unnamed", cache=tmp_path, files=FILES)


def test_four_downloads_at_once_transfer_the_file_once(tmp_path: Path, server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(server, tmp_path), range(4)))
    assert [path.read_bytes() for path in paths] == [BODY] * 4
    assert server.ranges == [None]


@pytest.mark.parametrize("length", [0, 300_000])
def test_progress_rises_to_the_size_of_the_file(
    tmp_path: Path, server: Server, length: int
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:length])
    seen: list[tuple[int, int | None]] = []
    fetch_weights(
        "tiny",
        cache=tmp_path,
        base_url=server.url,
        files=FILES,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[0][0] > length
    assert seen[-1] == (len(BODY), len(BODY))


def test_every_torchvision_name_carries_its_backbone_and_digits() -> None:
    assert len(TORCHVISION_FILES) == 6
    for backbone, name in TORCHVISION_FILES.items():
        assert name.removesuffix(".pth").rpartition("-")[0] == backbone
        prefix = name.removesuffix(".pth").rpartition("-")[2]
        assert len(prefix) == 8
        assert re.fullmatch(prefix + "[0-9a-f]{56}", TORCHVISION_DIGESTS[name])


def test_a_file_with_the_right_first_digits_alone_is_not_torchvisions(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = NAME.partition("-")[2].removesuffix(".pth") + 56 * "0"
    monkeypatch.setattr(download, "TORCHVISION_DIGESTS", {NAME: whole})
    (tmp_path / NAME).write_bytes(BODY)  # as the first digits, so a cached copy is replaced, too
    with pytest.raises(WeightsError, match=f"expected {whole}"):
        fetch(server, tmp_path)
    assert server.ranges == [None]


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_download_stops_at_the_largest_size(
    tells_length: bool, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tells_length = tells_length
    monkeypatch.setattr(download, "MAX_BYTES", 300_000)
    with pytest.raises(WeightsError, match="expected 300000 bytes or fewer, got "):
        fetch(server, tmp_path)
    part = tmp_path / f"{NAME}.part"
    assert not part.exists() or part.stat().st_size == 0
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x"}, "linux", Path("/x/patchcore/weights")),
        ({"XDG_CACHE_HOME": "/x"}, "darwin", Path("/x/patchcore/weights")),
        ({"XDG_CACHE_HOME": "relative"}, "linux", Path.home() / ".cache/patchcore/weights"),
        ({"XDG_CACHE_HOME": ""}, "linux", Path.home() / ".cache/patchcore/weights"),
        ({}, "linux", Path.home() / ".cache/patchcore/weights"),
        ({}, "darwin", Path.home() / "Library/Caches/patchcore/weights"),
        ({"LOCALAPPDATA": "/l"}, "win32", Path("/l/patchcore/weights")),
        ({}, "win32", Path.home() / "AppData/Local/patchcore/weights"),
    ],
)
def test_the_cache_folder_is_the_one_the_system_prescribes(
    environ: dict[str, str], platform: str, expected: Path
) -> None:
    assert user_cache_dir(environ, platform=platform) == expected
