"""Why a gRPC call failed, for tests that need nothing of a model server."""

import grpc
from google.rpc import error_details_pb2, status_pb2


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the reason in an error's details; grpc itself may report a deadline, without any."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            assert status_pb2.Status.FromString(value).details[0].Unpack(info)
            return str(info.reason)
    return error.code().name
