"""The Open Inference Protocol, version 2, by REST (github.com/kserve/open-inference-protocol), under /v2."""

from seqserve.service.core.gateway import Gateway
from seqserve.service.rest.bodies import Bodies
from seqserve.service.rest.routes import Route
from seqserve.service.rest.surfaces.openinference.bodies import ASKED, RAW
from seqserve.service.rest.surfaces.openinference.handlers import Handlers
from seqserve.service.rest.surfaces.operations import operation

PLACE = "v2"
"""The first part of its paths."""
TAG = "Open Inference Protocol"
MODELS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def routes(gateway: Gateway, bodies: Bodies) -> list[Route]:
    """Return its routes."""
    handlers = Handlers(gateway, bodies)
    told = {
        name: operation(TAG, name, summary)
        for name, summary in (
            ("server", "Tell what serves"),
            ("live", "Is the process alive?"),
            ("ready", "Can it be called?"),
            ("model", "Tell what a model takes and gives"),
            ("model_ready", "Can a model be called?"),
        )
    }
    infer = operation(TAG, "infer", "Ask a model by named tensors", ASKED, body_type=RAW, answer_type=RAW)
    return [
        Route("GET", "/v2", handlers.server, told["server"]),
        Route("GET", "/v2/health/live", handlers.live, told["live"], is_open=True),
        Route("GET", "/v2/health/ready", handlers.ready, told["ready"], is_open=True),
        *(Route("POST", f"{model}/infer", handlers.infer, infer) for model in MODELS),
        *(Route("GET", f"{model}/ready", handlers.model_ready, told["model_ready"]) for model in MODELS),
        *(Route("GET", model, handlers.model, told["model"]) for model in MODELS),
    ]
