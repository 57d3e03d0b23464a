"""The subset of TensorFlow Serving's messages that the gateway speaks: same bytes, its own names."""
