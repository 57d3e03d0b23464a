"""What surfaces of both doors share: a model as named tensors, for protocols that speak of those."""
