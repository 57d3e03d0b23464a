"""Call the service by its client, through either door (`pip install 'seqserve-client[grpc]'`).

    python examples/client.py [http://127.0.0.1:8000 | grpc://127.0.0.1:9000]

Translates two texts, one of them too long; shows which word attends to which; predicts what a visitor does
next, from the whole journey and event by event; and reads why a call failed.
"""

import sys

from seqserve.client import ClassAnswer, Client, Prediction, Translation, ValueAnswer, errors


def translate(client: Client) -> None:
    """Translate a list: an item that fails has its error in its place and harms no other."""
    answers = client.translate("en-de", ["Tuesday, November 24, 2026", "9" * 5000], alignment=True)
    print("answered by", answers.model.name, "version", answers.model.version)
    for item in answers.items:
        if isinstance(item, Translation):
            print(" ", item.text)
            for word, weights in zip(item.target_tokens, item.alignment, strict=True):
                print(f"    {word:12} <- {item.source_tokens[weights.index(max(weights))]}")
        else:
            print(" ", item.reason)


def show(prediction: Prediction) -> None:
    """Print what a visitor does next, and when."""
    following, wait = prediction.heads["next_event"], prediction.heads["minutes_to_next"]
    if isinstance(following, ClassAnswer) and isinstance(wait, ValueAnswer):
        guesses = ", ".join(f"{guess.label} {guess.probability:.2f}" for guess in following.top)
        print(f"  {guesses}; in {wait.value:.1f} {wait.unit}")


def predict(client: Client) -> None:
    """Predict from a whole sequence, then from the same as it happens."""
    (item,) = client.predict("shop", [{"event": ["visit", "search"], "minutes": [0, 0.5]}], top_k=3).items
    if isinstance(item, errors.ServiceError):
        raise item
    show(item)
    with client.session("shop") as session:
        show(session.append({"event": ["visit"], "minutes": [0]}, top_k=3))
        show(session.append({"event": ["search"], "minutes": [0.5]}, top_k=3))


def main() -> None:
    """Show one call of each kind, and one that fails."""
    with Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000") as client:
        translate(client)
        predict(client)
        try:
            client.translate("en-de", [""])
        except errors.EmptyText as error:
            print("as expected:", error)


if __name__ == "__main__":
    main()
