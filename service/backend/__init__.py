"""What turns tensors into tensors: one Protocol, one implementation a module."""
