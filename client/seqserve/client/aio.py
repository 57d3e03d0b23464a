"""The client that awaits."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from seqserve.client import errors
from seqserve.client.access import Access, Tls
from seqserve.client.answers import (
    Appended,
    Model,
    Prediction,
    Predictions,
    SessionState,
    Translation,
    Translations,
)
from seqserve.client.asking import Appending, Ask, Calling, Kind, Predicting, Translating, Which
from seqserve.client.core import (
    CLOSED,
    PARALLEL,
    PART,
    RETRIES,
    SECONDS,
    Core,
    Send,
    Step,
    Steps,
    Stream,
    Together,
    Wait,
)
from seqserve.client.doors import door

Result = TypeVar("Result")


class AsyncClient:
    """As `Client`, awaited, on one event loop; a call that is cancelled ends at the service too."""

    def __init__(
        self,
        url: str,
        *,
        key: str = "",
        timeout: float | None = SECONDS,
        retries: int = RETRIES,
        parallel: int = PARALLEL,
        tls: Tls | None = None,
    ) -> None:
        """As `Client`."""
        self._door = door(Access(url, key, tls)).awaiting()
        self._core = Core(timeout, retries)
        self._parallel = parallel
        self._is_closed = False
        self._sleep = asyncio.sleep

    async def translate(
        self, model: str, texts: Sequence[str], **options: Unpack[Translating]
    ) -> Translations:
        """Translate texts: one item for each, in their order, however many."""
        return await self._run(self._core.ask_list(Kind.TRANSLATE, model, texts, options))

    async def predict(
        self, model: str, sequences: Sequence[Mapping[str, Any]], **options: Unpack[Predicting]
    ) -> Predictions:
        """Predict from sequences, each a mapping of feature to values: one item for each, in their order."""
        return await self._run(self._core.ask_list(Kind.PREDICT, model, sequences, options))

    def translate_stream(
        self, model: str, texts: Iterable[str], *, part: int = PART, **options: Unpack[Translating]
    ) -> AsyncIterator[Translation | errors.ServiceError]:
        """Translate texts while they are taken and answered: an item for each, in their order.

        Args:
            part: texts of a request; some requests are ahead of the reader, no more. `timeout` is of each.

        What is answered is yielded before more is taken; while `texts` itself has none to give, all waits.
        An iterator that is left by `aclose`, or forgotten, ends its requests.
        """
        return self._stream(self._core.stream(Kind.TRANSLATE, model, texts, part, options))

    def predict_stream(
        self,
        model: str,
        sequences: Iterable[Mapping[str, Any]],
        *,
        part: int = PART,
        **options: Unpack[Predicting],
    ) -> AsyncIterator[Prediction | errors.ServiceError]:
        """Predict while sequences are taken and answered; as `translate_stream`."""
        return self._stream(self._core.stream(Kind.PREDICT, model, sequences, part, options))

    def models(self, *, timeout: float | None = None) -> Coroutine[Any, Any, tuple[Model, ...]]:
        """Return every model, by name."""
        return self._run(self._core.ask(Ask(Kind.LIST_MODELS), timeout))

    def model(self, name: str, *, timeout: float | None = None) -> Coroutine[Any, Any, Model]:
        """Return one model."""
        return self._run(self._core.ask(Ask(Kind.GET_MODEL, Which(name)), timeout))

    def session(self, model: str, id: str = "", **options: Unpack[Calling]) -> "Opening":
        """Make a session, or take up the one of that id: `await` it, or use it in `async with`."""
        return Opening(self, self._core.opening(model, id, options), options.get("timeout"))

    async def close(self) -> None:
        """Close the connections."""
        self._is_closed = True
        await self._door.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.close()

    async def _run(self, steps: Steps[Result]) -> Result:
        """Take steps to their end."""
        came: Any = None
        try:
            step = next(steps)
            while True:
                try:
                    came = await self._take(step)
                except errors.ServiceError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(came)
        except StopIteration as end:
            result: Result = end.value
            return result

    async def _take(self, step: Step) -> Any:
        match step:
            case Send():
                if self._is_closed:
                    raise RuntimeError(CLOSED)
                return await self._door.send(step.ask, step.seconds)
            case Wait():
                await self._sleep(step.seconds)
            case Together():
                return await self._together(step.all)
        return None

    async def _together(self, all: Sequence[Steps[Any]]) -> list[Any]:
        room = asyncio.Semaphore(self._parallel)

        async def one(steps: Steps[Any]) -> Any:
            async with room:
                return await self._run(steps)

        tasks = [asyncio.ensure_future(one(steps)) for steps in all]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _stream(self, stream: Stream) -> AsyncIterator[Any]:
        waiting = deque[asyncio.Future[list[Any]]]()
        try:
            for steps in stream.parts():
                waiting.append(asyncio.ensure_future(self._run(steps)))
                await asyncio.sleep(0)  # taking items awaits nothing: so it begins, and answers come in
                while waiting and (
                    stream.model is None or len(waiting) == self._parallel or waiting[0].done()
                ):
                    for item in await waiting.popleft():
                        yield item
            while waiting:
                for item in await waiting.popleft():
                    yield item
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


class AsyncSession:
    """As `Session`, awaited."""

    def __init__(self, client: AsyncClient, which: Which, state: SessionState) -> None:
        self._client = client
        self._which = which
        self.state = state

    @property
    def id(self) -> str:
        """What names it, for `AsyncClient.session`."""
        return self.state.id

    async def append(self, events: Mapping[str, Any], **options: Unpack[Appending]) -> Prediction:
        """Append events, all or none; as `Session.append`."""
        steps = self._client._core.append(self._which, self.state, events, options)
        appended: Appended = await self._client._run(steps)
        self.state = appended.session
        return appended.prediction

    async def refresh(self) -> SessionState:
        """Ask the service how the session is now: another program may have appended."""
        self.state = await self._ask(Kind.GET_SESSION)
        return self.state

    async def delete(self) -> None:
        """Forget the session."""
        await self._ask(Kind.DELETE_SESSION)

    async def _ask(self, kind: Kind) -> Any:
        return await self._client._run(self._client._core.ask(Ask(kind, self._which, session=self.id), None))


class Opening:
    """A session to be: awaited, an `AsyncSession`; in `async with`, one that is forgotten at the end."""

    def __init__(self, client: AsyncClient, asked: Ask, timeout: float | None) -> None:
        self._client = client
        self._asked = asked
        self._timeout = timeout
        self._session: AsyncSession | None = None

    def __await__(self) -> Generator[Any, None, AsyncSession]:
        return self._open().__await__()

    async def _open(self) -> AsyncSession:
        state = await self._client._run(self._client._core.ask(self._asked, self._timeout))
        return AsyncSession(self._client, self._asked.which, state)

    async def __aenter__(self) -> AsyncSession:
        self._session = await self._open()
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is None:
            return
        try:
            await self._session.delete()
        except errors.SessionNotFound:
            pass  # as wanted
        except errors.ServiceError:
            if error is None:
                raise
