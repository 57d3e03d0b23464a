"""The wire messages of seqserve. Generated code: `make proto` writes it from the `.proto` files beside it."""
