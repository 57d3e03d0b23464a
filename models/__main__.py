"""The command line of training and export: `python -m models --help`."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow: it greets otherwise

from seqserve.models.cli import app

sys.modules.pop("models", None)  # this folder, by a name that a file given by --import may mean otherwise
app()
