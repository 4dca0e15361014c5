"""Write an artifact of format 2 again as format 3: the same numbers under new names.

folder of format 2 -> a new folder. The network, the rows and the self-test are unchanged. Only
manifest.json, the header of memory_bank.bin and index.onnx are written again, so every score stays
what it was. Format 2 knew one arrangement of layers: layer2 and layer3, with patches of 8 pixels.
"""

import shutil
import struct
from pathlib import Path
from typing import Any

from patchcore_runtime._version import __version__
from patchcore_runtime.artifact.folder import (
    INDEX_ONNX,
    MANIFEST,
    MAX_TEXT_BYTES,
    MEMORY_BANK,
    SHA256SUMS,
    Artifact,
    file_digest,
    files_of,
    verify_files,
)
from patchcore_runtime.artifact.writing import check_new_folder, new_folder, seal
from patchcore_runtime.bank.memory_bank import (
    ALIGNMENT,
    MAGIC,
    BankShape,
    bank_sections,
    pack_header,
)
from patchcore_runtime.errors import ArtifactError, EditError
from patchcore_runtime.files.regular import read_regular
from patchcore_runtime.files.strict_json import build, parse_json
from patchcore_runtime.manifest.manifest import FORMAT, FORMAT_VERSION, BankPrecision, Manifest
from patchcore_runtime.search.exact_graph import write_index

_OLD_VERSION = 2
_OLD_HEADER = struct.Struct("<8sIIQIIII")  # magic, version, header size, M, C2, C3, K, bits
_OLD_PRECISIONS: dict[int, BankPrecision] = {32: "float32", 16: "float16"}
_OLD_PATCH_PX = 8
_REMADE = (MANIFEST, MEMORY_BANK, INDEX_ONNX)


def upgrade(artifact: Path, output: Path, *, public_key: Path | None = None) -> Path:
    """Write an artifact of format 2 as format 3; the old folder is only read.

    Args:
        artifact: The folder of format 2; all of its files are compared with their checksums.
        output: The folder to create.
        public_key: PEM file of the ed25519 key that must have signed the old checksums. The new
            folder is unsigned.

    Returns:
        The new folder.

    Raises:
        ArtifactError: the old folder is damaged, or not signed by that key.
        EditError: the folder has the present format already.
        OutputError: the output exists or cannot be written; nothing remains on the disk.
    """
    check_new_folder(output)
    path = artifact / MANIFEST
    if public_key is not None:
        verify_files(artifact, (MANIFEST,), public_key)
    old = _read_old(path)
    manifest: Manifest = build(Manifest, _converted(old, path, artifact), str(path))
    verify_files(artifact, files_of(manifest), public_key)
    with new_folder(output) as staging:
        for name in files_of(manifest):
            if name not in (MANIFEST, INDEX_ONNX):
                shutil.copyfile(artifact / name, staging / name)
        _replace_header(staging / MEMORY_BANK, artifact / MEMORY_BANK)
        bank = Artifact(staging, manifest).memory_bank  # reads and checks every number
        write_index(staging / INDEX_ONNX, manifest.layout, bank_sections(bank))
        seal(staging, manifest)
    return output


def _read_old(path: Path) -> dict[str, Any]:
    """Return manifest.json of format 2."""
    try:
        data = parse_json(read_regular(path, limit=MAX_TEXT_BYTES, own=True).decode("utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None
    except ValueError as error:
        raise ArtifactError(f"{path}: not JSON ({error}); copy the folder again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ArtifactError(f'{path}: expected "format": "{FORMAT}"; this is no PatchCore artifact')
    version = data.get("format_version")
    if version == FORMAT_VERSION:
        raise EditError(f"{path}: format_version: expected 2, got 3; it needs no upgrade")
    if version != _OLD_VERSION or isinstance(version, bool):
        raise ArtifactError(
            f"{path}: format_version: expected {_OLD_VERSION}, got {version!r:.40}; build the "
            "artifact again"
        )
    return data


def _converted(old: dict[str, Any], path: Path, folder: Path) -> dict[str, Any]:
    """Return the fields of format 3; those that did not change are checked by `build`."""
    try:
        features, monitoring, scoring = old["features"], old["monitoring"], old["scoring"]
        known = old["provenance"]
        layers = {name: features.pop(name) for name in ("layer2", "layer3")}
        quantiles = monitoring["quantiles"]
        squared = scoring["image_score"] == "modelzoo"
        done = known.get("edits", [])
        edit = {
            "what": "upgrade",
            "with": f"patchcore-runtime {__version__}",
            "of": file_digest(folder / SHA256SUMS),
        }
        return {
            **old,
            "format_version": FORMAT_VERSION,
            "features": {
                "mindir": "float32" if features["precision"] == "float32" else "none",
                "patch_px": _OLD_PATCH_PX,
                "layers": [
                    {"name": name, "channels": layers[name]["channels"], "stride": stride}
                    for name, stride in (("layer2", 1), ("layer3", 2))
                ],
                "upsampling": features.pop("layer3_upsampling"),
                **features,
            },
            "scoring": {
                **scoring,
                "distance": "squared" if squared else "euclidean",
                "map_upsampling": "bilinear",
                "map_border": "repeated",
            },
            "monitoring": {
                "layers": [monitoring.pop(name) for name in layers],
                **monitoring,
                "quantiles": {"layers": [quantiles.pop(name) for name in layers], **quantiles},
            },
            "provenance": {
                **known,
                "edits": [*(done if isinstance(done, list) else [done]), edit],
            },
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path}: expected the fields of format 2, got none at {error}; copy the folder again"
        ) from None


def _replace_header(target: Path, source: Path) -> None:
    """Write the header of version 3; the sections lie where they lay in version 2."""
    with target.open("r+b") as file:
        header = file.read(_OLD_HEADER.size)
        if len(header) < _OLD_HEADER.size or header[:8] != MAGIC:
            raise ArtifactError(f"{source}: expected a memory bank ({MAGIC!r}), got {header[:8]!r}")
        _, version, start, rows, *channels, neighbours, bits = _OLD_HEADER.unpack(header)
        if (version, start) != (_OLD_VERSION, ALIGNMENT) or bits not in _OLD_PRECISIONS:
            raise ArtifactError(
                f"{source}: header: expected version {_OLD_VERSION} and numbers of 32 or 16 bits, "
                f"got version {version} and {bits} bits; copy the folder again"
            )
        file.seek(0)
        file.write(pack_header(BankShape(rows, neighbours, (*channels,), _OLD_PRECISIONS[bits])))
