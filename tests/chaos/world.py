"""What is disturbed: gateways and model servers, each a process, and a wire between them to be spoilt."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import IO

from rich.console import Console

from tests.bench.processes import COMMAND, GREETING, Cores, said, started
from tests.tfserving.process import Server, serving
from tests.tfserving.reload import config_file

MODEL = "shop"
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the table: what was done, what was wanted and seen; `is_good` None: not run, and why."""

    what: str
    wanted: str
    seen: str
    is_good: bool | None


@dataclass(frozen=True, slots=True)
class World:
    """What a run has: a root with MODEL, the random numbers of its seed, and a place to say what it does."""

    root: Path
    cores: Cores
    random: Random
    console: Console

    def say(self, what: str) -> None:
        """Show what is done now."""
        self.console.print(what, style="dim", markup=False, highlight=False)

    @asynccontextmanager
    async def model_server(self, port: int = 0) -> AsyncIterator[Server]:
        """Run the test server of TensorFlow Serving's wire, with MODEL alone."""
        path = self.root / "models.config"
        path.write_text(str(config_file({MODEL: self.root / MODEL})))
        with ExitStack() as stack:
            yield await asyncio.to_thread(stack.enter_context, serving(path, port=port))

    @asynccontextmanager
    async def gateway(
        self, tfserving: str = "", command: Sequence[str] = COMMAND, **settings: object
    ) -> AsyncIterator["Gateway"]:
        """Run a gateway over a model server, or embedded; it ends with the block at the latest."""
        given = {"root": self.root, "rest_port": 0, "grpc_port": 0, "poll_seconds": 0.25, **settings}
        given |= {"tfserving": tfserving, "models": MODEL} if tfserving else {}
        environment = {f"SEQSERVE_{name.upper()}": str(value) for name, value in given.items()}
        stack = ExitStack()
        try:
            running = started(self.cores.server, (*command, "serve"), environment)
            process, words = await asyncio.to_thread(stack.enter_context, running)
            ports = await asyncio.to_thread(said, process, words, GREETING)
            yield Gateway(process, words, int(ports[1]), int(ports[2]))
        finally:
            await asyncio.to_thread(stack.close)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running one, and what it writes to standard error."""

    process: "subprocess.Popen[str]"
    words: IO[str]
    rest_port: int
    grpc_port: int

    async def ended(self, seconds: float) -> int | None:
        """Return its exit status; None where it has not ended in time."""
        with suppress(subprocess.TimeoutExpired):
            return await asyncio.to_thread(self.process.wait, seconds)
        return None

    def log(self) -> str:
        """Return what it wrote, without moving the place in the file, which the process shares."""
        size = os.fstat(self.words.fileno()).st_size
        return os.pread(self.words.fileno(), size, 0).decode(errors="replace")

    def faults(self) -> int:
        """Count the tracebacks in it."""
        return self.log().count("Traceback (most recent call last)")

    def descriptors(self) -> int:
        """Count the open ones."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self) -> int:
        """Count them."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


@contextmanager
def paused(server: Server) -> Iterator[None]:
    """Stop a model server where it is, and let it go on."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@dataclass(slots=True)
class Wire:
    """A TCP proxy before a model server: each chunk may come later, or with rubbish in it.

    Args:
        delay: seconds that a chunk waits.
        rubbish: how likely a chunk is to have random bytes put into it.
    """

    target: str
    random: Random
    delay: float = 0.0
    rubbish: float = 0.0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen; yields HOST:PORT."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        self._open.add(writer)
        try:
            theirs, ours = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._open.add(ours)
        await asyncio.gather(self._pump(reader, ours), self._pump(theirs, writer))
        self._open -= {writer, ours}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                await asyncio.sleep(self.delay)
                if self.random.random() < self.rubbish:
                    place = self.random.randrange(len(chunk))
                    chunk = chunk[:place] + self.random.randbytes(8) + chunk[place:]
                writer.write(chunk)
                await writer.drain()
        writer.transport.abort()
