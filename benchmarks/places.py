"""Paths of the repository and of the results."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS_FOLDER = ROOT / "benchmarks" / "results"
