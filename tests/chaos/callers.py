"""Callers of both doors that never stop asking, and what became of each of their calls."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import Any

import grpc

from seqserve.v1 import sequence_pb2, sequence_pb2_grpc
from tests.chaos.world import MODEL, Gateway
from tests.doors import SHOP, reason_of, write_feature
from tests.http import Connection

OK = "OK"
SECONDS = 4.0
"""That a caller gives a call."""
REST_CALLERS = GRPC_CALLERS = 6
REST, GRPC = "REST", "gRPC"
PAUSE = 0.02
"""At most, between two calls of a caller: one that always asks takes the other programs' time."""
MORE_SECONDS = 30.0
"""That is waited for calls at most."""
OUTAGE = {OK, "BACKEND_UNAVAILABLE", "NOT_READY", "DEADLINE_EXCEEDED", "QUEUE_FULL"}
"""What a caller may be told while the model server is away or slow."""
SPOILT = OUTAGE | {"BACKEND_FAILED"}
"""Likewise where the wire spoils what it says: bytes that are no message are a failure, not an absence."""
Choose = Callable[[], Gateway | None]


@dataclass(frozen=True, slots=True)
class Made:
    """A call: by which door, from when to when (perf_counter), and OK, a reason, or how it was lost."""

    door: str
    began: float
    ended: float
    outcome: str


def counted(calls: Iterable[Made]) -> str:
    """Return the outcomes in words, with the longest call."""
    calls = list(calls)
    outcomes = Counter(call.outcome for call in calls).most_common()
    longest = max((call.ended - call.began for call in calls), default=0.0)
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes) + f"; longest {longest:.2f} s"


class RestCaller:
    """Asks by REST, on one connection at a time."""

    door = REST

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._connections: dict[int, Connection] = {}

    async def ask(self, gateway: Gateway) -> str:
        """Ask once; return OK, a reason, or how the call was lost."""
        port = gateway.rest_port
        try:
            async with asyncio.timeout(self._seconds + 2):
                if port not in self._connections:
                    streams = await asyncio.open_connection("127.0.0.1", port)
                    self._connections[port] = Connection(port, *streams)
                answered = await self._connections[port].post(
                    f"/v1/models/{MODEL}:predict",
                    {"sequences": [SHOP]},
                    {"Grpc-Timeout": f"{self._seconds:g}S"},
                )
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self._leave(port)
            return type(error).__name__
        status, content = answered
        return OK if status == 200 and _is_answer(content) else str(content.get("reason", status))

    def _leave(self, port: int) -> None:
        connection = self._connections.pop(port, None)
        if connection is not None:
            connection.writer.transport.abort()

    async def close(self) -> None:
        """Hang up."""
        for port in list(self._connections):
            self._leave(port)


class GrpcCaller:
    """Asks by gRPC, on a connection of its own."""

    door = GRPC

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._request = sequence_pb2.PredictRequest(model={"name": MODEL})
        sequence = self._request.sequences.add()
        for name, values in SHOP.items():
            write_feature(sequence.features[name], values)

    async def ask(self, gateway: Gateway) -> str:
        """Ask once; return OK, a reason, or the status' name."""
        port = gateway.grpc_port
        if port not in self._channels:
            own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
            self._channels[port] = grpc.aio.insecure_channel(f"127.0.0.1:{port}", own)
        predict = sequence_pb2_grpc.SequenceServiceStub(self._channels[port]).Predict
        try:
            answer = await predict(self._request, timeout=self._seconds)
        except grpc.aio.AioRpcError as error:
            return reason_of(error)
        return OK if len(answer.results) == 1 else "no result"

    async def close(self) -> None:
        """Hang up."""
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))


@dataclass(slots=True)
class Load:
    """Callers under way, and the calls that they have made."""

    calls: list[Made] = field(default_factory=list)
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)
    _is_over: bool = False

    async def more(self, count: int) -> list[Made]:
        """Wait for so many more calls, but not for ever, and return them."""
        before = len(self.calls)
        with suppress(TimeoutError):
            async with asyncio.timeout(MORE_SECONDS), self._more:
                await self._more.wait_for(lambda: len(self.calls) >= before + count)
        return self.calls[before:]

    async def until(self, seconds: float, is_wanted: Callable[[Made], bool]) -> float | None:
        """Wait for a call that is wanted; return the seconds it took, None where there was none."""
        began = perf_counter()
        try:
            async with asyncio.timeout(seconds):
                while not any(map(is_wanted, await self.more(1))):
                    pass
        except TimeoutError:
            return None
        return perf_counter() - began

    def since(self, began: float) -> list[Made]:
        """Return the calls that began then or later."""
        return [call for call in self.calls if call.began >= began]

    async def run(self, caller: Any, choose: Choose, random: Random) -> None:
        """Ask again and again."""
        while not self._is_over:
            gateway = choose()
            if gateway is not None:
                began = perf_counter()
                outcome = await caller.ask(gateway)
                self.calls.append(Made(caller.door, began, perf_counter(), outcome))
                async with self._more:
                    self._more.notify_all()
            await asyncio.sleep(random.uniform(0, PAUSE))
        await caller.close()

    def end(self) -> None:
        """Let each caller end with the call it has open."""
        self._is_over = True


@asynccontextmanager
async def calling(choose: Choose, random: Random, seconds: float = SECONDS) -> AsyncIterator[Load]:
    """Let callers of both doors ask the gateways that are chosen, until the end of the block.

    Args:
        seconds: that they give each call.
    """
    load, rest, rpc = Load(), range(REST_CALLERS), range(GRPC_CALLERS)
    callers = [*(RestCaller(seconds) for _ in rest), *(GrpcCaller(seconds) for _ in rpc)]
    async with asyncio.TaskGroup() as tasks:
        for caller in callers:
            tasks.create_task(load.run(caller, choose, random))
        try:
            yield load
        finally:
            load.end()


def in_turns(gateways: list[Gateway]) -> Choose:
    """Choose each in turn, of the list as it is then; none while it is empty."""
    turn = itertools.count()
    return lambda: gateways[next(turn) % len(gateways)] if gateways else None


def _is_answer(content: Any) -> bool:
    return "next_event" in content["predictions"][0]["heads"]
