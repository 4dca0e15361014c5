"""What benchmarks/trust.py found, as a page: counts first, then every case.

results of the sections -> Markdown.
"""

from typing import Any

_ABOUT = {
    "artifacts": "Artifacts that are damaged, checksums made to fit where the damage is meant. "
    "Each must be refused in one line that names file and field, within 5 s and without growing by "
    "more than 32 MiB (files are small; a header that lies asks for gigabytes). `swap` cases with "
    "new sums and equal shapes are found by `check` alone, which must name the stage.",
    "pictures": "Bombs, damaged pictures, and strange ones that are good. Memory may grow by twice "
    "the file and the pixels it may hold, and 32 MiB.",
    "faults": "Accidents around `patchcore-build fit` (scattering network, tiny pictures): an "
    "artifact is whole or not there.",
    "use": "One artifact used by many at once, and for long.",
    "fuzz": "libFuzzer with ASan and UBSan for C++, atheris for Python.",
}


def page(results: dict[str, Any]) -> str:
    """The whole of benchmarks/trust.md."""
    rows = [row for section in results.values() for row in section["records"]]
    bad = [row for row in rows if row["wrong"]]
    crashes = [row for row in bad if "dies with" in row["wrong"] or "hangs" in row["wrong"]]
    about = (
        f"Written by `make trust`. {len(rows)} cases, {len(bad)} not as they must be, "
        f"{len(crashes)} crashes or hangs. Memory is the growth of a program's peak: of the Python "
        "runtime by the kernel's high-water mark, set back before each case; of the C++ program by "
        "its peak less that of a good run."
    )
    lines = ["# What was tried to break it", "", about, ""]
    for name, section in results.items():
        lines += _section(name, section)
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, section: dict[str, Any]) -> list[str]:
    machine = ", ".join(f"{key} {value}" for key, value in section["machine"].items())
    lines = [f"## {name.capitalize()}", "", _ABOUT[name], ""]
    lines += [f"{section['seconds']} s on {machine}; other work ran beside.", ""]
    rows = section["records"]
    if name in ("artifacts", "pictures"):
        lines += _counts(rows)
    return [*lines, *_cases(rows), ""]


def _counts(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| kind | program | cases | as they must be | slowest | most memory |"]
    lines += ["|---|---|--:|--:|--:|--:|"]
    for kind, program in dict.fromkeys((row["kind"], row["program"]) for row in rows):
        some = [row for row in rows if (row["kind"], row["program"]) == (kind, program)]
        good = sum(not row["wrong"] for row in some)
        slowest = max(row.get("seconds", 0) for row in some)
        most = max(row.get("grown_mib", 0) for row in some)
        numbers = f"{len(some)} | {good} | {slowest:.2f} s | {most:.0f} MiB"
        lines.append(f"| {kind} | {program} | {numbers} |")
    return [*lines, ""]


def _cases(rows: list[dict[str, Any]]) -> list[str]:
    """One line per case, what the programs say side by side."""
    lines = ["| kind | case | program | result |", "|---|---|---|---|"]
    for kind, case in dict.fromkeys((row["kind"], row["case"]) for row in rows):
        some = [row for row in rows if (row["kind"], row["case"]) == (kind, case)]
        said: dict[str, list[str]] = {}
        for row in some:
            words = f"**WRONG: {row['wrong']}**; {row['result']}" if row["wrong"] else row["result"]
            said.setdefault(_cell(words), []).append(row["program"])
        for words, programs in said.items():
            lines.append(f"| {kind} | {_cell(case)} | {', '.join(programs)} | {words} |")
    return lines


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
