"""Laws of reading torch.save's two containers, with files assembled opcode by opcode."""

import builtins
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from patchcore_build.errors import WeightsError
from patchcore_build.weights.read import read_weights
from patchcore_build.weights.torch_checkpoint import read_torch_checkpoint
from places import WEIGHTS
from torch_files import (
    KINDS,
    Parts,
    legacy_file,
    mapping,
    name,
    name_protocol_4,
    number,
    numbers,
    one,
    pack,
    storage,
    tensor,
    text,
    tuple_of,
    whole,
    zip_file,
)

CONTAINERS: list[Callable[[Parts], bytes]] = [zip_file, legacy_file]
both_containers = pytest.mark.parametrize("container", CONTAINERS)


def read(tmp_path: Path, content: bytes) -> dict[str, NDArray[Any]]:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    return read_torch_checkpoint(path)


SIX = np.arange(6, dtype="<f4")


@both_containers
def test_every_dtype_comes_back_equal_to_the_bit(
    tmp_path: Path, container: Callable[[Parts], bytes]
) -> None:
    rng = np.random.default_rng(1)
    arrays = {
        f"{kind}.weight": rng.integers(0, 2 if kind == "b1" else 100, (2, 3, 4)).astype(f"<{kind}")
        for kind in KINDS
    }
    arrays["bn.num_batches_tracked"] = np.array(7, dtype="<i8")
    arrays["empty"] = np.zeros((0, 5), dtype="<f4")
    got = read(tmp_path, container(pack(arrays)))
    assert list(got) == list(arrays)
    for label, array in arrays.items():
        assert got[label].dtype == array.dtype
        np.testing.assert_array_equal(got[label], array, strict=True)


def test_the_zip_and_the_legacy_file_of_a_real_network_are_equal_to_the_bit() -> None:
    paths = [WEIGHTS / f"resnet18-layers123{end}.pth" for end in ("", "-legacy")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"needs resnet18-layers123.pth and -legacy.pth in {WEIGHTS}")
    zipped, legacy = map(read_torch_checkpoint, paths)
    assert list(zipped) == list(legacy)
    assert len(zipped) == 90
    assert zipped["conv1.weight"].shape == (64, 3, 7, 7)
    for label, array in zipped.items():
        assert array.dtype == legacy[label].dtype
        assert array.tobytes() == legacy[label].tobytes()


@both_containers
def test_bfloat16_becomes_the_float32_of_the_same_value(
    tmp_path: Path, container: Callable[[Parts], bytes]
) -> None:
    values = np.array([1.0, -2.5, 0.0, 3.0e38, np.inf, 2.0**-130], dtype="<f4")
    upper = (values.view("<u4") >> 16).astype("<u2")
    value = mapping({"w": tensor(storage("0", "BFloat16Storage", 6), (6,), (1,))})
    got = read(tmp_path, container(one(value, upper.tobytes())))["w"]
    np.testing.assert_array_equal(got, (upper.astype("<u4") << 16).view("<f4"), strict=True)
    assert got[1] == -2.5


@both_containers
def test_views_with_offsets_and_foreign_strides_are_laid_out_as_torch_does(
    tmp_path: Path, container: Callable[[Parts], bytes]
) -> None:
    reference = storage("0", "FloatStorage", 6)
    value = mapping(
        {
            "transposed": tensor(reference, (3, 2), (1, 3)),
            "tail": tensor(reference, (2,), (2,), offset=3),
            "corner": tensor(reference, (1, 1), (10**30, 10**30), offset=5),
            "spread": tensor(reference, (2, 3), (0, 1)),
        }
    )
    got = read(tmp_path, container(one(value, SIX.tobytes())))
    np.testing.assert_array_equal(got["transposed"], SIX.reshape(2, 3).T)
    np.testing.assert_array_equal(got["tail"], [3, 5])
    np.testing.assert_array_equal(got["corner"], [[5]])
    np.testing.assert_array_equal(got["spread"], [[0, 1, 2], [0, 1, 2]])
    assert not any(array.flags.writeable for array in got.values())
    for label, array in read_weights(tmp_path / "net.pth").items():
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, got[label], strict=True)


