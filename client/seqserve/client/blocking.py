"""The client that blocks."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from weakref import WeakSet

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
from seqserve.client.doors import Door, door

Result = TypeVar("Result")


class Client:
    """Calls a service; may be shared by threads. Every method raises `ServiceError`, a class for each reason.

    Args:
        url: `http://HOST:PORT` or `https://…`; `grpc://HOST:PORT` or `grpcs://…` with the extra `grpc`.
        key: API key or token; empty: none.
        timeout: seconds for a call, all its tries and parts together; None: the service's own.
        retries: how often a request is sent again, where the service refused it for now, or nothing answered
            and doing it twice changes nothing.
        parallel: parts of a long list that are asked for at once.
        tls: certificates, where the system's authorities are not enough.
    """

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
        """Raises ValueError for an address or key of another form, OSError for certificates that are none."""
        self._doors = door(Access(url, key, tls))
        self._door = self._doors.blocking()
        self._crews = WeakSet[_Crew]()
        self._core = Core(timeout, retries)
        self._parallel = parallel
        self._is_closed = False
        self._sleep = time.sleep

    def translate(self, model: str, texts: Sequence[str], **options: Unpack[Translating]) -> Translations:
        """Translate texts: one item for each, in their order, however many."""
        return self._run(self._core.ask_list(Kind.TRANSLATE, model, texts, options))

    def predict(
        self, model: str, sequences: Sequence[Mapping[str, Any]], **options: Unpack[Predicting]
    ) -> Predictions:
        """Predict from sequences, each a mapping of feature to values: one item for each, in their order."""
        return self._run(self._core.ask_list(Kind.PREDICT, model, sequences, options))

    def translate_stream(
        self, model: str, texts: Iterable[str], *, part: int = PART, **options: Unpack[Translating]
    ) -> Iterator[Translation | errors.ServiceError]:
        """Translate texts while they are taken and answered: an item for each, in their order.

        Args:
            part: texts of a request; some requests are ahead of the reader, no more. `timeout` is of each.

        What is answered is yielded before more is taken; while `texts` itself has none to give, all waits.
        An iterator that is left ends its requests.
        """
        return self._stream(self._core.stream(Kind.TRANSLATE, model, texts, part, options))

    def predict_stream(
        self,
        model: str,
        sequences: Iterable[Mapping[str, Any]],
        *,
        part: int = PART,
        **options: Unpack[Predicting],
    ) -> Iterator[Prediction | errors.ServiceError]:
        """Predict while sequences are taken and answered; as `translate_stream`."""
        return self._stream(self._core.stream(Kind.PREDICT, model, sequences, part, options))

    def models(self, *, timeout: float | None = None) -> tuple[Model, ...]:
        """Return every model, by name."""
        models: tuple[Model, ...] = self._run(self._core.ask(Ask(Kind.LIST_MODELS), timeout))
        return models

    def model(self, name: str, *, timeout: float | None = None) -> Model:
        """Return one model."""
        model: Model = self._run(self._core.ask(Ask(Kind.GET_MODEL, Which(name)), timeout))
        return model

    def session(self, model: str, id: str = "", **options: Unpack[Calling]) -> "Session":
        """Make a session, or take up the one of that id."""
        asked = self._core.opening(model, id, options)
        return Session(self, asked.which, self._run(self._core.ask(asked, options.get("timeout"))))

    def close(self) -> None:
        """Close the connections; what is asked meanwhile ends."""
        self._is_closed = True
        self._door.close()
        for crew in list(self._crews):
            crew.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    def _run(self, steps: Steps[Result]) -> Result:
        return _taken(steps, self._take)

    def _take(self, step: Step) -> Any:
        match step:
            case Send():
                if self._is_closed:
                    raise RuntimeError(CLOSED)
                return self._door.send(step.ask, step.seconds)
            case Wait():
                self._sleep(step.seconds)
            case Together():
                with self._crew() as crew:
                    return [begun.result() for begun in [crew.begin(steps) for steps in step.all]]
        return None

    def _crew(self) -> "_Crew":
        crew = _Crew(self._doors, self._parallel)
        self._crews.add(crew)
        return crew

    def _stream(self, stream: Stream) -> Iterator[Any]:
        waiting = deque[Future[list[Any]]]()
        with self._crew() as crew:
            for steps in stream.parts():
                if stream.model is None:
                    yield from self._run(steps)
                    continue
                waiting.append(crew.begin(steps))
                while waiting and (len(waiting) == self._parallel or waiting[0].done()):
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()


class _Crew:
    """Threads that take steps side by side, by connections of their own, which end with it."""

    def __init__(self, doors: Door, parallel: int) -> None:
        self._door = doors.blocking()
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="seqserve-client")
        self._is_left = Event()

    def begin(self, steps: Steps[Result]) -> Future[Result]:
        """Have steps taken to their end by one of the threads."""
        return self._pool.submit(_taken, steps, self._take)

    def _take(self, step: Step) -> Any:
        if isinstance(step, Wait):
            self._is_left.wait(step.seconds)
        if self._is_left.is_set():
            raise errors.Cancelled("it was left before it was answered")
        return self._door.send(step.ask, step.seconds) if isinstance(step, Send) else None

    def leave(self) -> None:
        """Begin nothing more, and end what is running."""
        self._is_left.set()
        self._door.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.leave()


def _taken(steps: Steps[Result], take: Callable[[Step], Any]) -> Result:
    """Take steps to their end."""
    came: Any = None
    try:
        step = next(steps)
        while True:
            try:
                came = take(step)
            except errors.ServiceError as error:
                step = steps.throw(error)
            else:
                step = steps.send(came)
    except StopIteration as end:
        result: Result = end.value
        return result


class Session:
    """A live sequence: each event is sent once, and answered as the whole history would be.

    It lives until nothing was appended for long; used in a `with` statement, it is forgotten at the end.
    """

    def __init__(self, client: Client, which: Which, state: SessionState) -> None:
        self._client = client
        self._which = which
        self.state = state

    @property
    def id(self) -> str:
        """What names it, for `Client.session`."""
        return self.state.id

    def append(self, events: Mapping[str, Any], **options: Unpack[Appending]) -> Prediction:
        """Append events, all or none, and return what is predicted after the last of them.

        After an error the same events may be appended again: their number is sent with them, and the service
        knows those that it has.
        """
        steps = self._client._core.append(self._which, self.state, events, options)
        appended: Appended = self._client._run(steps)
        self.state = appended.session
        return appended.prediction

    def refresh(self) -> SessionState:
        """Ask the service how the session is now: another program may have appended."""
        self.state = self._ask(Kind.GET_SESSION)
        return self.state

    def delete(self) -> None:
        """Forget the session."""
        self._ask(Kind.DELETE_SESSION)

    def _ask(self, kind: Kind) -> Any:
        return self._client._run(self._client._core.ask(Ask(kind, self._which, session=self.id), None))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.delete()
        except errors.SessionNotFound:
            pass  # as wanted
        except errors.ServiceError:
            if error is None:
                raise
