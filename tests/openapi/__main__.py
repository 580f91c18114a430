"""`python -m tests.openapi`: what generators make of /openapi.json works against a real server."""

import sys
from pathlib import Path

import pytest

from tests.openapi.tools import install

if __name__ == "__main__":
    install()
    sys.exit(pytest.main(["-q", str(Path(__file__).with_name("checks.py")), *sys.argv[1:]]))
