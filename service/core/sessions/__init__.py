"""Live sequences: a recurrent model's state between requests, with the events that led to it."""
