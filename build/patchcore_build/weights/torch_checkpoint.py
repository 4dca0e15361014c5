"""Read a PyTorch state dict without PyTorch, and without running any code in the file.

PATH.pth -> {parameter name: array}, in file order, under PyTorch's own names.

A checkpoint is a pickle that describes tensors, plus raw storages. `torch.save` has written two
containers: a zip (`*/data.pkl`, `*/data/KEY`, `*/byteorder`; since 1.6) and a plain stream
(magic number, protocol 1001, system facts, pickle, storage keys, storages). Source:
torch/serialization.py of PyTorch 2.x. Every size that the file claims is compared with its real
size before anything is allocated.
"""

import io
import math
import mmap
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from patchcore_build.errors import WeightsError
from patchcore_build.weights.torch_pickle import (
    STORAGE_DTYPES,
    Storage,
    TensorView,
    quote,
    run_pickle,
)
from patchcore_runtime.errors import PatchCoreError
from patchcore_runtime.files.regular import open_regular

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = b"\x80\x02\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."

_NDIM_MAX = 32  # the limit of NumPy 1.x
_REPEAT_MAX = 4  # tensors may share storages, but a small file must not become a huge result


def read_torch_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """Read every tensor of a `torch.save`d state dict, in the zip or the legacy container.

    A {"state_dict": ...} or {"model": ...} around it is unwrapped, and a "module." before all
    names is removed. Dtypes stay as stored, except that bfloat16 becomes float32 (exactly).

    Args:
        path: The checkpoint, usually `.pth` or `.pt`.

    Returns:
        Read-only arrays by parameter name, in file order; tied tensors may share memory.

    Raises:
        WeightsError: The file is missing, corrupt or no checkpoint, or asks for anything but
            tensors.
    """
    advice = "download it again, or save `model.state_dict()` alone with torch.save"
    with refused(path, "a PyTorch state dict", advice):
        return read_torch_file(path).tensors(_find_state_dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchFile:
    """What a file of torch.save describes, and the storages of its tensors, flat arrays by key."""

    value: object
    storages: Mapping[str, NDArray[Any]]
    size: int  # of the file in bytes

    def tensors(self, choose: Callable[[object], Mapping[str, object]]) -> dict[str, NDArray[Any]]:
        """View the tensors that `choose` finds in `value`; the arrays are read-only.

        Raises:
            ValueError: one is no tensor, or reaches out of its storage.
        """
        return _view_tensors(choose(self.value), self.storages, self.size)


def read_torch_file(path: Path, packages: tuple[str, ...] = ()) -> TorchFile:
    """Read a file of torch.save in the zip or the legacy container, without running its code.

    Args:
        path: The file.
        packages: Packages whose objects may be described; see `torch_pickle.run_pickle`.

    Raises:
        ValueError: or what else `refused` names: the file is corrupt or asks for something else.
    """
    with open_regular(path) as file:
        start = file.read(len(LEGACY_MAGIC))
        if start.startswith(ZIP_MAGIC):
            value, storages = _read_zip(file, packages)
        elif start == LEGACY_MAGIC:
            value, storages = _read_legacy(file, packages)
        else:
            raise ValueError("it starts with neither a zip nor a torch.save header")
        return TorchFile(value=value, storages=storages, size=file.seek(0, io.SEEK_END))


@contextmanager
def refused(
    path: Path, expected: str, advice: str, *, error_type: type[PatchCoreError] = WeightsError
) -> Iterator[None]:
    """Turn every error of reading `path` into one line.

    Raises:
        PatchCoreError: an `error_type`: the file cannot be read, or is not what was expected.
    """
    try:
        yield
    except OSError as error:
        raise error_type(f"{path}: cannot be read: {error.strerror or error}") from error
    except (
        ValueError,
        zipfile.BadZipFile,
        struct.error,
        RuntimeError,
        EOFError,
        OverflowError,
    ) as error:
        # zipfile raises the last four for members that are encrypted, unknown or truncated.
        reason = " ".join(str(error).split())[:300]
        raise error_type(f"{path}: expected {expected}, but {reason}; {advice}") from error


def _read_zip(file: IO[bytes], packages: tuple[str, ...]) -> tuple[object, dict[str, NDArray[Any]]]:
    """Read pickle and storages from the zip container; the storages are flat arrays by key."""
    file_bytes = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        # torch.save never compresses, so sizes are plausible once they fit into the file.
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise ValueError("its zip members are compressed, which torch.save never does")
        if sum(max(info.file_size, info.compress_size) for info in members.values()) > file_bytes:
            raise ValueError(f"its zip members claim more than the file's {file_bytes} bytes")
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"the zip holds {len(pickles)} members */data.pkl instead of one")
        folder = pickles[0].removesuffix("data.pkl")
        value, wanted = run_pickle(io.BytesIO(archive.read(pickles[0])), packages)
        order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in members else b"little"
        if order not in (b"little", b"big"):
            raise ValueError(f"its byteorder {order[:20]!r} is neither little nor big")
        storages = {}
        for storage in wanted.values():
            name = f"{folder}data/{storage.key}"
            if name not in members:
                raise ValueError(f"the zip member {quote(name)} is missing")
            storages[storage.key] = _decode(storage, archive.read(name), big=order == b"big")
    return value, storages


