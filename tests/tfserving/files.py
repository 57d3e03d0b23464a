"""The configuration files, in protobuf's text form.

tensorflow-serving-api lacks the messages of three of them, so they are declared here, under names of our own.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from tests.tfserving.status import StatusError

log = logging.getLogger(__name__)
PACKAGE = "seqserve.tests.tfserving"
BOOL, STRING, INT64 = (
    descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
)
MESSAGES: dict[str, dict[str, int | str]] = {
    "PrometheusConfig": {"enable": BOOL, "path": STRING},
    "MonitoringConfig": {"prometheus_config": f".{PACKAGE}.PrometheusConfig"},
    "SSLConfig": {"server_key": STRING, "server_cert": STRING, "custom_ca": STRING, "client_verify": BOOL},
    "BatchingParameters": {
        "max_batch_size": ".google.protobuf.Int64Value",
        "batch_timeout_micros": ".google.protobuf.Int64Value",
        "max_enqueued_batches": ".google.protobuf.Int64Value",
        "num_batch_threads": ".google.protobuf.Int64Value",
        "thread_pool_name": ".google.protobuf.StringValue",
        "enable_large_batch_splitting": ".google.protobuf.BoolValue",
        "max_execution_batch_size": ".google.protobuf.Int64Value",
        "allowed_batch_sizes": INT64,
        "pad_variable_length_inputs": BOOL,
    },
}
REPEATED = {"allowed_batch_sizes"}


def model_server_config(path: Path) -> model_server_config_pb2.ModelServerConfig:
    """Read --model_config_file."""
    return text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())


def follow(
    path: Path, seconds: float, configure: Callable[[model_server_config_pb2.ModelServerConfig], None]
) -> None:
    """Read --model_config_file again and again, changed or not; what is no good is logged and left."""

    def watch() -> None:
        while True:
            try:
                configure(model_server_config(path))
            except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
                log.error("Failed to read ModelServerConfig file: %s", error)
            except StatusError as error:
                log.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error.message)
            time.sleep(seconds)

    threading.Thread(target=watch, name="model_config_file", daemon=True).start()


def read(message: str, path: Path | None) -> Any:
    """Read one of MESSAGES; an empty one where there is no file."""
    return text_format.Parse(path.read_text() if path else "", _class(message)())


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="tests/tfserving.proto", package=PACKAGE, syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            made = message.field.add(name=field, number=number, label=3 if field in REPEATED else 1)
            if isinstance(kind, str):
                made.type, made.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, kind
            else:
                made.type = kind  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    pool.Add(file)
    return pool


def _class(message: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{message}"))
