"""Files of anomalib and patchcore-inspection, assembled without either library.

Settings -> the bytes of a Lightning .ckpt, of a Torch export .pt, or a folder of amazon's. Every
part may be replaced, so that tests can make files that a reader must refuse.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_files import Parts, mapping, name, number, text, tuple_of, whole, zip_file

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SPEC = "torchvision.transforms.v2"
NETWORK = "model.feature_extractor.feature_extractor."
Arrays = Mapping[str, NDArray[Any]]


def plain(value: Any) -> bytes:
    """Return the opcodes of a plain value; bytes are opcodes already."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, dict):
        pairs = b"".join(text(key) + plain(item) for key, item in value.items())
        return b"}(" + pairs + b"u"
    writers: dict[type, Callable[[Any], bytes]] = {
        bytes: lambda opcodes: opcodes,
        str: text,
        int: number,
        float: lambda number: b"G" + struct.pack(">d", number),
        tuple: lambda items: tuple_of(*map(plain, items)),
        list: lambda items: b"](" + b"".join(map(plain, items)) + b"e",
    }
    return writers[type(value)](value)


def record(dotted: str, state: Mapping[str, Any]) -> bytes:
    """Return the opcodes of an object of a class, with its attributes."""
    module, _, attribute = dotted.rpartition(".")
    return name(module, attribute) + b")\x81" + plain(state) + b"b"


def state_dict(network: Arrays, bank: NDArray[Any], **numbers: float) -> dict[str, NDArray[Any]]:
    """Return the state dict of anomalib's PatchCore; numbers are those of the post-processor."""
    values = {
        "_image_threshold": 2.0,
        "_pixel_threshold": np.nan,
        "image_min": 1.0,
        "image_max": 4.0,
        "pixel_min": 0.5,
        "pixel_max": 4.5,
    } | numbers
    arrays = {f"post_processor.{key}": np.array(value, "<f4") for key, value in values.items()}
    arrays |= {f"{NETWORK}{key}": array for key, array in network.items()}
    arrays["model.memory_bank"] = bank
    arrays["model.anomaly_map_generator.blur.kernel"] = np.full((1, 1, 33, 33), 1 / 33**2, "<f4")
    return arrays


def specs(size: Any = (256, 256), crop: Any = None, **resize: Any) -> dict[str, Any]:
    """Return the configuration of a pre-processor as anomalib 2.7 stores it."""
    settings = {"size": list(size), "interpolation": "bilinear", "antialias": True} | resize
    steps = [("Resize", settings)]
    if crop:
        steps.append(("CenterCrop", {"size": list(crop)}))
    steps.append(("Normalize", {"mean": MEAN, "std": STD}))
    parts = [{"class_path": f"{SPEC}.{kind}", "init_args": given} for kind, given in steps]
    compose = {"class_path": f"{SPEC}.Compose", "init_args": {"transforms": parts}}
    return {"transform": compose}


def settings(**changes: Any) -> dict[str, Any]:
    """Return the hyper-parameters of anomalib's PatchCore."""
    return {
        "backbone": "resnet18",
        "layers": ["layer2", "layer3"],
        "pre_trained": False,
        "coreset_sampling_ratio": 0.1,
        "num_neighbors": 9,
        "precision": name("anomalib", "PrecisionType") + tuple_of(text("float32")) + b"R",
    } | changes


def checkpoint(arrays: Arrays, **parts: Any) -> bytes:
    """Return a Lightning checkpoint of anomalib 2.7; `parts` replace top-level entries."""
    keys = {label: str(place) for place, label in enumerate(arrays)}
    state = mapping({label: whole(keys[label], array) for label, array in arrays.items()})
    entries = {
        "epoch": 0,
        "state_dict": state,
        "hyper_parameters": settings(),
        "anomalib_components_enabled": {"pre_processor": True, "post_processor": True},
        "anomalib_pre_processor_config": specs(),
        "anomalib_post_processor_config": {"enable_normalization": True, "image_sensitivity": 0.5},
    } | parts
    value = plain({key: entry for key, entry in entries.items() if entry is not ...})
    return _zip(value, keys, arrays)


def export(arrays: Arrays, *, kind: str = "Patchcore", **changes: Any) -> bytes:
    """Return a Torch export: the module itself, whose submodules hold the arrays.

    `changes` replace attributes of the post-processor.
    """
    keys = {label: str(place) for place, label in enumerate(arrays)}
    tree: dict[str, Any] = {}
    for label, array in arrays.items():
        *modules, leaf = label.split(".")
        branch = tree
        for module in modules:
            branch = branch.setdefault(module, {})
        branch[leaf] = whole(keys[label], array)
    compose = specs()["transform"]["init_args"]["transforms"]
    steps = [
        record(f"{SPEC}._geometry.{part['class_path'].rpartition('.')[2]}", part["init_args"])
        for part in compose
    ]
    pipeline = record(f"{SPEC}._container.Compose", {"transforms": steps, "_modules": {}})
    own = {
        "": {},
        "pre_processor": {},
        "post_processor": {"image_sensitivity": 0.5, "pixel_sensitivity": 0.5} | changes,
        "model": settings(),
    }
    tree["pre_processor"] = {"transform": pipeline}
    package = "anomalib.models.image.patchcore.lightning_model"
    module = _module(f"{package}.{kind}", tree, own, "")
    return _zip(plain({"model": module}), keys, arrays)


def _module(kind: str, tree: Mapping[str, Any], own: Mapping[str, Any], path: str) -> bytes:
    buffers, modules = {}, {}
    for key, part in tree.items():
        if not isinstance(part, dict):
            (modules if key == "transform" else buffers)[key] = part
        else:
            below = f"{path}.{key}" if path else key
            modules[key] = _module("torch.nn.modules.module.Module", part, own, below)
    state = {"training": True, "_parameters": {}, "_buffers": buffers, "_modules": modules}
    return record(kind, state | dict(own.get(path, {})))


def _zip(value: bytes, keys: Mapping[str, str], arrays: Arrays) -> bytes:
    raw = {keys[label]: array.tobytes() for label, array in arrays.items()}
    counts = {keys[label]: array.size for label, array in arrays.items()}
    return zip_file(Parts(value, raw, counts))


def amazon_folder(folder: Path, rows: NDArray[np.float32], **changes: Any) -> Path:
    """Write a folder of patchcore-inspection; `changes` replace parameters (... leaves one out)."""
    parameters = {
        "backbone.name": "resnet18",
        "layers_to_extract_from": ["layer2", "layer3"],
        "input_shape": (3, 64, 64),
        "pretrain_embed_dimension": rows.shape[1],
        "target_embed_dimension": rows.shape[1],
        "patchsize": 3,
        "patchstride": 1,
        "anomaly_scorer_num_nn": 1,
    } | changes
    kept = {key: value for key, value in parameters.items() if value is not ...}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "patchcore_params.pkl").write_bytes(pickle.dumps(kept, pickle.HIGHEST_PROTOCOL))
    (folder / "nnscorer_search_index.faiss").write_bytes(flat_index(rows))
    return folder


def flat_index(rows: NDArray[np.float32], fourcc: bytes = b"IxF2") -> bytes:
    """Return an IndexFlatL2 as faiss's `write_index` writes it."""
    count, size = rows.shape
    head = struct.pack("<4siqqqBiQ", fourcc, size, count, 1 << 20, 1 << 20, 1, 1, count * size)
    return head + rows.astype("<f4").tobytes()
