"""Writes the sections of docs/results.md anew, from the figures in docs/results.

python -m experiments NAME --out OUT
cp OUT/NAME*.json OUT/NAME*.png docs/results/
python -m docs.results
"""

import json
import re
from pathlib import Path

from experiments import EXPERIMENTS, section

PAGE = Path(__file__).parent / "results.md"
FIGURES = Path(__file__).parent / "results"


def between(name: str) -> re.Pattern[str]:
    """What of the page is an experiment's, and the marks around it."""
    marks = re.escape(f"<!-- {name}: python -m docs.results -->\n"), re.escape(f"<!-- /{name} -->")
    return re.compile(f"({marks[0]})(.*?)({marks[1]})", re.DOTALL)


def made(name: str) -> str:
    """The section of an experiment; empty where there are no figures."""
    path = FIGURES / f"{name}.json"
    return f"\n{section(name, json.loads(path.read_text()))}\n\n" if path.is_file() else ""


def page(text: str) -> str:
    """The page with every section made anew."""
    for name in EXPERIMENTS:
        text, count = between(name).subn(
            lambda found, name=name: found[1] + made(name) + found[3], text
        )
        assert count == 1, f"{PAGE} has no place for {name}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
