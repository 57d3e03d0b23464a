"""The networks, one module a kind of model; their layers; and the loops that decode translations."""
