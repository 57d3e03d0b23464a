"""Who calls: from what a call brings to a principal."""

from dataclasses import dataclass

from seqserve.service.core.types import Principal


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a call brings to say who makes it.

    Args:
        address: of the peer, without port; empty where there is none.
        authorization: that header's, or metadata's, value; empty: absent.
        api_key: `X-API-Key`'s.
        forwarded: `Forwarded`'s; believed only of a proxy that is trusted.
        certificate: the name in the client's certificate that TLS has verified; empty: none.
    """

    address: str
    authorization: str = ""
    api_key: str = ""
    forwarded: str = ""
    certificate: str = ""


class Recognizer:
    """Knows principals by what they bring."""

    def principal(self, credentials: Credentials) -> Principal:
        """Return who calls.

        Raises:
            Unauthenticated: nobody that is known here.
        """
        return Principal(credentials.address)
