"""Laws of manifest.json: it survives a round trip, and every damaged field is named."""

import copy
import dataclasses
import json

import pytest

from hostile import ALSO_NAMED, FREE, LEFT_OUT, OUT_OF_RANGE, fields, get, may_stand, steps
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.manifest.manifest import Manifest, Preprocessing, parse_manifest


@pytest.fixture(scope="session")
def document(tiny_artifact):
    return json.loads((tiny_artifact / "manifest.json").read_text(encoding="utf-8"))


def _with(document, path, value):
    changed = copy.deepcopy(document)
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return changed


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
    for path in fields(document):
        if path in LEFT_OUT:
            continue
        changed = copy.deepcopy(document)
        del get(changed, path[:-1])[path[-1]]
        expected = "format" if path == ("format",) else ".".join(path)
        assert expected in _refusal(changed), path


def test_an_unknown_field_is_named_at_any_depth(document):
    objects = [(), *(path for path in fields(document) if isinstance(get(document, path), dict))]
    for path in objects:
        if path[-1:] and path[-1] in FREE:
            continue
        changed = _with(document, (*path, "surprise"), 1)
        assert f"{'.'.join((*path, 'surprise'))}: unknown field" in _refusal(changed), path


@pytest.mark.parametrize(
    "wrong", [None, True, [], {}, "", "text", 1.5, -1, 10**400], ids=lambda wrong: repr(wrong)[:9]
)
def test_a_field_of_the_wrong_type_or_far_out_of_range_is_named(document, wrong):
    for path in fields(document):
        value = get(document, path)
        if may_stand(path, value, wrong):
            continue
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
    value = json.dumps(get(document, path))
    text = json.dumps(document).replace(f'"{path[-1]}": {value}', f'"{path[-1]}": 1e999')
    assert "1e999" in text
    _refusal(text)


@pytest.mark.parametrize(("path", "value"), [*OUT_OF_RANGE, ("preprocess.resize_height", 63)])
def test_a_value_out_of_its_range_is_refused_by_name(document, path, value):
    message = _refusal(_with(document, steps(path), value))
    name = ALSO_NAMED.get(path, path)
    if path == "preprocess.resize_height" and value == 63:  # the height no longer fits into it
        name = "preprocess.height"
    assert name in message


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
    parse_manifest(json.dumps(_with(document, steps(path), value)), "here")


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


@pytest.mark.parametrize("version", [0, 1, 4, -1, "3", True, None, 1.5, [1], 10**30])
def test_another_format_version_is_refused_with_what_to_do(document, version):
    message = _refusal(_with(document, ("format_version",), version))
    assert "format_version: expected 3" in message
    assert "patchcore-runtime that is as new as the artifact" in message


def test_the_format_before_is_refused_with_the_command_that_converts_it(document):
    message = _refusal(_with(document, ("format_version",), 2))
    assert "patchcore-runtime upgrade ARTIFACT --output NEW" in message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", '"x"', "{}", "[" * 100_000])
def test_a_text_that_is_not_a_manifest_is_refused(text):
    _refusal(text)


def test_a_field_given_twice_is_refused_because_readers_would_disagree(document):
    text = json.dumps(document).replace('"sigma_px":', '"sigma_px": 9.0, "sigma_px":')
    assert "sigma_px" in _refusal(text)


def test_names_beyond_ascii_survive(document):
    changed = _with(document, ("training", "category"), "Schraube Größe 4 ✓")
    manifest = parse_manifest(json.dumps(changed), "here")
    assert parse_manifest(manifest.to_json(), "here").training.category == "Schraube Größe 4 ✓"
