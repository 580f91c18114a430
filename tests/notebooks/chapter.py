"""What a chapter must be, as a list of what is wrong with one."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Notebook = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
SETUP = 'from qlib import QPublisher, QSubscriber, lab\nlab.up(fresh="orders")'
GRAMMAR = (
    "**Question.**",
    "**Predict.**",
    "**Run.**",
    "**Picture.**",
    "**verdict**",
    "**The SQL itself.**",
    "## Exercise",
    "## Under the hood",
    "## Recap",
    "**Five questions to close.**",
)
SOLUTION = "# A solution: look when yours is right, or when you give up\n"
# What differs from machine to machine, or from run to run.
LOCAL = re.compile(rf"{re.escape(str(ROOT))}|{re.escape(str(Path.home()))}/|/tmp/|127\.0\.0\.1")


def problems(notebook: Notebook) -> list[str]:
    """Return everything that is wrong with a chapter, in words; nothing for a good one."""
    return [
        *(
            problem
            for part in (_counts, _outputs, _grammar, _compared, _exercise)
            for problem in part(notebook)
        ),
        *_budget(notebook),
    ]


def code(notebook: Notebook) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def exercise(notebook: Notebook) -> list[dict[str, Any]]:
    """Return the cell that asks, the one that judges, and the folded solution, as far as they are there."""
    cells = code(notebook)
    for at, cell in enumerate(cells):
        if "exercise" in cell["metadata"].get("tags", ()):
            return cells[at : at + 3]
    return []


def prose(notebook: Notebook) -> str:
    return "\n\n".join(
        text(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"
    )


def text(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)


def _counts(notebook: Notebook) -> Iterator[str]:
    counts = [cell["execution_count"] for cell in code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}"


def _outputs(notebook: Notebook) -> Iterator[str]:
    for number, cell in enumerate(code(notebook), 1):
        for output in cell["outputs"]:
            expected = "raises-exception" in cell["metadata"].get("tags", ())
            if output["output_type"] == "error" and not expected:
                yield f"cell {number} fails"
            if output.get("name") == "stderr":
                yield f"cell {number} writes to stderr"
            shown = [output.get("text", ""), *output.get("data", {"": ""}).values()]
            if any(LOCAL.search(text(part)) for part in shown):
                yield f"cell {number} shows what is of one machine only"


def _grammar(notebook: Notebook) -> Iterator[str]:
    if text(code(notebook)[0]["source"]) != SETUP:
        yield "the first cell is not the setup"
    written = prose(notebook)
    places = [written.find(part) for part in GRAMMAR]
    yield from (f"{part} is missing" for part in GRAMMAR if part not in written)
    if -1 not in places and places != sorted(places):
        yield f"the order is not {GRAMMAR}"
    sources = " ".join(text(cell["source"]) for cell in code(notebook))
    yield from (f"no {call}" for call in ("lab.claim(", "lab.source(") if call not in sources)
    closing = written.rpartition("**Five questions to close.**")[2].count("<details>")
    if closing != 5 or written.count("<details>") != written.count("</details>"):
        yield f"{closing} closing questions with folded answers"


def _compared(notebook: Notebook) -> Iterator[str]:
    """Yield which cells are compared although what they print differs from run to run."""
    for number, cell in enumerate(code(notebook), 1):
        source = text(cell["source"])
        if "nbval-ignore-output" in cell["metadata"].get("tags", ()):
            continue
        # only the setup's name is surely held already
        if source == SETUP or re.search(r"lab\.up\((?!fresh=\"orders\"\))", source):
            yield f"cell {number} is compared, and says which queue was taken"
        if "lab.claim_ratio(" in source:
            yield f"cell {number} is compared, and claims a time"


def _exercise(notebook: Notebook) -> Iterator[str]:
    parts = exercise(notebook)
    if len(parts) < 3:
        yield "no exercise of three cells"
        return
    asks, judges, solution = (text(part["source"]) for part in parts)
    if not re.search(r"(= \.\.\.|\): \.\.\.)  # yours[^\n]*$", asks):
        yield "the exercise does not end with what is asked for"
    if "exercise-check" not in parts[1]["metadata"].get("tags", ()) or "def judge(" not in judges:
        yield "no check below the exercise"
    if not parts[2]["metadata"].get("jupyter", {}).get("source_hidden"):
        yield "the solution is not folded"
    if not solution.startswith(SOLUTION):  # JupyterLab shows the first line of a folded cell
        yield "the first line of the solution may give it away"
    call = judges.splitlines()[-1]
    if not call.startswith("lab.exercise(judge, ") or call not in solution.splitlines():
        yield "the exercise is not judged, or its solution is not"
    if len([cell for cell in code(notebook) if cell["metadata"].get("jupyter")]) != 1:
        yield "not one folded cell"


def _budget(notebook: Notebook) -> Iterator[str]:
    words = len(re.sub(r"<[^>]+>", " ", prose(notebook)).split())
    longest = max(len(text(cell["source"]).splitlines()) for cell in code(notebook))
    pictures = sum(
        "image/png" in output.get("data", ())
        for cell in code(notebook)
        for output in cell["outputs"]
    )
    for what, count, least, most in (
        ("cells", len(notebook["cells"]), 25, 42),
        ("words", words, 900, 1300),
        ("lines in a cell", longest, 1, 12),
        ("pictures", pictures, 2, 4),
    ):
        if not least <= count <= most:
            yield f"{count} {what}"
