"""How a call or a load went wrong: a canonical code and a message."""

from grpc import StatusCode

MESSAGE_LIMIT = 1024
CODES = {code.value[0]: code for code in StatusCode}


class StatusError(Exception):
    """A canonical code and a message."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def text(self) -> str:
        """The message as it is sent: a long one is cut."""
        if len(self.message) <= MESSAGE_LIMIT:
            return self.message
        return self.message[:MESSAGE_LIMIT] + "...TRUNCATED"


def invalid(message: str) -> StatusError:
    """An INVALID_ARGUMENT."""
    return StatusError(StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> StatusError:
    """A NOT_FOUND."""
    return StatusError(StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> StatusError:
    """A FAILED_PRECONDITION."""
    return StatusError(StatusCode.FAILED_PRECONDITION, message)
