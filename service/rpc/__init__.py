"""The gRPC door: `seqserve.v1`, health and reflection over one gateway."""
