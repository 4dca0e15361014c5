"""Each line and promise of the threat model names the tests that hold it, and these exist."""

import ast
import re
from functools import cache

import pytest

from places import ROOT

MODEL = ROOT / "docs" / "explanation" / "threat-model.md"
SECURITY = ROOT / "SECURITY.md"

NETWORK, OPENING = "runtime/engine/test_network.py", "repository/test_opening.py"
IMAGE, ANSWER = "runtime/image/test_preprocess.py", "runtime/image/test_one_answer.py"
HOSTILE, PRIVATE = "contract/test_hostile.py", "runtime/artifact/test_private.py"
SIGNATURE, INJECTED = "runtime/artifact/test_signature.py", "contract/test_injected_faults.py"
DAMAGED = f"{HOSTILE}::test_every_damaged_artifact_is_refused_with_file_and_field"
VERDICTS = "cpp/test_cpp_verdicts.py::test_both_programs_give_the_same_verdict_about_damaged_files"
BOMBS = f"{HOSTILE}::test_bombs_are_refused_or_read_in_little_memory"
PICKLE = (
    "workshop/weights/test_torch_checkpoint.py"
    "::test_a_pickle_that_runs_code_is_refused_and_runs_nothing"
)
LINKS = f"{PRIVATE}::test_a_link_out_of_the_folder_is_refused_for_every_file"
LIMIT = f"{PRIVATE}::test_a_file_above_the_limit_is_not_read"
PIPES = f"{PRIVATE}::test_a_pipe_as_state_file_or_image_is_refused_at_once"
FAULTS = f"{INJECTED}::test_whatever_call_fails_files_are_old_or_new_and_one_line_says_why"

HELD_BY = {
    "image": (
        BOMBS,
        f"{IMAGE}::test_a_header_that_promises_too_many_pixels_is_refused_undecoded",
        f"{ANSWER}::test_an_elongated_image_is_refused_before_a_pixel_is_decoded",
        f"{HOSTILE}::test_a_jpeg_may_have_a_hundred_scans",
        f"{IMAGE}::test_formats_outside_the_list_are_refused_even_under_a_good_name",
        f"{IMAGE}::test_a_pipe_is_refused_without_blocking",
        "cpp/test_cpp_images.py::test_both_programs_read_the_same_mutated_images_or_refuse_them",
    ),
    "`manifest.json`": (
        DAMAGED,
        VERDICTS,
        (
            "runtime/files/test_strict_json.py"
            "::test_too_many_values_are_refused_before_anything_is_parsed"
        ),
        "runtime/files/test_strict_json.py::test_depth_is_limited",
        (
            "runtime/files/test_strict_json.py"
            "::test_twice_as_many_names_take_twice_as_many_comparisons_until_the_last_is_refused"
        ),
        "runtime/manifest/test_manifest.py::test_an_unknown_field_is_named_at_any_depth",
    ),
    "`memory_bank.bin`": (
        DAMAGED,
        "runtime/bank/test_memory_bank.py::test_a_wrong_header_is_refused_without_allocating",
    ),
    "`features.onnx`": (
        VERDICTS,
        f"{NETWORK}::test_a_node_that_no_workshop_writes_is_refused",
        f"{NETWORK}::test_what_is_accepted_is_what_onnx_reads_and_writes",
        f"{NETWORK}::test_a_model_that_is_read_is_written_again_to_the_byte",
    ),
    "`index.onnx`": (
        DAMAGED,
        (
            "runtime/engine/test_onnx_file.py"
            "::test_the_golden_index_is_written_again_to_the_byte_and_onnx_reads_it_alike"
        ),
    ),
    "`index.hnsw`, `index.faiss`": (
        (
            "runtime/search/test_hnsw_index.py"
            "::test_every_number_that_could_lead_out_of_the_graph_is_refused"
        ),
        (
            "runtime/search/test_faiss_index.py"
            "::test_every_number_that_could_lead_out_of_the_file_is_refused"
        ),
    ),
    "any file": (
        f"{OPENING}::test_only_the_opener_and_named_exceptions_open_files",
        f"{OPENING}::test_only_the_opener_opens_files_in_cpp",
        LINKS,
        LIMIT,
        PIPES,
    ),
    "a name": (
        "runtime/cli/test_names.py::test_every_legal_name_gets_its_row_its_files_and_its_cell",
    ),
    "weights": (PICKLE,),
    "a data set's folder names": (
        "workshop/report/test_report.py::test_names_that_are_markup_are_shown_and_not_obeyed",
    ),
    # SECURITY.md
    "artifact": (DAMAGED, VERDICTS),
    "files in general": (LINKS, LIMIT, PIPES),
}
# The beginnings of sentences outside of the tables.
PROMISES = {
    "`--private`, or": (
        f"{PRIVATE}::test_a_private_detector_does_not_see_later_changes_of_the_folder",
        f"{PRIVATE}::test_a_private_copy_is_always_verified",
    ),
    "Nothing in an artifact is a pickle": (PICKLE, DAMAGED),
    "A program never writes to an artifact": (FAULTS,),
    "Files appear whole or not at all": (FAULTS,),
    "that no byte has changed since": (
        f"{SIGNATURE}::test_an_altered_file_with_sums_made_to_fit_is_refused",
    ),
    "With a public key the manifest is verified": (
        f"{SIGNATURE}::test_a_missing_or_malformed_signature_is_refused",
        f"{PRIVATE}::test_info_takes_a_key_and_refuses_what_it_did_not_sign",
    ),
    "A result of `learn`, `forget` or `merge` is unsigned": (
        f"{PRIVATE}::test_an_edit_of_a_signed_artifact_says_that_the_result_is_not_signed",
    ),
    "The programs bound memory, not time": (BOMBS,),
}


def rows(path):
    """Return the first cells of the tables of inputs in a document."""
    text = path.read_text(encoding="utf-8")
    tables = re.findall(r"^\| input \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [line.split("|")[1].strip() for table in tables for line in table.splitlines()]


@cache
def functions_of(name):
    """Return the tests in a file."""
    tree = ast.parse((ROOT / "tests" / name).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", [MODEL, SECURITY], ids=lambda path: path.name)
def test_every_hostile_input_of_a_document_is_held_by_tests(path):
    listed = rows(path)
    assert len(listed) >= 4
    assert set(listed) <= HELD_BY.keys()


def test_no_line_is_held_that_no_document_has():
    assert HELD_BY.keys() == {*rows(MODEL), *rows(SECURITY)}


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_that_is_held_is_made(promise):
    text = " ".join(MODEL.read_text(encoding="utf-8").split())
    assert promise in text


@pytest.mark.parametrize("held", [*HELD_BY, *PROMISES])
def test_every_test_of_the_threat_model_exists(held):
    for test in {**HELD_BY, **PROMISES}[held]:
        name, _, function = test.partition("::")
        assert function in functions_of(name), test
