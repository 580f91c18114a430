"""`python -m qlib.lab.course.notebooks [NOTEBOOK…]`: run notebooks again and store what they show.

When all are run, links between the chapters and the lists of them are written first, as
contents.py does. Each runs in a kernel of its own, from the top, and is written back when all of it
went well. What differs from run to run without telling anything is dropped: times, the Python's
version, and the stack of an expected error, which names files of this machine. The picture of a cell with the tag
`readme` is also written to `images/`, under the notebook's name, for the README to show.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
import tempfile
from pathlib import Path

import matplotlib
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from qlib.lab.course import contents
from qlib.lab.course.chapters import NOTEBOOKS
from qlib.lab.stack.guarded import ROOT

QUIET = ["--log-level=ERROR"]
"""For kernels that we talk to ourselves: a warning that anybody could listen is none here."""

_PATIENCE = 120  # seconds, for a cell
_PERSONAL = ("IPYTHON", "JUPYTER_", "MATPLOTLIBRC", "MPLBACKEND", "PYTHON", "TQDM_")
_COLOURS = 128  # of a picture: lines and words with soft edges, no photograph
_KEPT = ("tags", "jupyter")  # of a cell's metadata; `jupyter` says which source is folded


def main() -> int:
    """Run the notebooks given, else all of them; return the exit code."""
    parser = argparse.ArgumentParser("python -m qlib.lab.course.notebooks", description=__doc__)
    parser.add_argument("notebook", nargs="*", type=Path, help="by default all in notebooks/")
    chosen = parser.parse_args().notebook
    if not chosen:
        contents.update()
    paths = chosen or sorted(NOTEBOOKS.glob("*.ipynb"))
    with tempfile.TemporaryDirectory(prefix="queue-notebooks-") as directory:
        environment = kernel_environment(Path(directory))
        os.environ.clear()
        os.environ.update(environment)
        for path in paths:
            print(path.name, flush=True)
            try:
                execute(path)
            except CellExecutionError as error:
                print(error, file=sys.stderr)
                return 1
    return 0


def kernel_environment(directory: Path) -> dict[str, str]:
    """Return our environment without the user's settings that would show in a notebook.

    These are of Python, Jupyter, IPython (whose profile is then in `directory`), matplotlib and
    tqdm. The kernels find qlib, which is not installed.
    """
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: it for name, it in os.environ.items() if not name.startswith(_PERSONAL)}
    return kept | {
        "IPYTHONDIR": str(directory),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "MATPLOTLIBRC": str(Path(matplotlib.get_data_path(), "matplotlibrc")),
        "PYTHONPATH": os.pathsep.join(path),
    }


def execute(path: Path) -> None:
    """Run a notebook in its own directory, from the top, and write it back with its outputs.

    Raises nbclient's CellExecutionError when a cell fails that is not tagged `raises-exception`;
    then the file is left as it was.
    """
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=_PATIENCE,
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        extra_arguments=QUIET,
        coalesce_streams=True,
    )
    client.execute()
    _tidy(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    for picture in readme_pictures(notebook):
        image = path.parent / "images" / f"{path.stem}.png"
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(picture)


def readme_pictures(notebook: nbformat.NotebookNode) -> list[bytes]:
    """Return the pictures of the cells with the tag `readme`, as PNG."""
    return [
        base64.b64decode(output.data["image/png"])
        for cell in notebook.cells
        if "readme" in cell.metadata.get("tags", ())
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", ())
    ]


def _tidy(notebook: nbformat.NotebookNode) -> None:
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {name: cell.metadata[name] for name in _KEPT if name in cell.metadata}
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                output.traceback = [f"{output.ename}: {output.evalue}"]
            if "image/png" in output.get("data", ()):
                output.data["image/png"] = _smaller(output.data["image/png"])


def _smaller(picture: str) -> str:
    """Return a picture with the colours that it needs, which is a third of its bytes."""
    written = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(picture))) as opened:
        opened.convert("RGB").quantize(_COLOURS).save(written, "png", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


if __name__ == "__main__":
    sys.exit(main())
