"""`python -m models …` in a clone: the commands of training and shipping that `seqserve` has too."""

import sys

from seqserve.models.cli import app

sys.modules.pop("models", None)  # this folder, by a name that a file given by --import may mean otherwise
app()
