"""TensorFlow Serving's REST API (tensorflow.org/tfx/serving/api_rest), at paths that are ours too.

`:predict` is told apart by the body: `instances` or `inputs` are theirs.
"""

from seqserve.service.core.gateway import Gateway
from seqserve.service.rest.bodies import Bodies
from seqserve.service.rest.routes import Route
from seqserve.service.rest.surfaces.operations import operation
from seqserve.service.rest.surfaces.tfserving.handlers import Handlers
from seqserve.service.rest.surfaces.tfserving.predict import predict as predict

TAG = "TensorFlow Serving"


def routes(gateway: Gateway, bodies: Bodies, models: str, places: tuple[str, ...]) -> list[Route]:
    """Return its routes, but for those that are ours too.

    Args:
        models: the path of all models.
        places: behind it, the ways to name a version.
    """
    handlers = Handlers(gateway)
    status = operation(TAG, "status", "Tell the states of versions")
    metadata = operation(TAG, "metadata", "Tell the signature")
    refused = {
        verb: operation(TAG, verb, f"Refused: {verb} takes tf.Examples") for verb in ("classify", "regress")
    }
    return [  # the paths with a verb come first: any text without a slash is a version
        *(
            Route("POST", f"{models}{place}:{verb}", handlers.refuse, told)
            for place in places
            for verb, told in refused.items()
        ),
        *(Route("GET", f"{models}{place}/metadata", handlers.metadata, metadata) for place in places),
        *(Route("GET", models + place, handlers.status, status) for place in places[1:]),
    ]
