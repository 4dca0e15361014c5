"""The findings of `make trust` as a page: counts first, then every case.

results of the sections -> Markdown.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks.harness.tables import table

ABOUT = {
    "artifacts": "Artifacts that are damaged, checksums made to fit where the damage is meant. "
    "Each must be refused in one line that names file and field, within 5 s and without growing by "
    "more than 32 MiB (files are small; a header that lies asks for gigabytes). `swap` cases with "
    "new sums and equal shapes are found by `check` alone, which must name the stage.",
    "images": "Bombs, damaged images, and strange ones that are good. Memory may grow by twice "
    "the file and the pixels it may hold, and 32 MiB.",
    "faults": "Accidents around `patchcore-build fit` (scattering network, tiny images): an "
    "artifact is whole or not there.",
    "injected": "The n-th call of a kind fails, in commands on small inputs: `write` with ENOSPC "
    "to files, `print` with ENOSPC on standard output, `rename` and `fsync` with EIO, `open` with "
    "ENOSPC for writing, `malloc` with ENOMEM of 64 kB or more. The law: files are old or new, "
    "whole, and no other file is left; one line says why; the exit code is 0 or 1; each image of "
    "`score` and `monitor` has its line. The fit has a small network in place of MindSpore's.",
    "use": "One artifact used by many at once, and for long.",
    "compared": "Mutated files are judged by two readers. Both must accept a file or both refuse "
    "it; bytes that onnx writes again, and pixels of images, must be equal.",
    "fuzz": "Mutated files are read by one reader: in C++ with libFuzzer, ASan and UBSan, in "
    "Python with atheris where the table says `guided by coverage`, else by blind mutation.",
}


def page(results: Mapping[str, Any]) -> str:
    """Return the whole of benchmarks/results/trust.md."""
    sections = results["sections"]
    rows = [row for section in sections.values() for row in section["records"]]
    bad = [row for row in rows if row["wrong"]]
    crashes = [row for row in bad if "dies with" in row["wrong"] or "hangs" in row["wrong"]]
    about = (
        f"Written by `make trust`. {len(rows)} cases, {len(bad)} not as they must be, "
        f"{len(crashes)} crashes or hangs. Memory is the growth of a program's peak: of the Python "
        "runtime by the kernel's high-water mark, set back before each case; of the C++ program by "
        "its peak less that of a good run."
    )
    lines = ["# What was tried to break it", "", about, ""]
    for name in (name for name in ABOUT if name in sections):
        section = sections[name]
        lines += [f"## {name.capitalize()}", "", section["about"], "", section["measured"], ""]
        if name in ("artifacts", "images"):
            lines += [*_counts(section["records"]), ""]
        lines += [*_cases(section["records"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _counts(records: list[dict[str, Any]]) -> list[str]:
    rows = []
    for kind, program in dict.fromkeys((row["kind"], row["program"]) for row in records):
        some = [row for row in records if (row["kind"], row["program"]) == (kind, program)]
        good = sum(not row["wrong"] for row in some)
        slowest = max(row.get("seconds", 0) for row in some)
        most = max(row.get("grown_mib", 0) for row in some)
        figures = [str(len(some)), str(good), f"{slowest:.2f} s", f"{most:.0f} MiB"]
        rows.append([kind, program, *figures])
    head = ["kind", "program", "cases", "as they must be", "slowest", "most memory"]
    return table(head, rows, left=(0, 1))


def _cases(records: list[dict[str, Any]]) -> list[str]:
    """Return one line per case and answer; programs with equal answers share it."""
    said: dict[tuple[str, str, str], list[str]] = {}
    for row in records:
        words = f"**WRONG: {row['wrong']}**; {row['result']}" if row["wrong"] else row["result"]
        said.setdefault((row["kind"], row["case"], words), []).append(row["program"])
    rows = [
        [kind, _cell(case), ", ".join(programs), _cell(words)]
        for (kind, case, words), programs in said.items()
    ]
    return table(["kind", "case", "program", "result"], rows, left=range(4))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
