"""Networks, one module for each kind of model, their layers, and the loops that decode translations."""
