"""The messages of the Open Inference Protocol that the gateway speaks; generated from the .proto beside it."""
