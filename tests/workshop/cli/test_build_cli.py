"""Laws of `patchcore-build`: exit codes, one line per refusal, help that needs no MindSpore."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from artifact_factory import striped_photo
from patchcore_build import __version__
from patchcore_build.cli.main import _parser, main

COMMANDS = (
    "fit", "import", "evaluate", "benchmark", "export", "index", "merge", "advise", "sign",
    "convert-weights", "demo-data",
)  # fmt: skip


def subparsers():
    (commands,) = (
        action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    return commands.choices


def refusal(capfd, *argv, code=1):
    """The one line on stderr of a refused command, nothing being on stdout."""
    assert main([str(part) for part in argv]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("patchcore-build: ")
    assert err.count("\n") == 1
    return err


def misuse(capfd, *argv):
    """What argparse says of a wrong command line, after its usage."""
    with pytest.raises(SystemExit) as caught:
        main([str(part) for part in argv])
    assert caught.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    return err.splitlines()[-1]


def write_test_set(root):
    for kind, seeds in (("good", (50, 51)), ("dent", (60, 61))):
        for seed in seeds:
            photo = striped_photo(seed)
            truth = np.zeros(photo.shape[:2], np.uint8)
            truth[30:50, 50:80] = 255
            if kind == "dent":
                photo[truth > 0] = (250, 20, 250)
                mask = root / "stripes" / "ground_truth" / kind / f"{seed}_mask.png"
                mask.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(truth).save(mask)
            image = root / "stripes" / "test" / kind / f"{seed}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo).save(image)
    return root


def test_there_is_a_test_for_every_command():
    commands = subparsers()
    aliases = {"train": "fit", "eval": "evaluate"}
    assert tuple(name for name in commands if name not in aliases) == COMMANDS
    assert all(commands[alias] is commands[name] for alias, name in aliases.items())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option_and_gives_examples(command):
    parser = subparsers()[command]
    text = parser.format_help()
    for action in parser._actions:
        assert action.help, f"{command} {action.option_strings or action.dest} has no help"
        assert all(option in text for option in action.option_strings)
    assert "examples:" in text
    assert f"patchcore-build {command}" in text


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], *([c, "--help"] for c in COMMANDS)]
)
def test_help_and_version_import_no_heavy_library(arguments):
    code = (
        "import sys\n"
        "from patchcore_build.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        "heavy = {'mindspore', 'onnxruntime', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (__version__ if arguments == ["--version"] else "usage:") in done.stdout


def test_that_check_can_fail():
    code = "import sys, onnxruntime; assert 'onnxruntime' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--dataset_path", "--dataset"),
        ("--device_id", "--device-id"),
        ("--pre_ckpt_path", "--weights"),
        ("--coreset_sampling_ratio", "--coreset-ratio"),
    ],
)
def test_the_original_spelling_of_an_option_means_the_same(old, new):
    rest = ["fit", "--output", "out"]
    assert _parser().parse_args([*rest, old, "1"]) == _parser().parse_args([*rest, new, "1"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "COMMAND"),
        (["polish"], "polish"),
        (["fit", "--normal", "in"], "--output"),
        (["fit", "--output", "out"], "either --dataset DIR --category NAME, or --normal DIR"),
        (["fit", "--output", "out", "--normal", "a", "--dataset", "b"], "either --dataset"),
        (["fit", "--output", "out", "--dataset", "b"], "--category"),
        (["evaluate", "artifact"], "--dataset"),
        (["convert-weights", "in.pth"], "OUT.ckpt"),
        (["convert-weights", "a", "b", "--backbone", "scattering"], "scattering"),
        (["demo-data"], "DIR"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2_and_says_what_is_wrong(capfd, argv, message):
    assert message in misuse(capfd, *argv)


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        ("--coreset-ratio", ["0", "1.01", "-1", "nan", "inf"], "coreset_ratio: expected in (0, 1]"),
        ("--folds", ["1", "51", "-3"], "folds: expected 2 to 50"),
        ("--seed", ["-1", str(2**32)], "seed: expected 0 to 2^32 - 1"),
        ("--target-fpr", ["0", "1", "nan"], "target_fpr: expected in (0, 1)"),
        ("--resize-px", ["63", "4097"], "resize_px: expected 64 to 4096"),
        ("--memory-budget-gb", ["-0.1", "nan", "inf"], "expected a number, 0 or more"),
        ("--device-id", ["-1"], "expected 0 or more"),
        ("--folds", ["two", "2.5"], "--folds: invalid int value"),
        ("--device", ["tpu"], "invalid choice: '"),
        ("--backbone", ["resnet152"], "--backbone: invalid choice"),
    ],
)
def test_a_value_out_of_range_is_exit_code_2_and_names_the_option(capfd, option, values, message):
    for value in values:
        said = misuse(capfd, "fit", "--output", "out", "--normal", "in", f"{option}={value}")
        assert message in said


def test_threads_below_one_are_exit_code_2(capfd):
    for value in ("0", "-2"):
        said = misuse(capfd, "evaluate", "a", "--dataset", "b", f"--threads={value}")
        assert "--threads: expected 1 or more" in said


def test_an_unknown_category_is_refused_before_anything_heavy_starts(tmp_path, capfd):
    (tmp_path / "bottle" / "train" / "good").mkdir(parents=True)
    said = refusal(capfd, "fit", "--dataset", tmp_path, "--category", "nut", "--output", "out")
    assert "categories here: bottle" in said


def test_evaluate_prints_the_figures_of_its_json(tmp_path, tiny_artifact, capfd):
    root = write_test_set(tmp_path)
    assert main(["evaluate", str(tiny_artifact), "--dataset", str(root), "--json"]) == 0
    out, err = capfd.readouterr()
    result = json.loads(out)
    assert err == ""
    assert result["category"] == "stripes"  # the artifact's own
    assert len(result["images"]) == 4
    assert main(["evaluate", str(tiny_artifact), "--dataset_path", str(root)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert f"image AUROC: {result['image_auroc']:.4f}" in out
    assert f"pixel AUROC: {result['pixel_auroc']:.4f}" in out


def test_evaluate_says_what_it_could_not_measure(tmp_path, tiny_artifact, capfd):
    root = write_test_set(tmp_path)
    for path in (root / "stripes" / "test" / "good").iterdir():
        path.unlink()
    assert main(["evaluate", str(tiny_artifact), "--dataset", str(root)]) == 0
    out = capfd.readouterr().out
    assert "note: stripes/test: no good images; image AUROC and F1 do not exist" in out
    assert "image AUROC: none" in out


def test_evaluate_refuses_what_is_no_artifact_and_what_is_no_test_set(
    tmp_path, tiny_artifact, own_artifact, capfd
):
    said = refusal(capfd, "evaluate", tmp_path / "none", "--dataset", tmp_path)
    assert "none: no such folder; expected a PatchCore artifact" in said
    said = refusal(capfd, "evaluate", tiny_artifact, "--dataset", tmp_path)
    assert "expected a data set (mvtec: " in said
    with (own_artifact / "memory_bank.bin").open("r+b") as file:
        file.seek(100)
        file.write(b"altered")
    said = refusal(capfd, "evaluate", own_artifact, "--dataset", write_test_set(tmp_path))
    assert "memory_bank.bin: altered" in said


def test_convert_weights_writes_a_checkpoint_and_says_where(tmp_path, capfd):
    from patchcore_build.backbone.device import open_device

    open_device()
    from patchcore_build.backbone.extractor import random_weights
    from patchcore_build.weights.read import read_weights

    weights = random_weights("resnet18", seed=0)
    source, target = tmp_path / "in.safetensors", tmp_path / "out.ckpt"
    safetensors.numpy.save_file(weights, source)
    capfd.readouterr()
    command = ["convert-weights", str(source), str(target), "--backbone", "resnet18"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {
        "checkpoint": str(target),
        "backbone": "resnet18",
    }
    again = read_weights(target)
    assert all(np.array_equal(again[name], values) for name, values in weights.items())
    said = refusal(capfd, "convert-weights", source, tmp_path / "x.ckpt", "--backbone", "resnet34")
    assert "does not fit" in said
    assert not (tmp_path / "x.ckpt").exists()


def test_demo_data_makes_a_category_once_and_never_over_another(tmp_path, capfd):
    assert main(["demo-data", str(tmp_path), "--json"]) == 0
    category = Path(json.loads(capfd.readouterr().out)["category"])
    assert category.parent == tmp_path
    assert {path.name for path in category.iterdir()} >= {"train", "test", "ground_truth"}
    assert str(category) in refusal(capfd, "demo-data", tmp_path)
    assert "expected 0 or more" in misuse(capfd, "demo-data", tmp_path, "--seed", "-1")
