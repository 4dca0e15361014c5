"""Paths of the repository's folders, and of the shared images and weights beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
TINY = ROOT / "artifacts" / "tiny"
SHARED = ROOT.parent / "shared"
WEIGHTS = SHARED / "weights"
