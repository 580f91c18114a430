#!/bin/sh
# Runs a command in the lab: with the chapters in the home directory, and the queue's token.
# A chapter that somebody has changed there stays as NAME.~1~ when a newer one comes with the image.
set -eu
cp --recursive --update --backup=numbered /app/notebooks/. "$HOME/notebooks"
QUEUE_TOKEN=$(cat /secrets/queue_token)
export QUEUE_TOKEN
exec "$@"
