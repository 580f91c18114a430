#!/bin/sh
# Runs a command in the lab: with copies of the chapters in the home directory, and the queue's token.
# Beside a copy that somebody has written in, a newer version of its chapter is laid as NAME-newer.ipynb.
set -eu
python -m qlib.lab.course.copies "$HOME/my-notebooks"
QUEUE_TOKEN=$(cat /secrets/queue_token)
export QUEUE_TOKEN
exec "$@"
