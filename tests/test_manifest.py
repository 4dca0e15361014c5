"""Laws of manifest.json: it survives a round trip, and every damaged field is named."""

import copy
import dataclasses
import json

import pytest

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.manifest import Manifest, Preprocessing, parse_manifest

FREE = ("config", "provenance")  # objects whose inside the runtime never decides by


@pytest.fixture(scope="session")
def document(tiny_artifact):
    return json.loads((tiny_artifact / "manifest.json").read_text(encoding="utf-8"))


def _fields(value, path=()):
    """Path of every field of the document, objects before what is in them."""
    for name, inner in value.items():
        yield (*path, name)
        if isinstance(inner, dict) and name not in FREE:
            yield from _fields(inner, (*path, name))


def _with(document, path, value):
    changed = copy.deepcopy(document)
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return changed


def _get(document, path):
    for name in path:
        document = document[name]
    return document


def _refusal(document):
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(ArtifactError) as caught:
        parse_manifest(text, "box/manifest.json")
    message = str(caught.value)
    assert message.startswith("box/manifest.json: ")
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_a_manifest_survives_writing_and_reading(document):
    manifest = parse_manifest(json.dumps(document), "here")
    again = parse_manifest(manifest.to_json(), "here")
    assert again == manifest
    assert again.to_json() == manifest.to_json()
    assert json.loads(manifest.to_json()) == document


def test_the_factory_reaches_every_field(document):
    assert [field.name for field in dataclasses.fields(Manifest)] == list(document)


def test_a_missing_field_is_named(document):
    for path in _fields(document):
        changed = copy.deepcopy(document)
        del _get(changed, path[:-1])[path[-1]]
        expected = "format" if path == ("format",) else ".".join(path)
        assert expected in _refusal(changed), path


def test_an_unknown_field_is_named_wherever_it_stands(document):
    objects = [(), *(path for path in _fields(document) if isinstance(_get(document, path), dict))]
    for path in objects:
        if path[-1:] and path[-1] in FREE:
            continue
        changed = _with(document, (*path, "surprise"), 1)
        assert f"{'.'.join((*path, 'surprise'))}: unknown field" in _refusal(changed), path


@pytest.mark.parametrize(
    "wrong", [None, True, [], {}, "", "text", 1.5, -1, 10**400], ids=lambda wrong: repr(wrong)[:9]
)
def test_a_field_of_the_wrong_type_or_far_out_of_range_is_named(document, wrong):
    for path in _fields(document):
        value = _get(document, path)
        if isinstance(value, type(wrong)) and not isinstance(value, int | float):
            continue  # any text, list or object may stand there
        if isinstance(wrong, float) and isinstance(value, float):
            continue
        if path[-1] in ("low", "level") and wrong == -1:
            continue  # a scale and a tail may begin below zero
        message = _refusal(_with(document, path, wrong))
        assert path[-1] in message or path[0] in message, (path, message)


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_know_are_refused(document, token):
    text = json.dumps(document).replace(
        f'"sigma_px": {document["scoring"]["sigma_px"]}', f'"sigma_px": {token}'
    )
    assert token in _refusal(text)


