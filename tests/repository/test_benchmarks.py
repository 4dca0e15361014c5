"""Pages and figures of benchmarks: ratios, verdicts, percentiles, exponents, operations, points."""

import numpy as np
import onnx
import pytest

from benchmarks.bench import page as run_page
from benchmarks.harness import figures, headlines, stored_sections, tables
from benchmarks.parity import exports
from benchmarks.peers import table as peers_table
from benchmarks.scaling import images as scaling_images
from benchmarks.scaling import page as scaling_page
from benchmarks.studies import index_kinds
from places import TINY


def record(who, seconds, *, threads=2, case="1 %", **more):
    return {"case": case, "threads": threads, "who": who, "seconds": seconds, **more}


def section(*records):
    return {"about": "About.", "measured": "today", "records": list(records)}


def target(**more):
    return headlines.Target(words="x / ours", section="fit", case="1 %", peer="x", **more)


def test_a_ratio_is_the_peers_figure_by_ours_of_the_same_case_and_threads():
    records = [
        record("ours", 2.0),
        record("x", 8.0),
        record("ours", 1.0, threads=1),
        record("x", 3.0, threads=1),
        record("x", 90.0, case="10 %"),
    ]
    assert headlines.ratio(records, target(), 2) == 4.0
    assert headlines.ratio(records, target(), 1) == 3.0


def test_a_ratio_can_be_one_of_memory_or_stand_on_another_of_our_rows_or_on_none():
    records = [
        record("ours", 2.0, peak_mb=100),
        record("ours, int8", 1.0),
        record("x", 8.0, peak_mb=250),
    ]
    assert headlines.ratio(records, target(field="peak_mb"), 2) == 2.5
    assert headlines.ratio(records, target(us="ours, int8"), 2) == 8.0
    assert headlines.ratio(records, target(us=None), 2) == 8.0


def test_what_was_not_measured_has_no_ratio_and_no_headline():
    sections = {"fit": section(record("x", 8.0))}
    assert headlines.ratio(sections["fit"]["records"], target(), 2) is None
    assert len(headlines.headlines(sections, [target()])) == 2  # the head alone


@pytest.mark.parametrize(
    ("aim", "theirs", "told"),
    [
        ({"at_least": 8}, 8.0, "≥ 8 | **8.00** | reached"),
        ({"at_least": 8}, 7.9, "≥ 8 | **7.90** | not reached"),
        ({"at_most": 1.3}, 1.3, "≤ 1.3 | **1.30** | reached"),
        ({"at_most": 1.3}, 1.4, "≤ 1.3 | **1.40** | not reached"),
        ({}, 1.4, " | **1.40** | "),
    ],
)
def test_a_headline_says_whether_the_aim_was_reached(aim, theirs, told):
    sections = {"fit": section(record("ours", 1.0), record("x", theirs))}
    lines = headlines.headlines(sections, [target(**aim)])
    assert lines[2:] == [f"| x / ours | 2 | {told} |"]


def test_every_row_of_the_peers_table_has_as_many_cells_as_its_head():
    full = record("ours", 0.01, p95=0.02, runs=3, peak_mb=10.0, note="n")
    results = {"sections": {"fit": section(full, record("x", 2.0))}}
    rows = [line for line in peers_table.page(results, []).splitlines() if "|" in line][2:]
    assert {row.count("|") for row in rows} == {11}
    assert "| x | 2.0 s |  |  | 200.00 |  |  |  |" in rows[-1]


def test_merging_replaces_the_sections_measured_now_and_keeps_the_others():
    old = {"sections": {"fit": section(record("ours", 1.0)), "search": section()}}
    new = {"sections": {"fit": section(record("ours", 2.0))}}
    merged = stored_sections.merged(old, new)
    assert merged["sections"]["fit"] == new["sections"]["fit"]
    assert merged["sections"]["search"] == old["sections"]["search"]
    assert old["sections"]["fit"]["records"][0]["seconds"] == 1.0


