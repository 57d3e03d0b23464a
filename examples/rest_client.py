"""Call the REST door with nothing but Python's standard library.

    python examples/rest_client.py [http://127.0.0.1:8000]

Translates two texts, one of them too long, and predicts what a visitor does next: a list in gives a list of
the same length and order out, and an item that fails carries its error and harms no other.
"""

import json
import sys
import urllib.error
import urllib.request


def call(url: str, body: dict) -> dict:
    """Post a JSON body; a request that fails prints its problem (RFC 9457) and ends the program."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", "Grpc-Timeout": "5S"}
    )
    try:
        with urllib.request.urlopen(request) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        problem = json.load(error)
        sys.exit(f"{problem['reason']}: {problem['detail']} (request {problem['request_id']})")


def main() -> None:
    """Show one call of each kind."""
    models = (sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000") + "/v1/models"

    answer = call(f"{models}/en-de:translate", {"texts": ["Tuesday, November 24, 2026", "9" * 5000]})
    print("answered by", answer["model"]["name"], "version", answer["model"]["version"])
    for item in answer["translations"]:
        print(" ", item.get("text") or item["error"]["reason"])

    journey = {"event": ["visit", "search", "view"], "minutes": [0, 0.5, 2]}
    answer = call(f"{models}/shop:predict", {"sequences": [journey], "top_k": 3})
    heads = answer["predictions"][0]["heads"]
    for guess in heads["next_event"]["top"]:
        print(f"  {guess['label']:10} {guess['probability']:.2f}")
    print(f"  in {heads['minutes_to_next']['value']:.1f} {heads['minutes_to_next']['unit']}")


if __name__ == "__main__":
    main()
