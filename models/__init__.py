"""Training, export and certification of the models that the gateway serves."""
