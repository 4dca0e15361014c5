"""Words of the MindSpore Models PatchCore work here, or one line says that they have no effect."""

import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo
from patchcore_build.cli.main import _parser, main
from places import ROOT, TINY


@pytest.fixture
def dataset(tmp_path):
    """A test set of category `stripes` with two good images, and two with a square and its mask."""
    root = tmp_path / "data"
    for folder in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (root / "stripes" / folder).mkdir(parents=True)
    for number in range(4):
        photo = striped_photo(number + 50)
        kind = "good" if number < 2 else "spot"
        if kind == "spot":
            photo[30:50, 40:70] = 255
            mask = np.zeros(photo.shape[:2], np.uint8)
            mask[30:50, 40:70] = 255
            Image.fromarray(mask).save(root / f"stripes/ground_truth/spot/{number}_mask.png")
        Image.fromarray(photo).save(root / "stripes" / "test" / kind / f"{number}.png")
    return root


def parsed(*argv):
    return _parser().parse_args([str(part) for part in argv])


def test_train_and_eval_are_fit_and_evaluate_and_help_names_them(capsys):
    old = ("--dataset_path", "d", "--category", "c", "--pre_ckpt_path", "w", "--device_id", "1")
    new = ("--dataset", "d", "--category", "c", "--weights", "w", "--device-id", "1")
    assert parsed("train", *old, "--platform", "Ascend", "--output", "o") == parsed(
        "fit", *new, "--device", "ascend", "--output", "o"
    )
    assert parsed("eval", "a", "--dataset_path", "d") == parsed("evaluate", "a", "--dataset", "d")
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "fit (train)" in said
    assert "evaluate (eval)" in said


def test_eval_prints_the_originals_figures_and_one_line_of_what_it_ignores(
    tiny_artifact, dataset, capfd
):
    command = ["eval", str(tiny_artifact), "--dataset_path", str(dataset)]
    assert main([*command, "--json"]) == 0
    told, said = capfd.readouterr()
    assert said == ""
    figures = json.loads(told)
    unused = ["--pre_ckpt_path", "w.ckpt", "--ckpt_dir", "x", "--device_id", "0", "--device_id=1"]
    assert main([*command, *unused]) == 0
    told, said = capfd.readouterr()
    image, pixel = figures["image_auroc"], figures["pixel_auroc"]
    assert f"\nimg_auc: {image:.4f}, pixel_auc: {pixel:.4f}\n" in told
    (line,) = said.splitlines()
    assert line.startswith("patchcore-build: not used here: --pre_ckpt_path (the artifact")
    assert line.count("--device_id (") == 1
    assert "--ckpt_dir (" in line
    assert "--platform" not in line


def test_export_takes_the_words_of_the_original(tmp_path, capfd):
    target = tmp_path / "PatchCore.onnx"
    command = ["export", str(TINY), "--file_format", "ONNX", "--file_name", str(target)]
    assert main([*command, "--ckpt_file", "a.ckpt", "--device_target", "Ascend"]) == 0
    told, said = capfd.readouterr()
    assert f"export: {target}" in told
    (line,) = said.splitlines()
    assert "--ckpt_file (the artifact has its network); --device_target (" in line
    assert target.is_file()


@pytest.mark.parametrize("rest", [["x.ckpt"], []])
def test_pth_path_names_the_source_of_convert_weights(rest, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    command = ["convert-weights", "--pth_path", "absent.pth", *rest]
    assert main(command) == 1
    assert "absent.pth" in capfd.readouterr().err
    target = tmp_path / (rest[0] if rest else "PatchCore_pretrain.ckpt")
    target.write_text("mine")
    assert main(command) == 1
    assert target.name in capfd.readouterr().err
    assert target.read_text() == "mine"


def test_convert_weights_needs_two_files(capfd):
    for files in ([], ["a"], ["a", "b", "c"]):
        with pytest.raises(SystemExit):
            main(["convert-weights", *files])
        expected = f"convert-weights: expected IN OUT.ckpt, got {len(files)} file"
        assert expected in capfd.readouterr().err


def test_both_names_of_the_script_are_one_script(tmp_path):
    said = [
        subprocess.run(
            ["bash", str(ROOT / "ascend310_infer" / name), *arguments],
            capture_output=True, text=True, cwd=tmp_path, check=False,
        )
        for name in ("run_infer_cpp.sh", "run_310_infer.sh")
        for arguments in ([], ["model", "data with spaces", "q", "bottle", "CPU"])
    ]  # fmt: skip
    results = [(done.returncode, done.stdout, done.stderr) for done in said]
    assert results[:2] == results[2:]
    assert results[0][0] != 0
    assert "NEED_PREPROCESS: expected y or n, got 'q'" in results[1][2]
