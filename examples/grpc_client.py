"""Call the gRPC door with the generated stubs (`pip install seqserve` brings them, without TensorFlow).

    python examples/grpc_client.py [127.0.0.1:9000]

Shows a translation with its alignment, a prediction, and how to read the reason of an error.
"""

import sys

import grpc
from google.rpc import error_details_pb2, status_pb2

from seqserve.v1 import sequence_pb2, sequence_pb2_grpc, translation_pb2, translation_pb2_grpc


def translate(channel: grpc.Channel, text: str) -> None:
    """Translate a text and show which source word each target word attends to most."""
    request = translation_pb2.TranslateRequest(
        model={"name": "en-de"}, texts=[text], options={"alignment": True}
    )
    response = translation_pb2_grpc.TranslationServiceStub(channel).Translate(request, timeout=5)
    result = response.results[0]
    if result.WhichOneof("outcome") == "error":
        print("this text failed:", result.error.message)
        return
    best = result.translation
    print(f"{best.text}  (score {best.score:.3f}, {response.model.name} version {response.model.version})")
    for word, row in zip(best.target_tokens, best.alignment, strict=True):
        weights = list(row.weights)
        print(f"  {word:12} <- {best.source_tokens[weights.index(max(weights))]}")


def predict(channel: grpc.Channel) -> None:
    """Predict what follows three events."""
    request = sequence_pb2.PredictRequest(model={"name": "shop"}, top_k=3)
    features = request.sequences.add().features
    features["event"].strings.values.extend(["visit", "search", "view"])
    features["minutes"].numbers.values.extend([0, 0.5, 2])
    response = sequence_pb2_grpc.SequenceServiceStub(channel).Predict(request, timeout=5)
    heads = response.results[0].prediction.heads
    for guess in heads["next_event"].class_answer.top:
        print(f"  {guess.label:10} {guess.probability:.2f}")
    time = heads["minutes_to_next"].value_answer
    print(f"  in {time.value:.1f} {time.unit}")


def reason_of(error: grpc.RpcError) -> str:
    """Return the stable reason in an error's details: what a program should decide by."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            if any(detail.Unpack(info) for detail in status_pb2.Status.FromString(value).details):
                return info.reason
    return error.code().name


def main() -> None:
    """Show one call of each kind, and one that fails."""
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000"
    with grpc.insecure_channel(address) as channel:
        translate(channel, "Tuesday, November 24, 2026")
        predict(channel)
        try:
            translate(channel, "")
        except grpc.RpcError as error:
            print("as expected:", reason_of(error), "-", error.details())


if __name__ == "__main__":
    main()
