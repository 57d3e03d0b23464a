"""The test server: stands in TensorFlow Serving's place, in tests and in containers. Its flags are the same.

It needs only tensorflow, tensorflow-serving-api, grpcio and grpcio-health-checking. Other than there, port 0
takes a free one, --host says where to listen, and a poll may take part of a second; a load is not retried,
and an unknown flag ends the start.
"""

import argparse
import logging
import os
import signal
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

IGNORED = (
    "enable_model_warmup",
    "flush_filesystem_caches",
    "grpc_channel_arguments",
    "load_retry_interval_micros",
    "max_num_load_retries",
    "num_load_threads",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
    "remove_unused_fields_from_bundle_metagraph",
    "rest_api_enable_cors_support",
    "rest_api_num_threads",
    "rest_api_timeout_in_ms",
    "tensorflow_inter_op_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_session_config_file",
    "tensorflow_session_parallelism",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
)
START_FAILED = 255


def main() -> None:
    """Serve until a signal ends the process, at once: TensorFlow Serving has no grace either."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))  # else process 1 ignores it
    flags = _flags()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    from tests.tfserving.status import StatusError

    try:
        server = _start(flags)
    except StatusError as error:
        print(f"Failed to start server. Error: {error.code.name}: {error.message}", flush=True)
        os._exit(START_FAILED)  # an interpreter that waits for TensorFlow's threads may crash
    server.wait_for_termination()


def _start(flags: argparse.Namespace) -> Any:
    import tensorflow as tf

    from tests.tfserving import files, rest, server
    from tests.tfserving.batching import Batching
    from tests.tfserving.manager import Manager
    from tests.tfserving.metrics import Metrics
    from tests.tfserving.servable import Servable

    tf.get_logger().setLevel("ERROR")  # else it advises against the loader that is TensorFlow Serving's
    metrics = Metrics()
    parameters = files.read("BatchingParameters", flags.batching_parameters_file)

    def load(name: str, version: int, folder: Path) -> Servable:
        return Servable(
            name, version, folder, metrics, Batching(parameters) if flags.enable_batching else None
        )

    manager = Manager(
        load, flags.file_system_poll_wait_seconds, flags.allow_version_labels_for_unavailable_models
    )
    manager.start(_models(flags))
    if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
        files.follow(flags.model_config_file, flags.model_config_file_poll_wait_seconds, manager.configure)
    tls = files.read("SSLConfig", flags.ssl_config_file) if flags.ssl_config_file else None
    address = f"{flags.host}:{flags.port}"
    started, port = server.serve(
        address, manager, metrics, flags.grpc_max_threads, flags.enable_grpc_healthcheck_service, tls
    )
    monitoring = files.read("MonitoringConfig", flags.monitoring_config_file).prometheus_config
    path = (monitoring.path or rest.METRICS_PATH) if monitoring.enable else None
    rest_port = rest.serve(flags.host, flags.rest_api_port, manager, metrics, path)
    print(f"serving gRPC on {flags.host}:{port}, REST on {flags.host}:{rest_port}", flush=True)
    return started


def _models(flags: argparse.Namespace) -> Any:
    from tests.tfserving import files
    from tests.tfserving.status import invalid

    if flags.model_config_file:
        return files.model_server_config(flags.model_config_file)
    if not flags.model_base_path:
        raise invalid("Both server_options.model_base_path and server_options.model_config_file are empty!")
    config = files.model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=flags.model_name, base_path=flags.model_base_path, model_platform="tensorflow"
    )
    return config


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.tfserving", description=__doc__, allow_abbrev=False)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8500)
    parser.add_argument("--rest_api_port", type=int, default=0)
    for name in (
        "model_config_file",
        "monitoring_config_file",
        "batching_parameters_file",
        "ssl_config_file",
    ):
        parser.add_argument(f"--{name}", type=_path)
    parser.add_argument("--model_name", default="default")
    parser.add_argument("--model_base_path")
    parser.add_argument("--file_system_poll_wait_seconds", type=float, default=1.0)
    parser.add_argument("--model_config_file_poll_wait_seconds", type=float, default=0.0)
    parser.add_argument("--grpc_max_threads", type=int, default=4 * (os.cpu_count() or 1))
    for name in (
        "enable_batching",
        "enable_grpc_healthcheck_service",
        "allow_version_labels_for_unavailable_models",
    ):
        parser.add_argument(f"--{name}", type=_truth, nargs="?", const=True, default=False)
    for name in IGNORED:
        parser.add_argument(f"--{name}", help="ignored")
    return parser.parse_args()


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false")
    return text.lower() in ("true", "1")


if __name__ == "__main__":
    main()