@pytest.mark.parametrize("path", [("scoring", "sigma_px"), ("config", "sigma_px_at_224")])
def test_a_number_beyond_float64_is_refused(document, path):
    value = json.dumps(_get(document, path))
    text = json.dumps(document).replace(f'"{path[-1]}": {value}', f'"{path[-1]}": 1e999')
    assert "1e999" in text
    _refusal(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("preprocess.resize", "squeeze"),
        ("preprocess.filter", "nearest"),
        ("preprocess.height", 31),
        ("preprocess.height", 65),
        ("preprocess.width", 0),
        ("preprocess.width", 97),
        ("preprocess.resize_height", 63),
        ("preprocess.resize_height", 8193),
        ("preprocess.resize_width", 8193),
        ("preprocess.resize_width", 2**40),
        ("features.layer2.channels", 0),
        ("features.layer2.channels", 2**16 + 1),
        ("features.layer2.height", 9),
        ("features.layer2.width", 11),
        ("features.layer3.height", 3),
        ("features.layer3.width", 7),
        ("features.layer3_upsampling", "bicubic"),
        ("memory_bank.rows", 0),
        ("memory_bank.rows", 2**31),
        ("memory_bank.neighbours", 0),
        ("memory_bank.neighbours", 30),
        ("memory_bank.precision", "float64"),
        ("features.precision", "float16"),
        ("index.kind", "faiss"),
        ("index.effort", 1),
        ("index.recall", 0.5),
        ("index.score_change", 0.1),
        ("index.mindir_candidates", 1025),
        ("scoring.image_score", "mean"),
        ("scoring.sigma_px", 0),
        ("scoring.sigma_px", 1024.5),
        ("calibration.images", 0),
        ("calibration.folds", 0),
        ("calibration.target_fpr", 0),
        ("calibration.target_fpr", 1),
        ("calibration.groups", 0),
        ("calibration.groups", 1000),
        ("calibration.image_threshold", 0),
        ("calibration.image_interval", [1e-9, 1e-8]),
        ("calibration.pixel_interval", [1e8, 1e9]),
        ("calibration.pixel_interval", [0.5]),
        ("calibration.pixel_threshold", 1e9),
        ("calibration.ranks", []),
        ("calibration.ranks", [0, 1, 2, 3, 4, 6]),
        ("calibration.ranks", [1, 2, 2, 3, 4, 6]),
        ("calibration.ranks", [1, 2, 3, 4, 5, 7]),
        ("calibration.ranks", [1, 2.5, 6]),
        ("calibration.image_scores.bias", 0.79),
        ("calibration.image_scores.bias", 1.01),
        ("calibration.image_scores.values", [1.0]),
        ("calibration.map_maxima.values", [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]),
        ("calibration.map_maxima.tail.share", 0),
        ("calibration.map_maxima.tail.share", 1.01),
        ("calibration.map_maxima.tail.scale", 0),
        ("calibration.map_maxima.tail.shape", -0.51),
        ("calibration.map_maxima.tail.shape", 0.51),
        ("selftest.defect_box", [28, 44, 36]),
        ("selftest.defect_box", [28, 44, 36, 52, 60]),
        ("selftest.defect_box", [28, 44, 65, 52]),
        ("selftest.defect_box", [28, 44, 36, 97]),
        ("selftest.defect_box", [-1, 44, 36, 52]),
        ("selftest.defect_box", [36, 44, 28, 52]),
        ("selftest.defect_box", [28, 44.5, 36, 52]),
        ("selftest.score_tolerance", 0),
        ("selftest.score_tolerance", 0.2),
        ("selftest.map_tolerance", 0),
        ("selftest.map_tolerance", 0.2),
        ("training.images", ["000.png", 1]),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(document, path, value):
    message = _refusal(_with(document, tuple(path.split(".")), value))
    names = {
        "preprocess.resize_height": "resize_height",
        "features.layer2.height": "features.layer2",
        "features.layer2.width": "features.layer2",
        "features.layer3.height": "features.layer3",
        "features.layer3.width": "features.layer3",
    }
    if path == "preprocess.resize_height" and value == 63:  # the height no longer fits into it
        names[path] = "preprocess.height"
    assert names.get(path, path) in message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("preprocess.resize_height", 8192),
        ("memory_bank.rows", 2**31 - 1),
        ("memory_bank.neighbours", 29),
        ("scoring.sigma_px", 1024),
        ("calibration.image_scores.bias", 0.8),
        ("calibration.map_maxima.tail.share", 1),
        ("calibration.map_maxima.tail.shape", -0.5),
        ("selftest.defect_box", [0, 0, 64, 96]),
        ("selftest.score_tolerance", 0.1),
    ],
)
def test_a_value_at_the_edge_of_its_range_is_taken(document, path, value):
    parse_manifest(json.dumps(_with(document, tuple(path.split(".")), value)), "here")


def test_one_resized_side_decides_when_the_shorter_side_is_meant():
    with pytest.raises(ValueError, match="resize_width"):
        Preprocessing(
            resize="shorter_side",
            resize_height=256,
            resize_width=320,
            filter="bilinear",
            height=224,
            width=224,
        )


@pytest.mark.parametrize("version", [0, 1, 3, -1, "2", True, None, 1.5, [1], 10**30])
def test_another_format_version_is_refused_with_what_to_do(document, version):
    message = _refusal(_with(document, ("format_version",), version))
    assert "format_version: expected 2" in message
    assert "patchcore-runtime that is as new as the artifact" in message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", '"x"', "{}", "[" * 100_000])
def test_what_is_no_manifest_is_refused(text):
    _refusal(text)


def test_a_field_given_twice_is_refused_because_readers_would_disagree(document):
    text = json.dumps(document).replace('"sigma_px":', '"sigma_px": 9.0, "sigma_px":')
    assert "sigma_px" in _refusal(text)


def test_names_beyond_ascii_survive(document):
    changed = _with(document, ("training", "category"), "Schraube Größe 4 ✓")
    manifest = parse_manifest(json.dumps(changed), "here")
    assert parse_manifest(manifest.to_json(), "here").training.category == "Schraube Größe 4 ✓"
