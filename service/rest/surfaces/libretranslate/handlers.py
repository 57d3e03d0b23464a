"""LibreTranslate's paths: each reads a request, calls the gateway and writes the answer in its form."""

from collections.abc import Sequence
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from seqserve.service import errors
from seqserve.service.contract.items import Translation
from seqserve.service.contract.manifest import Languages
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.tasks import TRANSLATION
from seqserve.service.core.types import Call, ModelRef
from seqserve.service.rest.bodies import Bodies
from seqserve.service.rest.handlers import as_json
from seqserve.service.rest.surfaces.libretranslate.bodies import Question, read_question


class Handlers:
    """What its routes lead to."""

    def __init__(self, gateway: Gateway, bodies: Bodies) -> None:
        self._gateway = gateway
        self._bodies = bodies

    async def languages(self, request: Request, call: Call) -> Response:
        """Return each language that texts are translated from, and into which.

        A language's name is its tag: manifests have no other.
        """
        targets: dict[str, set[str]] = {}
        for _, pair in self._pairs(call):
            targets.setdefault(pair.source, set()).add(pair.target)
        return as_json(
            [{"code": tag, "name": tag, "targets": sorted(targets[tag])} for tag in sorted(targets)]
        )

    async def detect(self, request: Request, call: Call) -> Response:
        """Refuse."""
        raise errors.Unsupported("languages are not detected here: name the source (/languages lists them)")

    async def translate(self, request: Request, call: Call) -> Response:
        """Translate a text, or a list of them; one that fails fails the request."""
        async with self._bodies.read(request, call, read_question) as question:
            ref = self._model(question, call)
            self._gateway.check_room(TRANSLATION, ref, call)
            answered = await self._gateway.answer(TRANSLATION, ref, question.asked, call)
        return as_json(_shown(question, [cast(Translation, item) for item in answered.items]))

    def _pairs(self, call: Call) -> list[tuple[str, Languages]]:
        """Return the models that a caller may translate with and whose pair is known, by name."""
        reports = self._gateway.models(call.principal)
        return [
            (report.name, report.current.manifest.languages)
            for report in reports
            if report.current is not None
            and report.current.manifest.languages is not None
            and call.principal.may(TRANSLATION.verb, report.name)
        ]

    def _model(self, question: Question, call: Call) -> ModelRef:
        """Return the model of a pair, of several the first by name; raises ModelNotFound."""
        wanted = (question.options.source.lower(), question.options.target.lower())
        for name, pair in self._pairs(call):
            if (pair.source.lower(), pair.target.lower()) == wanted:
                return ModelRef(name)
        source, target = (tag[:20] for tag in wanted)
        raise errors.ModelNotFound(f"no model translates from {source!r} to {target!r}; /languages lists all")


def _shown(question: Question, translations: Sequence[Translation]) -> dict[str, Any]:
    texts: list[str] = [translation.text for translation in translations]
    shown: dict[str, Any] = {"translatedText": texts if question.is_list else texts[0]}
    if question.options.alternatives:
        further = [[other.text for other in one.alternatives or ()] for one in translations]
        shown["alternatives"] = further if question.is_list else further[0]
    return shown
