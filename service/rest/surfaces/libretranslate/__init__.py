"""LibreTranslate's API (docs.libretranslate.com): texts by a pair of languages, which finds the model."""

from seqserve.service.core.gateway import Gateway
from seqserve.service.rest.bodies import Bodies
from seqserve.service.rest.routes import Route
from seqserve.service.rest.surfaces.libretranslate.bodies import ASKED, FORM_TYPE
from seqserve.service.rest.surfaces.libretranslate.handlers import Handlers
from seqserve.service.rest.surfaces.operations import operation

PLACES = ("translate", "languages", "detect")
"""The first parts of its paths."""
TAG = "LibreTranslate"
TRANSLATED = {
    "type": "object",
    "required": ["translatedText"],
    "properties": {
        "translatedText": {"type": ["string", "array"], "description": "a list where `q` is one"},
        "alternatives": {"type": "array", "description": "further translations, best first"},
    },
}
LANGUAGES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "code": {"type": "string"},
            "name": {"type": "string"},
            "targets": {"type": "array", "items": {"type": "string"}},
        },
    },
}


def routes(gateway: Gateway, bodies: Bodies) -> list[Route]:
    """Return its routes."""
    handlers = Handlers(gateway, bodies)
    told = operation(
        TAG, "translate", "Translate by a pair of languages", ASKED, TRANSLATED, body_type=FORM_TYPE
    )
    listed = operation(TAG, "languages", "List the pairs of languages", None, LANGUAGES)
    return [
        Route("POST", "/translate", handlers.translate, told),
        Route("GET", "/languages", handlers.languages, listed),
        Route("POST", "/detect", handlers.detect, operation(TAG, "detect", "Refused: languages are named")),
    ]
