"""The C++ program takes and refuses signed artifacts as the Python runtime does, in its words."""

import subprocess

import pytest

from artifact_factory import write_sums
from cpp_binary import BINARY, needs_binary
from patchcore_runtime import Detector
from patchcore_runtime.cli.main import main
from patchcore_runtime.errors import SignatureError

pytestmark = needs_binary


def _cpp(*arguments):
    done = subprocess.run(
        [str(BINARY), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_what_the_key_signed_is_scored_and_checked(signed, keys, capsys):
    key = ["--public-key", keys / "public.pem"]
    code, stdout, stderr = _cpp(signed, signed / "selftest.png", *key)
    assert (code, stderr) == (0, "")
    assert stdout == _cpp(signed, signed / "selftest.png")[1]
    assert main(["check", str(signed), *map(str, key)]) == 0
    ours, theirs = (text.splitlines()[0] for text in (_cpp(signed, "--selftest", *key)[1],
                                                      capsys.readouterr().out))  # fmt: skip
    assert ours == theirs


def _altered(folder):
    (folder / "index.onnx").write_bytes(b"x")
    write_sums(folder)


DAMAGES = {
    "nothing, but the key is another": ("other.pem", lambda _: None),
    "no such key": ("absent.pem", lambda _: None),
    "an empty key": ("empty.pem", lambda _: None),
    "a key of another kind": ("rsa_public.pem", lambda _: None),
    "a private key": ("private.pem", lambda _: None),
    "a key that is far too long": ("long.pem", lambda _: None),
    "a file altered, and the sums": ("public.pem", _altered),
    "no signature": ("public.pem", lambda folder: (folder / "SHA256SUMS.sig").unlink()),
    "a short one": ("public.pem", lambda folder: _signature(folder, b"x" * 63)),
    "an empty one": ("public.pem", lambda folder: _signature(folder, b"")),
    "a long one": ("public.pem", lambda folder: _signature(folder, b"x" * 65)),
    "a random one": ("public.pem", lambda folder: _signature(folder, b"x" * 64)),
}


def _signature(folder, content):
    (folder / "SHA256SUMS.sig").write_bytes(content)


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("command", ["score", "check"])
def test_both_refuse_in_the_same_words(signed, keys, name, command):
    key, damage = DAMAGES[name]
    damage(signed)
    what = "--selftest" if command == "check" else signed / "selftest.png"
    code, stdout, stderr = _cpp(signed, what, "--public-key", keys / key)
    assert (code, stdout) == (1, "")
    with pytest.raises(SignatureError) as caught:
        Detector.load(signed, threads=1, public_key=keys / key)
    assert stderr == f"patchcore_infer: {caught.value}\n"


@pytest.mark.parametrize("option", ["--mindir", "--index-mindir"])
def test_a_file_that_nobody_signed_is_refused_beside_a_key(signed, keys, option):
    arguments = [signed, "--selftest", "--public-key", keys / "public.pem", option, "x.mindir"]
    code, _, stderr = _cpp(*arguments)
    assert code == 2
    assert "--public-key: goes with neither --mindir nor --index-mindir" in stderr
