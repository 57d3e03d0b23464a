"""Training data: read from files or generated, and made into batches."""
