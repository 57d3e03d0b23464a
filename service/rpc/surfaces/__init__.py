"""Other protocols over gRPC, a folder each: services, and their messages to what the gateway is asked."""

from seqserve.service.core.gateway import Gateway
from seqserve.service.rpc.servicers import Services
from seqserve.service.rpc.surfaces import openinference, tfserving


def surface_services(gateway: Gateway) -> Services:
    """Return the methods of all."""
    return {**openinference.services(gateway), **tfserving.services(gateway)}
