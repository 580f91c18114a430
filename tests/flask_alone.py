"""`python -m tests.flask_alone`: the server without its hot routes, to hold the two against each other."""

import sys

import server.http.hot
from server.__main__ import main

server.http.hot.HOT = ()  # in the worker, too: it begins by importing this module

if __name__ == "__main__":
    sys.exit(main())
