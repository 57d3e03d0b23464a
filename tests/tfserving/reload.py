"""Tells a model server what to serve, as its operators do: ModelService.HandleReloadConfigRequest."""

from collections.abc import Mapping
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2


def config_file(
    models: Mapping[str, Path], latest: int = 2, labels: Mapping[str, int] | None = None
) -> model_server_config_pb2.ModelServerConfig:
    """Return a configuration of models by name and folder; as text it is a model config file."""
    config = model_server_config_pb2.ModelServerConfig()
    for name, folder in models.items():
        model = config.model_config_list.config.add(
            name=name, base_path=str(folder), model_platform="tensorflow"
        )
        model.model_version_policy.latest.num_versions = latest
        model.version_labels.update(labels or {})
    return config


def reload(address: str, config: model_server_config_pb2.ModelServerConfig) -> None:
    """Have a server serve this and nothing else; returns once it does."""
    with grpc.insecure_channel(address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        request = model_management_pb2.ReloadConfigRequest(config=config)
        status = stub.HandleReloadConfigRequest(request, timeout=60).status
        assert status.error_code == 0, status.error_message
