"""Training data: reading it from files, making it up, and cutting it into batches."""
