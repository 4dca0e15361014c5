"""Write an artifact's network as MindIR with a fixed batch, for devices that need one.

artifact -> FILE.mindir: `images` uint8 (N, H, W, 3) -> its layers. features.mindir has a free
batch; only the input's description changes. The file is loaded into MindSpore and compared with
the artifact's own before it is kept.
"""

from pathlib import Path

import numpy as np

from patchcore_build.deploy.batch import check_batch
from patchcore_build.deploy.new_files import check_new_files, new_files
from patchcore_build.errors import ExportError
from patchcore_build.export.graphs import compare_mindir
from patchcore_runtime.artifact.folder import FEATURES_MINDIR, SELFTEST_INPUT, Artifact
from patchcore_runtime.files.regular import read_regular
from patchcore_runtime.files.whole import write_whole
from patchcore_runtime.image.decode import read_image

_MOST_BYTES = 2**31 - 1


def check_mindir(artifact: Artifact) -> None:
    """Refuse an artifact without a MindIR.

    Raises:
        ExportError: the message names the field.
    """
    if artifact.manifest.features.mindir == "none":
        raise ExportError(
            f"{artifact.folder}: features.mindir: expected float32, got none, as for an int8 "
            "network and an own one; fit again without --quantize or --network"
        )


def export_fixed_mindir(artifact: Artifact, target: Path, batch: int) -> float:
    """Write the file, whole or not at all.

    Args:
        artifact: An artifact with a features.mindir.
        target: The file to write.
        batch: N, 1 to 1024.

    Returns:
        The largest relative difference of a layer from features.mindir; 0 on the same device.

    Raises:
        ExportError: the artifact has no MindIR, or MindSpore gives other layers.
        OutputError: `target` exists or cannot be written.
        SettingError: the batch is out of range.
    """
    import mindspore as ms
    from mindspore.train import mind_ir_pb2

    check_batch(batch)
    check_mindir(artifact)
    check_new_files(target)
    source = artifact.path(FEATURES_MINDIR)
    model = mind_ir_pb2.ModelProto.FromString(read_regular(source, limit=_MOST_BYTES, own=True))
    (images,) = model.graph.input
    images.tensor[0].dims[0] = batch
    pixels = np.asarray(read_image(artifact.path(SELFTEST_INPUT)))
    tile = next(artifact.manifest.grid.cut(pixels))
    tiles = np.ascontiguousarray(np.stack([np.roll(tile, at, axis=0) for at in range(batch)]))
    network = ms.nn.GraphCell(ms.load(str(source)))
    expected = [layer.asnumpy() for layer in network(ms.Tensor(tiles))]
    content = model.SerializeToString(deterministic=True)
    with new_files(target) as folder:
        path = folder / "fixed.mindir"  # MindSpore demands this suffix
        write_whole(path, content)
        gap = compare_mindir(path, tiles, expected, tolerance=0)
        path.replace(folder / target.name)
    return gap
