"""Laws of the canonical form of MindIR."""

import re

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops
from mindspore.train import mind_ir_pb2

from patchcore_build.backbone.device import open_device
from patchcore_build.errors import ExportError
from patchcore_build.export.mindir import canonical, mind_ir_version

SHAPE = (None, 16, 16, 3)


class TwoLayers(nn.Cell):
    """A convolution, a normalisation and a residual sum: parameters, constants, two outputs."""

    def __init__(self, seed=0):
        super().__init__()
        weight = np.random.default_rng(seed).standard_normal((3, 3, 3, 3)).astype(np.float32)
        self.conv = nn.Conv2d(3, 3, 3, pad_mode="pad", padding=1, weight_init=ms.Tensor(weight))
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU()
        self.cast = ops.Cast()
        self.transpose = ops.Transpose()
        self.mean = ms.Tensor(np.float32([1, 2, 3]).reshape(1, 3, 1, 1))

    def construct(self, images):
        """Two layers of one size."""
        x = self.transpose(self.cast(images, ms.float32), (0, 3, 1, 2)) - self.mean
        first = self.relu(self.norm(self.conv(x)))
        return first, self.relu(first + x)


def raw_export(folder, seed=0):
    path = folder / "raw.mindir"
    cell = TwoLayers(seed).set_train(False)
    ms.export(
        cell, ms.Tensor(shape=SHAPE, dtype=ms.uint8), file_name=str(path), file_format="MINDIR"
    )
    content = path.read_bytes()
    path.unlink()
    return content


def parsed(content):
    model = mind_ir_pb2.ModelProto()
    model.ParseFromString(content)
    return model


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    open_device()
    return raw_export(tmp_path_factory.mktemp("raw"))


def shuffled(content, seed):
    """The same network, otherwise named and ordered, with a dead node and an idle primitive."""
    model, rng = parsed(content), np.random.default_rng(seed)
    graph = model.graph
    ready = {value.name for value in [*graph.input, *graph.parameter]}
    waiting, order = list(graph.node), []
    while waiting:
        possible = [node for node in waiting if ready.issuperset(node.input)]
        node = possible[rng.integers(len(possible))]
        waiting.remove(node)
        order.append(node)
        ready.update(node.output)
    fresh = {}
    for node in order:
        colon = ":" in node.output[0]
        fresh[node.output[0]] = f"{graph.name}:x{rng.random()}:7" if colon else f"c{rng.random()}"
    dead = mind_ir_pb2.NodeProto(op_type="Constant", output=["dead"], name="dead")
    copies = [mind_ir_pb2.NodeProto.FromString(node.SerializeToString()) for node in order]
    for node in copies:
        node.input[:] = [fresh.get(name, name) for name in node.input]
        node.output[0] = node.name = fresh[node.output[0]]
        node.attribute.sort(key=lambda _: rng.random())
    del graph.node[:]
    graph.node.extend([dead, *copies])
    for output in graph.output:
        output.name = fresh[output.name]
    for repeated in (graph.parameter, graph.attribute, model.primitives):
        repeated.sort(key=lambda _: rng.random())
    model.primitives.add(name="Idle:1", op_type="Idle")
    for primitive in model.primitives:
        primitive.attribute.sort(key=lambda _: rng.random())
    return model.SerializeToString()


def test_raw_exports_of_one_network_differ_and_their_canonical_forms_do_not(raw, tmp_path):
    again = raw_export(tmp_path)
    assert again != raw
    assert canonical(again) == canonical(raw)


@pytest.mark.parametrize("seed", range(5))
def test_names_and_order_do_not_reach_the_canonical_form(raw, seed):
    assert shuffled(raw, seed) != raw
    assert canonical(shuffled(raw, seed)) == canonical(raw)


def test_the_order_of_named_attributes_does_not_reach_the_canonical_form(raw):
    forms = set()
    for names in ("az", "za"):
        model = parsed(raw)
        for node in model.graph.node:
            for attributes in (node.attribute, node.node_attr, node.primal_attr):
                for name in names:
                    attributes.add(name=name)
        forms.add(canonical(model.SerializeToString()))
    assert len(forms) == 1


def test_a_canonical_file_is_its_own_canonical_form(raw):
    assert canonical(canonical(raw)) == canonical(raw)


def test_other_weights_have_other_canonical_forms(raw, tmp_path):
    assert canonical(raw_export(tmp_path, seed=1)) != canonical(raw)


@pytest.mark.parametrize("batch", [1, 3])
def test_canonical_files_load_and_compute_the_very_same_bits(raw, tmp_path, batch):
    path = tmp_path / "canonical.mindir"
    path.write_bytes(canonical(raw))
    images = np.random.default_rng(batch).integers(0, 256, (batch, *SHAPE[1:]), dtype=np.uint8)
    loaded = nn.GraphCell(ms.load(str(path)))(ms.Tensor(images))
    original = TwoLayers().set_train(False)(ms.Tensor(images))
    for got, expected in zip(loaded, original, strict=True):
        assert np.array_equal(got.asnumpy(), expected.asnumpy())


def test_inputs_and_parameters_keep_their_own_names(raw):
    graph = parsed(canonical(raw)).graph
    assert [value.name for value in graph.input] == ["features:images"]
    names = {value.name.removeprefix("features:") for value in graph.parameter}
    assert names == set(TwoLayers().parameters_dict())


def test_no_clock_reading_nor_address_is_left(raw):
    assert re.search(rb"\d{16}", raw)
    assert not re.search(rb"\d{9}", re.sub(rb"[^ -~]", b" ", canonical(raw)))


def test_the_version_names_format_and_producer(raw, tmp_path):
    path = tmp_path / "features.mindir"
    path.write_bytes(canonical(raw))
    assert mind_ir_version(path) == f"3 (MindSpore {ms.__version__})"


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"not a model", bytes(100)])
def test_other_bytes_are_refused(content, tmp_path):
    path = tmp_path / "features.mindir"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=r"features\.mindir: expected MindIR"):
        mind_ir_version(path)
    with pytest.raises(ExportError, match="MindIR model: expected MindIR"):
        canonical(content)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"absent\.mindir: cannot be read"):
        mind_ir_version(tmp_path / "absent.mindir")


def _with_function(model):
    model.functions.add(name="branch")


def _with_outside_parameter(model):
    model.graph.parameter[0].external_data.location = "../elsewhere"


def _with_unknown_node(model):
    model.graph.node[0].op_type = "Call::branch"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_with_function, "1 functions"),
        (_with_outside_parameter, "1 parameters outside the file"),
        (_with_unknown_node, "1 unknown node kinds"),
    ],
)
def test_what_is_not_one_flat_graph_is_refused(raw, change, told):
    model = parsed(raw)
    change(model)
    with pytest.raises(ExportError, match=f"expected one flat graph .* got {told}"):
        canonical(model.SerializeToString())
