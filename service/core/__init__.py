"""Protocol-neutral inference: from a request's items to answers, through codecs, batches, a backend."""
