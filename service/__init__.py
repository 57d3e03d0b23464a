"""The gateway: text and events in, tensors to the backend, text, labels and values out."""
