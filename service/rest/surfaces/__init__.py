"""Other protocols over HTTP, a folder each: routes, bodies, their form of an error. `app.py` joins them."""
