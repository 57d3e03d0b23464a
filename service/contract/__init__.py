"""What a trained model and the gateway agree on. Used alike by training, export and serving."""
