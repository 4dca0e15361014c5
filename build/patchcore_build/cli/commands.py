"""The parser of `patchcore-build`: one command each to build, evaluate, sign, convert, draw.

() -> parser. Commands and options of the MindSpore Models PatchCore are also accepted in their old
spelling; those without effect here are named in one line.
Only the commands that need MindSpore import it, so `--help` is fast.
"""

import argparse
from typing import Any

from patchcore_build._version import __version__
from patchcore_build.cli.advise import add_advise_options
from patchcore_build.cli.advise import run as run_advise
from patchcore_build.cli.benchmark import add_benchmark_options
from patchcore_build.cli.benchmark import run as run_benchmark_command
from patchcore_build.cli.demo import add_demo_options
from patchcore_build.cli.demo import run as run_demo
from patchcore_build.cli.evaluate import add_evaluate_options
from patchcore_build.cli.evaluate import run as run_evaluate
from patchcore_build.cli.export import EXPORT_SUMMARY, add_export_options
from patchcore_build.cli.export import run as run_export
from patchcore_build.cli.fit import add_fit_options
from patchcore_build.cli.fit import run as run_fit
from patchcore_build.cli.import_model import IMPORT_SUMMARY, add_import_options
from patchcore_build.cli.import_model import run as run_import
from patchcore_build.cli.index import add_index_options
from patchcore_build.cli.index import run as run_index
from patchcore_build.cli.merge import MERGE_SUMMARY, add_merge_options
from patchcore_build.cli.merge import run as run_merge
from patchcore_build.cli.sign import add_sign_options
from patchcore_build.cli.sign import run as run_sign
from patchcore_build.cli.weights import add_convert_options
from patchcore_build.cli.weights import run as run_convert
from patchcore_runtime.cli.command_line import Run, add_command, new_parser

_EXAMPLES = r"""examples:
  patchcore-build fit --dataset mvtec --category bottle --weights resnet18.pth \
      --backbone resnet18 --output artifacts/bottle
  patchcore-build fit --normal good_parts/ --backbone scattering --output artifacts/part
  patchcore-build fit --dataset mvtec --category bottle --weights auto --quantize int8 \
      --output artifacts/bottle-int8
  patchcore-build fit --normal good_parts/ --backbone scattering --output artifacts/part \
      --groups '(part\d+)_' --target-fpr 0.005 --review out/part --drop-suspects auto
  patchcore-build fit --normal good_parts/ --recipe dino --weights dinov2_vits14_pretrain.pth \
      --output artifacts/part
  patchcore-build fit --normal good_parts/ --network mine.onnx --outputs stage2,stage3 \
      --output artifacts/part
  patchcore-build import anomalib model.ckpt --images good_parts/ --output artifacts/part
  patchcore-build import amazon models/mvtec_bottle --weights wide_resnet50_2.pth \
      --resize-px 256 --threshold 12.5 --pixel-threshold 9 --images good_parts/ \
      --output artifacts/part
  patchcore-build evaluate artifacts/bottle --dataset mvtec --output out/bottle
  patchcore-build export artifacts/bottle --format onnx --photo-size 900 900 --output bottle.onnx
  patchcore-build export artifacts/bottle --format triton --output models/
  patchcore-build index artifacts/bottle --kind hnsw --images held_out/ --output artifacts/fast
  patchcore-build advise artifacts/bottle --target-ms 50 --images held_out/
  patchcore-build sign artifacts/bottle --key vendor_private.pem
  patchcore-build benchmark --dataset mvtec --weights auto --seeds 0,1,2 --output out/mvtec
  patchcore-build merge artifacts/line1 artifacts/line2 --output artifacts/both
  patchcore-build convert-weights resnet18.pth resnet18.ckpt --backbone resnet18
  patchcore-build demo-data out/demo
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    description = "Build PatchCore anomaly detectors from good photographs."
    parser, commands = new_parser("patchcore-build", description, _EXAMPLES, __version__)
    summary = "build an artifact from good images"
    add_fit_options(_command(commands, "fit", run_fit, summary, "train"))
    add_import_options(_command(commands, "import", run_import, IMPORT_SUMMARY))
    summary = "evaluate an artifact on a test set"
    add_evaluate_options(_command(commands, "evaluate", run_evaluate, summary, "eval"))
    summary = "fit and evaluate every category of a data set, and write one table"
    add_benchmark_options(_command(commands, "benchmark", run_benchmark_command, summary))
    add_export_options(_command(commands, "export", run_export, EXPORT_SUMMARY))
    summary = "copy an artifact with another kind of index, and measure the index"
    add_index_options(_command(commands, "index", run_index, summary))
    add_merge_options(_command(commands, "merge", run_merge, MERGE_SUMMARY))
    summary = "recommend the best index and bank size for an artifact on this machine"
    add_advise_options(_command(commands, "advise", run_advise, summary))
    add_sign_options(_command(commands, "sign", run_sign, "sign a finished artifact"))
    summary = "convert torchvision or safetensors weights to a MindSpore checkpoint"
    add_convert_options(_command(commands, "convert-weights", run_convert, summary))
    summary = "draw a data set in MVTec AD's layout"
    add_demo_options(_command(commands, "demo-data", run_demo, summary))
    return parser


def _command(
    commands: Any, name: str, run: Run, summary: str, *aliases: str
) -> argparse.ArgumentParser:
    command = add_command(commands, name, run, summary=summary, examples=_EXAMPLES, aliases=aliases)
    command.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return command