def test_a_stored_section_stands_in_both_files_beside_the_former_ones(tmp_path):
    path = tmp_path / "results.json"
    for name in ("fit", "search"):
        stored_sections.store(path, name, section(), lambda results: ",".join(results["sections"]))
    assert list(stored_sections.load(path)["sections"]) == ["fit", "search"]
    assert path.with_suffix(".md").read_text() == "fit,search"


def test_a_row_with_another_number_of_cells_than_the_head_is_refused():
    with pytest.raises(ValueError, match="expected 2 cells"):
        tables.table(["a", "b"], [["1"]])


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1, 100), (0.001, 1)]
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(share, expected):
    values = np.random.default_rng(0).permutation(np.arange(1, 101)).tolist()
    assert figures.percentile(values, share) == expected


def test_a_99th_percentile_needs_a_hundred_runs_and_a_95th_two():
    assert set(figures.spread([1.0] * 100)) == {"seconds", "runs", "p95", "p99"}
    assert set(figures.spread([1.0] * 99)) == {"seconds", "runs", "p95"}
    assert figures.spread([1.0]) == {"seconds": 1.0, "runs": 1}


def test_the_exponent_of_a_power_is_found_and_of_one_point_there_is_none():
    sizes = [50, 100, 1000]
    assert figures.exponent(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert figures.exponent([50], [1.0]) is None


def test_an_estimate_goes_on_as_between_the_last_two_points():
    assert figures.estimate([(1, 99.0), (2, 4.0), (4, 16.0)], 8) == pytest.approx(64.0)
    assert figures.estimate([(1, 2.0)], 8) is None


def convolution(tmp_path, *, groups=1):
    """An input (B, 6, 8, 8) -> 4 channels of 3 x 3 at stride 2, then Gemm with 5 columns."""
    helper = onnx.helper
    weights = [
        onnx.numpy_helper.from_array(np.zeros((4, 6 // groups, 3, 3), np.float32), "kernel"),
        onnx.numpy_helper.from_array(np.zeros((5, 64), np.float32), "matrix"),
    ]
    nodes = [
        helper.make_node(
            "Conv", ["images", "kernel"], ["c"], strides=[2, 2], pads=[1] * 4, group=groups
        ),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("Gemm", ["f", "matrix"], ["out"], transB=1),
    ]
    value = helper.make_tensor_value_info
    inputs = [value("images", onnx.TensorProto.FLOAT, ["B", 6, 8, 8])]
    outputs = [value("out", onnx.TensorProto.FLOAT, ["B", 5])]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, weights))
    onnx.save(model, tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


@pytest.mark.parametrize("groups", [1, 2])
def test_operations_are_two_per_multiplication_of_every_output_of_one_image(tmp_path, groups):
    expected = 2 * (4 * 4 * 4) * (6 // groups * 9) + 2 * 5 * 64
    gflop = figures.graph_gflop(convolution(tmp_path, groups=groups))
    assert gflop == pytest.approx(expected / 1e9)


def test_operations_of_a_search_are_those_of_both_layers_with_every_row_and_of_upsampling():
    rows, side, channels2, channels3 = 38, 8, 8, 12
    patches = side * side
    products = rows * (patches * channels2 + patches // 4 * channels3)
    # Both sides of the grid, of layer3's products with every row and of layer3 itself.
    upsampling = (rows + channels3) * (patches // 2 + patches) * (side // 2)
    expected = 2 * (products + upsampling)
    assert figures.graph_gflop(TINY / "index.onnx") == pytest.approx(expected / 1e9)


def test_work_is_held_against_the_best_product_with_as_many_threads():
    records = [
        {"case": "product", "threads": 2, "who": who, "gflops": gflops}
        for who, gflops in (("NumPy", 90.0), ("onnxruntime", 100.0))
    ]
    records.append(record("features", 0.1, case="resnet18, 1 %", gflop=5.0, p99=0.3))
    results = {"sections": {"score": section(*records)}}
    row = run_page.page(results).splitlines()[-1]
    assert row.endswith("| features | 100.0 ms |  | 300.0 ms |  | 5.00 | 50 | 50% |")


def test_the_page_of_scaling_has_every_point_and_the_exponents_below():
    stages = dict.fromkeys(("features", "projection", "coreset", "calibration"), 1.0)
    points = [
        {
            "at": count, "images": count, "rows": count, "folds": 2, "measured": "today; load 1",
            "seconds": count**2, "peak_mb": 500, "anonymous_mb": 400, "budget_gb": 2,
            "imports_mb": 300, "stages": stages,
        }
        for count in (100, 1000)
    ]  # fmt: skip
    lines = scaling_page.page({"sections": {"images": {"records": points}}}).splitlines()
    assert [line.split("|")[1].strip() for line in lines[-3:]] == ["100", "1,000", "exponent"]
    assert [cell.strip() for cell in lines[-1].split("|")][2:8] == ["1.00", *["0.00"] * 4, "2.00"]


def test_varied_images_differ_are_seeded_and_keep_those_that_are_there(tmp_path):
    folder = tmp_path / "a"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "one.png").write_bytes((TINY / "selftest.png").read_bytes())
    for count in (3, 5):
        scaling_images.write_variations(tmp_path / "source", folder, count)
    again = scaling_images.write_variations(tmp_path / "source", tmp_path / "b", 5)
    images = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert images == [path.read_bytes() for path in sorted(again.iterdir())]
    assert len(set(images)) == 5
    linked = scaling_images.link_first(folder, tmp_path / "first", 2)
    assert sorted(path.name for path in linked.iterdir()) == ["000000.jpg", "000001.jpg"]


def kind_record(index, *, flat=1.0, exact=1.0, change=0.0, effort=0):
    return {
        "index": index, "effort": effort, "rows": 100, "megabytes": 1.0, "built_s": 1.0,
        "search_ms": 5.0, "times_exact": exact, "times_flat": flat, "auroc": 0.9 + change,
        "auroc_change": change, "largest_score_change": 0.1, "mean_score_change": 0.01,
        "recall": 0.99,
    }  # fmt: skip


def test_the_verdict_on_graphs_takes_the_fastest_that_keeps_auroc():
    exact = kind_record("exact", flat=2.0)
    fast = kind_record("hnsw", flat=9.0, exact=4.5, change=-0.0021, effort=16)
    near = kind_record("hnsw", flat=3.1, exact=1.5, change=-0.002, effort=64)
    slow = kind_record("hnsw", flat=1.6, exact=0.8, effort=128)
    assert "0.002: reached, 3.10 at ef 64;" in index_kinds.verdict([exact, fast, near, slow])
    losing = index_kinds.verdict([exact, fast, slow])
    assert "not reached, 1.60 at ef 128; the exact search is 2.00 times as fast" in losing
    assert losing.endswith("0.80 times as fast as exact; exact wins.")
    assert index_kinds.verdict([exact, fast]).startswith("Every hnsw changes AUROC")


def test_every_kind_stands_on_the_page_with_as_many_cells_as_the_head():
    records = [kind_record(kind) for kind in ("exact", "faiss-flat", "hnsw")]
    case = {"case": "c", "training_images": 2, "test_images": 3, "records": records}
    text = index_kinds.page({"command": "x", "machine": {"date": "today"}, "tables": [case]})
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 5
    assert {row.count("|") for row in rows} == {len(index_kinds.HEAD) + 1}


def test_the_largest_difference_of_an_export_is_relative_and_counts_verdicts():
    heat = np.array([[1.0, 4.0]], np.float32)
    own = [(2.0, True, heat), (1.0, False, heat)]
    gaps = exports._gaps([(2.0, True, heat), (1.1, True, heat + np.float32(0.4))], own)
    assert gaps == {
        "images": 2, "score": pytest.approx(0.1), "map": pytest.approx(0.1), "verdicts": 1,
    }  # fmt: skip
    one = {"export": "input", "bytes": 2_500_000, "engine": "web", "ms": 7.0, "detector_ms": None}
    page = exports.page({"sections": {"paper": {"measured": "today", "records": [one | gaps]}}})
    assert "| paper | input | 2.5 | web | 1.0e-01 | 1.0e-01 | 1 of 2 | 7.0 |  |" in page
    assert page.count("<!-- table -->") == 1  # docs/how-to/export.md shows what follows
