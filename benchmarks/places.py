"""Where the repository is and where results go."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS_FOLDER = ROOT / "benchmarks" / "results"