def test_a_big_endian_zip_holds_the_same_numbers(tmp_path: Path) -> None:
    parts = pack({"w": SIX})
    swapped = parts._replace(storages={"0": SIX.astype(">f4").tobytes()})
    got = read(tmp_path, zip_file(swapped, byteorder=b"big"))["w"]
    np.testing.assert_array_equal(got, SIX, strict=True)
    old = read(tmp_path, zip_file(parts, byteorder=None))["w"]  # before torch 2.1
    np.testing.assert_array_equal(old, SIX, strict=True)


@both_containers
@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrappers_and_the_prefix_of_dataparallel_are_taken_off(
    tmp_path: Path, container: Callable[[Parts], bytes], wrapper: str
) -> None:
    inner = mapping({"module.a": whole("0", SIX), "module.steps": number(12)})
    value = mapping({"epoch": number(3), wrapper: inner, "note": text("x"), "lr": b"N"})
    got = read(tmp_path, container(one(value, SIX.tobytes())))
    assert list(got) == ["a", "steps"]
    assert got["steps"] == 12
    np.testing.assert_array_equal(got["a"], SIX, strict=True)


def test_the_prefix_stays_where_one_name_lacks_it(tmp_path: Path) -> None:
    got = read(tmp_path, zip_file(pack({"module.a": SIX, "b": SIX})))
    assert list(got) == ["module.a", "b"]


def test_memos_metadata_parameters_and_protocol_4_names_are_understood(tmp_path: Path) -> None:
    reference = storage("0", "FloatStorage", 6) + b"q\x05"
    first = tensor(reference, (6,), (1,)) + b"r\x00\x01\x00\x00"
    parameter = name_protocol_4("torch._utils", "_rebuild_parameter")
    again = parameter + tuple_of(b"j\x00\x01\x00\x00", b"\x88", mapping({})) + b"R"
    size = name("torch", "Size") + tuple_of(numbers((2, 3))) + b"R"
    half = name("torch._utils", "_rebuild_tensor_v2") + tuple_of(
        b"h\x05", number(0), size, numbers((3, 1)), b"\x89", mapping({}), b"N"
    )
    metadata = b"}" + text("_metadata") + mapping({"": b"}" + text("version") + b"K\x02s"}) + b"sb"
    value = mapping({"a": first, "b": again, "c": half + b"R"}) + metadata
    got = read(tmp_path, zip_file(one(value, SIX.tobytes())))
    assert list(got) == ["a", "b", "c"]
    np.testing.assert_array_equal(got["b"], SIX)
    np.testing.assert_array_equal(got["c"], SIX.reshape(2, 3))


class Evil:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


@both_containers
@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize(
    ("function", "shown"),
    [
        (os.system, f"{os.system.__module__}.system"),
        (eval, "eval"),
        (builtins.getattr, "getattr"),
    ],
)
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(
    tmp_path: Path,
    container: Callable[[Parts], bytes],
    protocol: int,
    function: Callable[..., object],
    shown: str,
) -> None:
    witness = tmp_path / "witness"
    command = f"touch {witness}" if function is os.system else f"open({str(witness)!r}, 'w')"
    body = pickle.dumps({"w": Evil(function, command)}, protocol)
    body = body.removesuffix(b".")
    with pytest.raises(WeightsError, match=r"net\.pth: expected a PyTorch state dict") as refusal:
        read(tmp_path, container(Parts(body, {}, {})))
    assert not witness.exists()
    assert shown in str(refusal.value) or protocol < 2  # text opcodes are refused before the name
    assert "\n" not in str(refusal.value)


