"""What a request costs where nothing is done for it: `python -m tests.bench.empty REST|gRPC`.

An endpoint of FastAPI that has its body read and answers a line of JSON, under uvicorn as fast as it goes;
or a method of grpc.aio that takes our message and gives one back. It says at which port, and serves until
SIGTERM.
"""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import grpc
import uvicorn
import uvloop
from fastapi import Body, FastAPI

from seqserve.v1 import translation_pb2
from tests.bench.clients import HOST
from tests.bench.subject import METHOD

PATH = "/empty"
GREETING = "listens on port {}"


def make_app() -> FastAPI:
    """Return the application."""
    app = FastAPI()

    @app.post(PATH)
    async def empty(body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        return {"translations": [{"text": "nothing", "score": 0.0}]}

    return app


def rest() -> None:
    """Serve the endpoint."""
    listening = socket.create_server((HOST, 0))
    print(GREETING.format(listening.getsockname()[1]), flush=True)
    config = uvicorn.Config(
        make_app(), loop="uvloop", http="httptools", log_level="warning", access_log=False
    )
    uvicorn.Server(config).run([listening])


async def rpc() -> None:
    """Serve the method."""
    kind, answer = translation_pb2.TranslateRequest, translation_pb2.TranslateResponse
    nothing = translation_pb2.TranslateResult(translation={"text": "nothing", "score": 0.0})

    async def empty(request: translation_pb2.TranslateRequest, _: Any) -> translation_pb2.TranslateResponse:
        return answer(results=[nothing])

    _, service, method = METHOD["translation"].split("/")
    handler = grpc.unary_unary_rpc_method_handler(empty, kind.FromString, answer.SerializeToString)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    print(GREETING.format(port), flush=True)
    await server.wait_for_termination()


def on_uvloop(main: Callable[[], Awaitable[None]]) -> None:
    """Run on the event loop that ours runs on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())  # type: ignore[arg-type]  # it is a coroutine


if __name__ == "__main__":
    rest() if sys.argv[1] == "REST" else on_uvloop(rpc)
