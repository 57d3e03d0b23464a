"""THE table: canonical code to HTTP status and gRPC status. Nothing else chooses a status.

The HTTP column is google.rpc.Code's documentation. Reasons that have one of their own by REST stand below.
"""

import grpc

from seqserve.service import errors
from seqserve.service.errors import Code, SeqserveError

TABLE: dict[Code, tuple[int, grpc.StatusCode]] = {
    Code.INVALID_ARGUMENT: (400, grpc.StatusCode.INVALID_ARGUMENT),
    Code.UNAUTHENTICATED: (401, grpc.StatusCode.UNAUTHENTICATED),
    Code.PERMISSION_DENIED: (403, grpc.StatusCode.PERMISSION_DENIED),
    Code.NOT_FOUND: (404, grpc.StatusCode.NOT_FOUND),
    Code.FAILED_PRECONDITION: (400, grpc.StatusCode.FAILED_PRECONDITION),
    Code.ABORTED: (409, grpc.StatusCode.ABORTED),
    Code.RESOURCE_EXHAUSTED: (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    Code.DEADLINE_EXCEEDED: (504, grpc.StatusCode.DEADLINE_EXCEEDED),
    Code.UNAVAILABLE: (503, grpc.StatusCode.UNAVAILABLE),
    Code.UNIMPLEMENTED: (501, grpc.StatusCode.UNIMPLEMENTED),
    Code.CANCELLED: (499, grpc.StatusCode.CANCELLED),
    Code.INTERNAL: (500, grpc.StatusCode.INTERNAL),
}
EDGE: dict[type[SeqserveError], int] = {
    errors.BodyTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.HeadersTooLarge: 431,
    errors.RequestTimeout: 408,
    errors.RouteNotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.Unsupported: 400,
}


def http_status(error: SeqserveError) -> int:
    """Return the HTTP status of an error."""
    return EDGE.get(type(error), TABLE[error.code][0])


def grpc_status(error: SeqserveError) -> grpc.StatusCode:
    """Return the gRPC status of an error."""
    return TABLE[error.code][1]