W = storage("0", "FloatStorage", 6)
CALL = name("torch._utils", "_rebuild_tensor_v2")
HOSTILE = {
    "view behind its storage": (tensor(W, (7,), (1,)), "reaches out of its storage of 6"),
    "offset behind its storage": (tensor(W, (1,), (1,), offset=6), "reaches out"),
    "stride behind its storage": (tensor(W, (2, 2), (5, 1)), "reaches out"),
    "one beyond the last element": (tensor(W, (2, 3), (3, 1), offset=1), "reaches out"),
    "negative stride": (tensor(W, (2,), (-1,), offset=5), "reaches out"),
    "negative offset": (tensor(W, (1,), (1,), offset=-1), "impossible shape"),
    "negative side": (tensor(W, (-2, -3), (3, 1)), "impossible shape"),
    "more sides than strides": (tensor(W, (2, 3), (1,)), "impossible shape"),
    "too many sides": (tensor(W, (1,) * 33, (1,) * 33), "impossible shape"),
    "terabytes out of one number": (tensor(W, (1 << 40,), (0,)), "reaches out"),
    "sides beyond int64": (tensor(W, (1 << 70, 1 << 70), (0, 0)), "reaches out"),
    "empty with sides beyond int64": (tensor(W, (0, 1 << 62, 1 << 62), (1, 1, 1)), "array is"),
    "huge storage": (
        tensor(storage("0", "FloatStorage", 1 << 62), (6,), (1,)),
        "storage '0'",
    ),
    "negative storage": (
        tensor(storage("0", "FloatStorage", -1), (6,), (1,)),
        "does not refer to a storage",
    ),
    "storage with a view": (
        tensor(storage("0", "FloatStorage", 6, text("view")), (6,), (1,)),
        "does not refer to a storage",
    ),
    "storage of unknown type": (storage("0", "QInt8Storage", 6), r"torch\.QInt8Storage"),
    "storage described twice": (
        tensor(W, (6,), (1,)) + text("b") + tensor(storage("0", "IntStorage", 6), (6,), (1,)),
        "described in two ways",
    ),
    "reference that is a number": (number(1) + b"Q", "does not refer to a storage"),
    "tensor of nothing": (CALL + b")R", "its pickle calls"),
    "tensor over a number": (
        CALL + tuple_of(number(1), number(0), b")", b")", b"\x89", b"N") + b"R",
        "its pickle calls",
    ),
    "sides that are text": (
        CALL + tuple_of(W, number(0), tuple_of(text("6")), numbers((1,))) + b"R",
        "its pickle calls",
    ),
    "call of a number": (number(1) + b")R", "its pickle calls"),
    "dict of something": (name("collections", "OrderedDict") + numbers((1,)) + b"R", "calls"),
    "attributes on a tensor": (tensor(W, (6,), (1,)) + b"}b", "BUILD"),
    "a class made an object": (name("torch", "FloatStorage") + b")\x81", "NEWOBJ"),
    "popping from below": (b"(R", "damaged"),
    "an unset memo": (b"h\x09", "damaged"),
    "items on a number": (number(1) + text("k") + b"Ns", "damaged"),
    "appending to a number": (number(1) + b"Na", "damaged"),
    "keys that are tuples": (b"}))s", "neither names nor numbers"),
    "text of 4 GB": (b"X\xff\xff\xff\xffabc", "expected 4294967295 bytes"),
    "bytearray of 16 EB": (b"\x96" + b"\xff" * 8 + b"abc", "bytearray8"),
    "a bare storage": (W, "is not a tensor"),
    "a word": (
        text("no\nnews") + text("z") + tensor(W, (6,), (1,)),
        r"is not a tensor but 'no\\nnews'",
    ),
}


@both_containers
@pytest.mark.parametrize("case", HOSTILE)
def test_a_tensor_that_cannot_be_is_refused_by_name(
    tmp_path: Path, container: Callable[[Parts], bytes], case: str
) -> None:
    value, message = HOSTILE[case]
    with pytest.raises(WeightsError, match=message) as refusal:
        read(tmp_path, container(one(mapping({"w": value}))))
    assert "net.pth: expected a PyTorch state dict, but " in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 600


@both_containers
def test_a_nest_of_a_hundred_thousand_tuples_is_refused_without_a_crash(
    tmp_path: Path, container: Callable[[Parts], bytes]
) -> None:
    nest = b")" + b"\x85" * 100_000
    for value in (mapping({"w": nest}), b"}" + nest + b"Ns", nest + b"Q", nest + b")R", nest):
        with pytest.raises(WeightsError):
            read(tmp_path, container(one(value)))


@both_containers
def test_tensors_that_repeat_a_storage_a_thousandfold_are_refused(
    tmp_path: Path, container: Callable[[Parts], bytes]
) -> None:
    raw = np.zeros(100_000, "<f4").tobytes()
    reference = storage("0", "FloatStorage", 100_000)
    value = mapping({f"w{i}": tensor(reference, (100_000,), (1,)) for i in range(1000)})
    with pytest.raises(WeightsError, match="repeat their storages"):
        read(tmp_path, container(one(value, raw, 100_000)))


