"""The methods of `SessionService`: convert, call the gateway, convert back."""

from typing import Any

from google.rpc import status_pb2

from seqserve.service.core.gateway import Gateway
from seqserve.service.core.tasks import SEQUENCE
from seqserve.service.core.types import Call
from seqserve.service.rpc import convert
from seqserve.service.rpc.edge import Method
from seqserve.service.rpc.streaming import Stream
from seqserve.v1 import session_pb2

SERVICE = session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name


class Sessions:
    """What the methods do. Every error they raise is of `service.errors`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def methods(self) -> dict[str, Method | Stream]:
        """The methods by name."""
        return {
            "CreateSession": Method(session_pb2.CreateSessionRequest, self.create),
            "Append": Method(session_pb2.AppendRequest, self.append, convert.append_field),
            "GetSession": Method(session_pb2.GetSessionRequest, self.get),
            "DeleteSession": Method(session_pb2.DeleteSessionRequest, self.delete),
            "AppendStream": Stream(
                session_pb2.AppendStreamRequest,
                about=lambda request: request.append.session_id,
                answer=lambda request, call: self.append(request.append, call),
                answered=_appended,
                failed=_failed,
                field=convert.append_stream_field,
            ),
        }

    async def create(
        self, request: session_pb2.CreateSessionRequest, call: Call
    ) -> session_pb2.CreateSessionResponse:
        """Make a session."""
        session = await self._gateway.create_session(convert.model_ref(request.model), call)
        return session_pb2.CreateSessionResponse(session=convert.session_message(session))

    async def append(self, request: session_pb2.AppendRequest, call: Call) -> session_pb2.AppendResponse:
        """Append events, and answer after the last of them."""
        ref = convert.model_ref(request.model)
        self._gateway.check_room(SEQUENCE, ref, call)
        appended = await self._gateway.append(ref, request.session_id, convert.append_of(request), call)
        return convert.append_response(appended)

    async def get(self, request: session_pb2.GetSessionRequest, call: Call) -> session_pb2.GetSessionResponse:
        """Return a session."""
        session = await self._gateway.session(convert.model_ref(request.model), request.session_id, call)
        return session_pb2.GetSessionResponse(session=convert.session_message(session))

    async def delete(
        self, request: session_pb2.DeleteSessionRequest, call: Call
    ) -> session_pb2.DeleteSessionResponse:
        """Forget a session."""
        await self._gateway.delete_session(convert.model_ref(request.model), request.session_id, call)
        return session_pb2.DeleteSessionResponse()


def _appended(place: int, response: Any) -> session_pb2.AppendStreamResponse:
    return session_pb2.AppendStreamResponse(request=place, appended=response)


def _failed(place: int, status: status_pb2.Status) -> session_pb2.AppendStreamResponse:
    return session_pb2.AppendStreamResponse(request=place, error=status)