def _read_legacy(
    file: IO[bytes], packages: tuple[str, ...]
) -> tuple[object, dict[str, NDArray[Any]]]:
    """Read pickle and storages from the stream container, whose storages are little-endian."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        run_pickle(stream)  # the magic number, which is compared already
        protocol, _ = run_pickle(stream)
        if protocol != 1001:
            raise ValueError(f"its protocol is {quote(protocol)} instead of 1001")
        system, _ = run_pickle(stream)
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ValueError("it was not written by a little-endian machine")
        value, wanted = run_pickle(stream, packages)
        keys, _ = run_pickle(stream)
        if not isinstance(keys, list) or any(type(key) is not str for key in keys):
            raise ValueError("its storage keys are not a list of names")
        if len(set(keys)) != len(keys) or set(keys) != set(wanted):
            raise ValueError("its storage keys are not those its tensors refer to")
        storages = {}
        for key in keys:
            header = stream.read(8)
            count = int.from_bytes(header, "little", signed=True)
            if len(header) != 8 or count != wanted[key].count:
                raise ValueError(f"storage {quote(key)} is cut or not as long as its tensors say")
            size = count * _dtype(wanted[key]).itemsize
            if size > len(stream) - stream.tell():
                raise ValueError(f"storage {quote(key)} is cut: it should take {size} bytes")
            storages[key] = _decode(wanted[key], stream.read(size), big=False)
    return value, storages


def _dtype(storage: Storage) -> np.dtype[Any]:
    return np.dtype(STORAGE_DTYPES[storage.kind])


def _decode(storage: Storage, raw: bytes, *, big: bool) -> NDArray[Any]:
    """Convert the bytes of one storage to a flat array of `storage.count` elements."""
    dtype = _dtype(storage)
    if len(raw) != storage.count * dtype.itemsize:
        raise ValueError(
            f"storage {quote(storage.key)} should hold {storage.count} elements of"
            f" {dtype.itemsize} bytes and has {len(raw)} bytes"
        )
    stored = np.frombuffer(raw, dtype.newbyteorder(">" if big else "<"))
    if storage.kind == "BFloat16Storage":  # the upper half of a float32
        return (stored.astype(np.uint32) << 16).view(np.float32)
    if storage.kind == "BoolStorage":
        return stored.astype(np.bool_)
    return stored.astype(dtype, copy=False)


def _find_state_dict(value: object) -> dict[str, object]:
    """Remove the usual wrappers of a loaded checkpoint."""
    for wrapper in ("state_dict", "model"):
        if isinstance(value, dict) and isinstance(value.get(wrapper), dict):
            value = value[wrapper]
    if not isinstance(value, dict) or not value or any(type(name) is not str for name in value):
        raise ValueError("it does not hold named tensors")
    if all(name.startswith("module.") for name in value):  # saved from nn.DataParallel
        return {name.removeprefix("module."): entry for name, entry in value.items()}
    return value


def _view_tensors(
    entries: Mapping[str, object], storages: Mapping[str, NDArray[Any]], file_bytes: int
) -> dict[str, NDArray[Any]]:
    """View every tensor in its storage; the sum of their sizes is bounded by the file's size."""
    arrays = {}
    total = 0
    for name, entry in entries.items():
        if isinstance(entry, TensorView):
            array = _view_tensor(name, entry, storages[entry.storage.key])
        elif isinstance(entry, int) and abs(entry) < 1 << 63:
            array = np.asarray(entry)  # a counter that was stored as a plain number
        else:
            raise ValueError(f"{quote(name)} is not a tensor but {quote(entry)}")
        array.flags.writeable = False
        total += array.nbytes
        if total > _REPEAT_MAX * file_bytes:
            raise ValueError(f"its tensors repeat their storages to more than {total} bytes")
        arrays[name] = array
    return arrays


def _view_tensor(name: str, tensor: TensorView, storage: NDArray[Any]) -> NDArray[Any]:
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    if len(shape) != len(strides) or len(shape) > _NDIM_MAX or min((0, offset, *shape)) < 0:
        raise ValueError(f"the tensor {quote(name)} has the impossible shape {quote(shape)}")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if min((0, *strides)) < 0 or count > storage.size or (count > 0 and last >= storage.size):
        raise ValueError(
            f"the tensor {quote(name)} (offset {quote(offset)}, shape {quote(shape)}, strides"
            f" {quote(strides)}) reaches out of its storage of {storage.size} elements"
        )
    if count == 0:  # if the product of the sides exceeds int64, NumPy itself raises ValueError
        return np.empty(shape, storage.dtype)
    # The stride of a side of length 1 is never used and may have any value, even beyond int64.
    steps = [
        step * storage.itemsize if n > 1 else 0 for n, step in zip(shape, strides, strict=True)
    ]
    return as_strided(storage[offset:], shape, steps, writeable=False)
