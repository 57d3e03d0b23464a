"""The public API, version 1: messages (`*_pb2`), clients and service bases (`*_pb2_grpc`)."""