@both_containers
def test_a_pickle_longer_than_any_state_dict_is_refused(
    tmp_path: Path, container: Callable[[Parts], bytes]
) -> None:
    with pytest.raises(WeightsError, match="longer than 4194304 bytes"):
        read(tmp_path, container(one(text("x" * (5 << 20)))))


@both_containers
def test_a_value_without_named_tensors_is_refused(
    tmp_path: Path, container: Callable[[Parts], bytes]
) -> None:
    for value in (b"}", number(3), b"]", b"}K\x01K\x02s"):
        with pytest.raises(WeightsError, match="does not hold named tensors"):
            read(tmp_path, container(Parts(value, {}, {})))


@both_containers
def test_a_cut_file_is_refused_wherever_it_is_cut(
    tmp_path: Path, container: Callable[[Parts], bytes]
) -> None:
    content = container(pack({"conv.weight": SIX, "bn.steps": np.array(3, "<i8")}))
    read(tmp_path, content)
    for end in range(len(content)):
        with pytest.raises(WeightsError, match=r"net\.pth"):
            read(tmp_path, content[:end])


@both_containers
def test_a_flipped_byte_gives_tensors_or_a_weights_error_and_nothing_else(
    tmp_path: Path, container: Callable[[Parts], bytes]
) -> None:
    content = container(pack({"conv.weight": SIX, "bn.steps": np.array(3, "<i8")}))
    refused = 0
    for position in range(len(content)):
        for flip in (0x01, 0xFF):
            altered = bytearray(content)
            altered[position] ^= flip
            try:
                read(tmp_path, bytes(altered))
            except WeightsError:
                refused += 1
    assert refused > len(content)


def test_a_compressed_member_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", b"\x80\x02" + mapping({"w": whole("0", SIX)}) + b".")
        archive.writestr("net/data/0", bytes(10 << 20))
    with pytest.raises(WeightsError, match="its zip members are compressed"):
        read_torch_checkpoint(path)


def test_a_stored_member_that_claims_ten_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02" + mapping({"w": whole("0", SIX)}) + b".")
        archive.writestr("net/data/0", SIX.tobytes())
        archive.filelist[1].file_size = archive.filelist[1].compress_size = 10 << 30
    with pytest.raises(WeightsError, match="claim more than the file's"):
        read_torch_checkpoint(path)


def test_a_zip_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    parts = pack({"w": SIX})
    with pytest.raises(WeightsError, match="the zip member 'net/data/0' is missing"):
        read(tmp_path, zip_file(parts._replace(storages={})))
    with pytest.raises(WeightsError, match=r"byteorder b'middle' is neither"):
        read(tmp_path, zip_file(parts, byteorder=b"middle"))
    with pytest.raises(WeightsError, match=r"should hold 6 elements of 4 bytes and has 20 bytes"):
        read(tmp_path, zip_file(parts._replace(storages={"0": bytes(20)})))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match=r"0 members \*/data\.pkl instead of one"):
        read(tmp_path, buffer.getvalue())


def test_a_legacy_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    parts = pack({"w": SIX})
    with pytest.raises(WeightsError, match="its protocol is 1002 instead of 1001"):
        read(tmp_path, legacy_file(parts, protocol=1002))
    with pytest.raises(WeightsError, match="little-endian"):
        read(tmp_path, legacy_file(parts, little_endian=False))
    with pytest.raises(WeightsError, match="not those its tensors refer to"):
        read(tmp_path, legacy_file(parts._replace(storages={})))
    with pytest.raises(WeightsError, match="not as long as its tensors say"):
        read(tmp_path, legacy_file(parts._replace(counts={"0": 5})))
    endless = mapping({"w": tensor(storage("0", "FloatStorage", 1 << 62), (6,), (1,))})
    with pytest.raises(WeightsError, match=f"is cut: it should take {1 << 64} bytes"):
        read(tmp_path, legacy_file(one(endless, SIX.tobytes(), 1 << 62)))


def test_a_file_that_is_missing_empty_or_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pth: cannot be read: No such file"):
        read_torch_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_torch_checkpoint(tmp_path)
    for content in (b"", b"\x80", b"<html>not found</html>", pickle.dumps({"a": 1})):
        with pytest.raises(WeightsError, match=r"neither a zip nor a torch\.save header"):
            read(tmp_path, content)
