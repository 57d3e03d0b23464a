"""The command line of training and export: `python -m models --help`."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow: it greets otherwise

from models.cli import app

app()
