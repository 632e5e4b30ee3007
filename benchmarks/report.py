"""Writes the README's table of figures from benchmarks/results: ``python -m benchmarks.report``."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- figures: python -m benchmarks.report -->\n", "<!-- /figures -->\n"
SAMPLING = "test_cached_reference_engine_against_the_loops"


def table(results: dict[str, Any]) -> str:
    """The sampling figures of one machine, as Markdown."""
    machine, date = results["machine_info"], results["datetime"][:10]
    rows = [
        f"On {machine['device']} ({machine['threads']} threads, torch {machine['torch']}, {date}):",
        "",
        "| pictures at once | cached, against naive loop | against row-cropped loop |",
        "| --- | --- | --- |",
    ]
    for benchmark in results["benchmarks"]:
        name, info = benchmark["name"], benchmark["extra_info"]
        if name.startswith(SAMPLING):
            naive, cropped = (info[f"times faster than {rival}"] for rival in ("naive", "cropped"))
            samples = benchmark["param"]
            rows.append(f"| {samples} | {naive:.0f} times faster | {cropped:.0f} times faster |")
    return "\n".join(rows) + "\n"


def main() -> None:
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    files = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    tables = "\n".join(table(json.loads(file.read_text())) for file in files)
    readme.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")


if __name__ == "__main__":
    main()
