"""What the manifest of a translator says of its shortlist: `decode.shortlist`."""

from typing import Annotated

from pydantic import Field

from seqserve.service.contract.part import Part


class Shortlist(Part):
    """A row may write the commonest pieces and the likeliest partners of each of its own, no others.

    Scores are over those: p of all others is 0.
    """

    common: Annotated[int, Field(ge=1)]
    partners: Annotated[int, Field(ge=0)]
