"""Changes what a model server serves, as its operators do: by ModelService.HandleReloadConfigRequest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

END = get_model_status_pb2.ModelVersionStatus.END
IDLE = "idle"


def config_file(
    models: Mapping[str, Path], latest: int = 2, labels: Mapping[str, int] | None = None
) -> ModelServerConfig:
    """Return a configuration of models by name and folder; as text it is a model config file."""
    config = ModelServerConfig()
    config.model_config_list.SetInParent()  # where there is no model, none of those before stays
    for name, folder in models.items():
        model = config.model_config_list.config.add(
            name=name, base_path=str(folder), model_platform="tensorflow"
        )
        model.model_version_policy.latest.num_versions = latest
        model.version_labels.update(labels or {})
    return config


@dataclass(frozen=True, slots=True)
class ModelServer:
    """A running model server, and how a test changes what it serves.

    `idle`: a model's folder, to be served in between; nothing is if None.
    """

    address: str
    idle: Path | None = None

    def serve(self, config: ModelServerConfig) -> None:
        """Have it serve this, loaded afresh, and nothing else; returns once it does.

        A server keeps a version that it has under the same name and number, whatever folder it is to come
        from; so it serves something else in between.
        """
        with grpc.insecure_channel(self.address) as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            _configure(stub, config_file({IDLE: self.idle} if self.idle is not None else {}))
            for model in config.model_config_list.config:
                while any(state != END for state in _states(stub, model.name)):
                    pass
            _configure(stub, config)


def _configure(stub: model_service_pb2_grpc.ModelServiceStub, config: ModelServerConfig) -> None:
    request = model_management_pb2.ReloadConfigRequest(config=config)
    status = stub.HandleReloadConfigRequest(request, timeout=240).status
    assert status.error_code == 0, status.error_message


def _states(stub: model_service_pb2_grpc.ModelServiceStub, name: str) -> Iterator[int]:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=name))
    try:
        for status in stub.GetModelStatus(request, timeout=10).model_version_status:
            yield status.state
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
