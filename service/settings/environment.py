"""Which variables are settings of ours, and which only look like it; for `service.settings`.

Kubernetes and Docker tell every container of its neighbours by variables: a Service named `seqserve-rest`
becomes SEQSERVE_REST_PORT=tcp://10.0.0.12:8000, SEQSERVE_REST_SERVICE_HOST and more, whatever we mean by it.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

PREFIX = "SEQSERVE_"
OTHERS = frozenset(
    {
        "SEQSERVE_API_KEY",  # the command line's own calls: service.caller
        "SEQSERVE_API_KEY_FILE",
        "SEQSERVE_CA",
        "SEQSERVE_CLIENT_CERT",
        "SEQSERVE_CLIENT_KEY",
        "SEQSERVE_TAG",  # docker-compose.yml
        "SEQSERVE_SECRETS",
        "SEQSERVE_KEEPER",  # deploy/tfserving/start.sh
        "SEQSERVE_KEEPER_SECONDS",
        "SEQSERVE_MODEL_CONFIG",
    }
)
"""What other programs of this project read."""
TESTS = "SEQSERVE_TEST_"
LINK = re.compile(r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?|ENV_\w+)")
"""Names, without prefix, that only an orchestrator makes."""
PORT_LINK, NAME_LINK = re.compile(r"(.+_)?PORT"), re.compile(r"(.+_)?NAME")
ADDRESS = re.compile(r"(tcp|udp|sctp)://.+")


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables with our prefix, sorted.

    Args:
        given: a setting's value, by the setting's field.
        links: variables that tell of an orchestrator's service, and that no program here reads.
        unknown: variables that nobody reads.
    """

    given: Mapping[str, str]
    links: tuple[str, ...]
    unknown: tuple[str, ...]

    def warnings(self, fields: Collection[str]) -> list[str]:
        """Return a sentence for each unknown variable, and one for all links."""
        told = [f"{variable} is ignored: {_advice(variable, fields)}" for variable in self.unknown]
        if self.links:
            told.append(
                f"{', '.join(self.links)}: ignored, as what an orchestrator tells of its services "
                "(Kubernetes: a Service whose name begins with seqserve; enableServiceLinks: false ends it)"
            )
        return told


def sort_out(environ: Mapping[str, str], fields: Collection[str]) -> Environment:
    """Tell settings from other variables; an empty one counts as absent.

    Args:
        fields: the names of the settings.
    """
    given, links, unknown = {}, [], []
    for variable, value in sorted(environ.items()):
        name = variable.upper().removeprefix(PREFIX)
        if name == variable.upper() or not value:
            continue
        if _is_link(name, value):
            links.append(variable)
        elif name.lower() in fields:
            given[name.lower()] = value
        elif variable not in OTHERS and not variable.startswith(TESTS):
            unknown.append(variable)
    return Environment(given, tuple(links), tuple(unknown))


def variable(field: str) -> str:
    """Return the variable of a setting."""
    return f"{PREFIX}{field.upper()}"


def _is_link(name: str, value: str) -> bool:
    by_value = PORT_LINK.fullmatch(name) and ADDRESS.fullmatch(value)
    return bool(LINK.fullmatch(name) or by_value or (NAME_LINK.fullmatch(name) and value.startswith("/")))


def _advice(unknown: str, fields: Collection[str]) -> str:
    names = [field.upper() for field in fields]
    near = get_close_matches(unknown.upper().removeprefix(PREFIX), names, n=1)
    if near:
        return f"there is no such setting; did you mean {PREFIX}{near[0]}?"
    return "there is no such setting; seqserve serve --help names all"
