"""Keeps TensorFlow Serving able to start: gives it a checked copy of its model config file."""
