"""Laws of signatures: with a key, an artifact is accepted only as its owner signed it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import patchcore_build
import patchcore_runtime
from artifact_factory import striped_photo, write_sums
from patchcore_build.cli.main import main as build_main
from patchcore_build.signing import new_signed_folder
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.artifact.folder import RUNTIME_FILES
from patchcore_runtime.cli.main import main
from patchcore_runtime.errors import SignatureError

SITE = [str(Path(package.__file__).parents[1]) for package in (patchcore_build, patchcore_runtime)]


def _refusal(folder, key):
    with pytest.raises(SignatureError) as caught:
        Detector.load(folder, threads=1, public_key=key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_signed_artifact_scores_with_its_key_and_without_as_before(signed, tiny_artifact, keys):
    photo = striped_photo(30)
    scores = {
        Detector.load(folder, threads=1, public_key=key).predict(photo).score
        for folder, key in (
            (tiny_artifact, None),
            (signed, None),
            (signed, keys / "public.pem"),
            (signed, str(keys / "public.pem")),
        )
    }
    assert len(scores) == 1


def test_the_commands_take_the_key(signed, keys, capsys):
    key = ["--public-key", str(keys / "public.pem")]
    assert main(["check", str(signed), *key]) == 0
    assert "files as listed, signed by" in capsys.readouterr().out
    assert main(["score", str(signed), str(signed / "selftest.png"), *key]) == 0
    for command in (["check", str(signed)], ["score", str(signed), str(signed / "selftest.png")]):
        capsys.readouterr()
        assert main([*command, "--public-key", str(keys / "other.pem")]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert "SHA256SUMS.sig: expected a signature of SHA256SUMS by" in line


def test_openssl_accepts_the_signature(signed, keys):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed; it would check what FORMAT.md promises")
    command = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", keys / "public.pem", "-rawin"]
    command += ["-in", signed / "SHA256SUMS", "-sigfile", signed / "SHA256SUMS.sig"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_signing_changes_no_other_byte_and_is_reproducible(tiny_artifact, signed, keys):
    for path in tiny_artifact.iterdir():
        assert (signed / path.name).read_bytes() == path.read_bytes()
    first = (signed / "SHA256SUMS.sig").read_bytes()
    (signed / "SHA256SUMS.sig").unlink()
    assert build_main(["sign", str(signed), "--key", str(keys / "private.pem")]) == 0
    assert (signed / "SHA256SUMS.sig").read_bytes() == first
    assert len(first) == 64


@pytest.mark.parametrize("name", RUNTIME_FILES)
def test_an_altered_file_with_sums_made_to_fit_is_refused(signed, keys, name):
    content = bytearray((signed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (signed / name).write_bytes(content)
    write_sums(signed)
    assert "expected a signature of SHA256SUMS by" in _refusal(signed, keys / "public.pem")


def test_sums_that_differ_in_line_ends_alone_are_not_what_was_signed(signed, keys):
    path = signed / "SHA256SUMS"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    Artifact.open(signed)
    assert "expected a signature" in _refusal(signed, keys / "public.pem")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "SHA256SUMS.sig: No such file or directory; the artifact is not signed"),
        (b"", "expected 64 bytes of an ed25519 signature, got 0"),
        (b"x" * 63, "got 63"),
        (b"x" * 65, "larger than 64 bytes"),
        (b"x" * 10**6, "larger than 64 bytes"),
        (b"x" * 64, "expected a signature of SHA256SUMS by"),
    ],
)
def test_a_missing_or_malformed_signature_is_refused(signed, keys, content, message):
    path = signed / "SHA256SUMS.sig"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert message in _refusal(signed, keys / "public.pem")


def test_one_wrong_bit_anywhere_in_the_signature_is_refused(signed, keys):
    path = signed / "SHA256SUMS.sig"
    whole = path.read_bytes()
    for place in range(0, 64, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert "expected a signature" in _refusal(signed, keys / "public.pem")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.pem", "No such file"),
        ("empty.pem", "expected an ed25519 public key in PEM, got another file"),
        ("rsa_public.pem", "expected an ed25519 public key in PEM, got another kind of key"),
        ("private.pem", "expected an ed25519 public key in PEM, got another file"),
        ("long.pem", "larger than 65536 bytes; pass a key in PEM"),
    ],
)
def test_a_file_that_is_not_a_public_key_is_refused(signed, keys, name, message):
    refusal = _refusal(signed, keys / name)
    assert refusal.startswith(f"{keys / name}: ")
    assert message in refusal


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.pem", "No such file"),
        ("empty.pem", "got another file"),
        ("rsa.pem", "got another kind of key"),
        ("public.pem", "got another file"),
        ("locked.pem", "without a passphrase, got another file"),
    ],
)
def test_a_file_that_is_not_a_private_key_is_refused_before_any_work(
    own_artifact, tmp_path, keys, name, message, capsys
):
    assert build_main(["sign", str(own_artifact), "--key", str(keys / name)]) == 1
    assert message in capsys.readouterr().err
    with pytest.raises(SignatureError), new_signed_folder(tmp_path / "new", sign=keys / name):
        pytest.fail("the block must not run")
    assert not (own_artifact / "SHA256SUMS.sig").exists()


def test_no_signature_is_replaced_and_no_damaged_artifact_signed(signed, keys, capsys):
    sign = ["sign", str(signed), "--key", str(keys / "private.pem")]
    assert build_main(sign) == 1
    assert "SHA256SUMS.sig: exists already; remove it first" in capsys.readouterr().err
    (signed / "SHA256SUMS.sig").unlink()
    (signed / "selftest_map.npy").write_bytes(b"")
    assert build_main(sign) == 1
    assert "selftest_map.npy: altered" in capsys.readouterr().err
    assert not (signed / "SHA256SUMS.sig").exists()


def test_a_key_without_checksums_is_refused(signed, keys):
    with pytest.raises(ValueError, match="verify: expected True with a public_key"):
        Detector.load(signed, verify=False, public_key=keys / "public.pem")


def test_check_finds_an_altered_self_test_under_a_good_signature(signed, keys, capsys):
    (signed / "selftest.png").write_bytes(b"x")
    key = ["--public-key", str(keys / "public.pem")]
    assert main(["check", str(signed), *key]) == 1
    assert "selftest.png: altered" in capsys.readouterr().err


def test_another_index_is_unsigned_unless_asked_for(signed, keys, tmp_path):
    index = ["index", str(signed), "--kind", "exact"]
    assert build_main([*index, "--output", str(tmp_path / "bare")]) == 0
    assert "not signed" in _refusal(tmp_path / "bare", keys / "public.pem")
    again = ["--output", str(tmp_path / "again"), "--sign", str(keys / "private.pem")]
    assert build_main([*index, *again]) == 0
    Artifact.open(tmp_path / "again", public_key=keys / "public.pem").verify()


def test_without_the_library_one_line_names_the_extra_and_everything_else_works(
    signed, keys, tmp_path
):
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "cryptography.py").write_text("raise ImportError('not here')\n")
    program = "import sys; sys.path[:0] = sys.argv[1:4]\n"
    program += "from patchcore_runtime.cli.main import main; sys.exit(main(sys.argv[4:]))"
    command = [sys.executable, "-c", program, str(absent), *SITE, "check", str(signed)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    command += ["--public-key", str(keys / "public.pem")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "pip install 'patchcore-runtime[sign]'" in line
