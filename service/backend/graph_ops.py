"""What a graph may do to its host: compute, and read the files of its own version.

A SavedModel is a program: operations of TensorFlow read and write any file, open connections and run code. A
version that holds one is refused, by `check` before it ships and by the embedded backend before it is loaded.
Allowed are operations on files whose names the loader alone gives, which are the version's own: it feeds the
placeholders of the assets and of the saver. No TensorFlow is needed here.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from seqserve.service.backend.op_rules import FORBIDDEN, NAMED, STRING_WRITERS, WORDED
from seqserve.service.contract.bounds import in_one_line
from seqserve.service.errors import UnsafeOp

Value = TypeVar("Value")
DT_STRING = 7  # tensorflow/core/framework/types.proto
LONGEST_NAME = 200


def check_graph(saved: Any) -> None:
    """Look at every node of a SavedModel message, in its graphs and in their functions.

    Raises:
        UnsafeOp: one may read, write or run what is not the version's own; node and operation are named.
    """
    for meta in saved.meta_graphs:
        for asset in meta.asset_file_def:
            if asset.filename.startswith("/") or ".." in asset.filename.split("/"):
                raise UnsafeOp(f"asset {_shown(asset.filename)} does not lie in assets/")
        graph = _Graph(meta)
        for scope, nodes in graph.nodes.items():
            for node in nodes.values():
                try:
                    why = graph.why_not(scope, node)
                except RecursionError:
                    why = "takes a file's name that is made in too many steps to be followed"
                if why:
                    where = f" of function {_shown(scope)}" if scope else ""
                    raise UnsafeOp(f"node {_shown(node.name)}{where} is a {node.op}: it {why}")


@dataclass(frozen=True, slots=True)
class _Origin:
    """The node that makes a value; none where that is not in the graph, or cannot be told."""

    scope: str = ""
    node: Any = None

    @property
    def op(self) -> str:
        """The node's operation."""
        return self.node.op if self.node is not None else ""

    @property
    def variable(self) -> str:
        """The name by which a VarHandleOp finds its variable: two may find the same."""
        return _text(self.node, "shared_name").decode(errors="replace") or self.node.name


@dataclass(frozen=True, slots=True)
class _Call:
    """Where a function is called, and the values that it is given; none where they cannot be told."""

    scope: str
    inputs: tuple[str, ...]


class _Graph:
    """A graph and its functions: `nodes` are by the function's name, those of the graph itself by "".

    Values are written as inputs are: `node`, `node:1`, in functions `node:output:1`, or an argument's name.
    """

    def __init__(self, meta: Any) -> None:
        functions = meta.graph_def.library.function
        self._functions = _by_name((f.signature.name, f) for f in functions)
        bodies = [("", meta.graph_def.node), *((f.signature.name, f.node_def) for f in functions)]
        self.nodes = _by_name((name, _by_name((n.name, n) for n in nodes)) for name, nodes in bodies)
        inputs = (tensor for signature in meta.signature_def.values() for tensor in signature.inputs.values())
        self._fed = {_tensor(tensor.name) for tensor in inputs}
        named = (asset.tensor_info.name for asset in meta.asset_file_def)
        self._of_loader = {_tensor(name) for name in (*named, meta.saver_def.filename_tensor_name)}
        self._calls: dict[str, list[_Call]] = {}
        for scope, nodes in self.nodes.items():
            for node in nodes.values():
                self._note_calls(scope, node)
        self._own_variables: dict[str, bool] = {}
        self._asked: dict[tuple[str, str, str], bool] = {}  # what, scope and value

    def why_not(self, scope: str, node: Any) -> str:
        """Return why a node may not be there, empty if it may."""
        if node.op in FORBIDDEN:
            return FORBIDDEN[node.op]
        if any(value.placeholder for value in node.attr.values()):
            return "has an attribute that only its function's callers know"
        attribute, allowed = WORDED.get(node.op, ("", ()))
        if (word := _text(node, attribute)) and not word.startswith(allowed):
            return f"takes a file as its {attribute}"
        inputs, places = _inputs(node), NAMED.get(node.op, ())
        if all(place < len(inputs) and self._is_own(scope, inputs[place]) for place in places):
            return ""
        return "takes a file's name from elsewhere than the loader of the version's assets and variables"

    def _note_calls(self, scope: str, node: Any) -> None:
        """Note the functions that a node calls: by its operation, plainly, or in ways not looked into."""
        called = [(node.op, _inputs(node))]
        for attribute, value in node.attr.items():
            is_plain = attribute == "f" and node.op in ("PartitionedCall", "StatefulPartitionedCall")
            inputs = _inputs(node) if is_plain else ()
            called += [(function.name, inputs) for function in (value.func, *value.list.func)]
        for name, inputs in called:
            if name in self._functions:
                self._calls.setdefault(self._group(name), []).append(_Call(scope, inputs))

    def _group(self, function: str) -> str:
        """Return what a function has in common with those that TensorFlow may run in its place."""
        attributes = self._functions[function].attr
        swapped = (value.s for name, value in attributes.items() if name.endswith("api_implements"))
        return next((f"as {name!r}" for name in swapped), function)

    def _is_own(self, scope: str, value: str) -> bool:
        """Return whether a file's name is the loader's, or made of one."""
        return self._each_origin("own", scope, value, self._is_own_origin)

    def _each_origin(self, what: str, scope: str, value: str, holds: Callable[[_Origin], bool]) -> bool:
        """Return whether something holds of every node that a value may come from; asked once of each value.

        Of values that are made of one another, each level would be asked about twice as often as the last.
        One made of itself adds nothing: what else it is made of decides, and a single no refuses the graph.
        """
        key = (what, scope, value)
        if key not in self._asked:
            self._asked[key] = True
            self._asked[key] = all(holds(origin) for origin in self._origins(scope, value))
        return self._asked[key]

    def _is_own_origin(self, origin: _Origin) -> bool:
        scope, node = origin.scope, origin.node
        match origin.op:
            case "Placeholder":
                return not scope and _tensor(node.name) in self._of_loader
            case "ReadVariableOp":
                return all(self._is_own_variable(handle) for handle in self._origins(scope, node.input[0]))
            case "ShardedFilename":
                return self._is_own(scope, node.input[0])
            case "Pack":
                return all(self._is_own(scope, value) for value in _inputs(node))
            case "StringJoin":
                first, *rest = _inputs(node)
                is_plain = not _text(node, "separator") and all(self._is_suffix(scope, v) for v in rest)
                return is_plain and self._is_own(scope, first)
        return False

    def _is_suffix(self, scope: str, value: str) -> bool:
        """Return whether a text is a constant that leads nowhere else when it is put behind a path."""
        return self._each_origin("suffix", scope, value, self._is_suffix_origin)

    def _is_suffix_origin(self, origin: _Origin) -> bool:
        if origin.op == "Select":
            return all(self._is_suffix(origin.scope, value) for value in _inputs(origin.node)[1:])
        if origin.op != "Const" or "value" not in origin.node.attr:
            return False
        return all(b".." not in text for text in origin.node.attr["value"].tensor.string_val)

    def _is_own_variable(self, handle: _Origin) -> bool:
        """Return whether a variable of strings is given nothing but names that are the loader's."""
        if handle.op != "VarHandleOp":
            return False
        name = handle.variable
        if name not in self._own_variables:
            self._own_variables[name] = True  # where it is given its own value
            nodes = ((scope, node) for scope, nodes in self.nodes.items() for node in nodes.values())
            writers = ((scope, node) for scope, node in nodes if node.op.startswith(STRING_WRITERS))
            self._own_variables[name] = all(self._may_write(scope, node, name) for scope, node in writers)
        return self._own_variables[name]

    def _may_write(self, scope: str, node: Any, variable: str) -> bool:
        """Return whether a node leaves a variable of strings alone, or gives it a name of the loader's."""
        if not any(DT_STRING in (value.type, *value.list.type) for value in node.attr.values()):
            return True
        written = list(self._origins(scope, node.input[0]))
        if all(handle.op == "VarHandleOp" and handle.variable != variable for handle in written):
            return True
        return node.op == "AssignVariableOp" and self._is_own(scope, node.input[1])

    def _origins(self, scope: str, value: str) -> Iterator[_Origin]:
        """Yield the nodes that a value may come from, through functions and what passes it on unchanged."""
        seen: set[tuple[str, str]] = set()
        left = [(scope, value)]
        while left:
            scope, value = place = left.pop()
            if place in seen:
                continue
            seen.add(place)
            name = value.partition(":")[0]
            node = self.nodes[scope].get(name)
            if not scope and _tensor(value) in self._fed:
                yield _Origin()
            elif node is None:
                given = self._given(scope, name)
                left += given
                if not given:
                    yield _Origin()
            elif node.op == "Identity":
                left.append((scope, node.input[0]))
            else:
                yield _Origin(scope, node)

    def _given(self, function: str, argument: str) -> list[tuple[str, str]]:
        """Return where an argument comes from, as scope and value a call; none if it cannot be told."""
        arguments = self._functions[function].signature.input_arg if function else ()
        has_lists = any(each.number_attr or each.type_list_attr for each in arguments)
        place = next((n for n, each in enumerate(arguments) if each.name == argument), None)
        calls = self._calls.get(self._group(function), []) if function else []
        if place is None or has_lists or any(place >= len(call.inputs) for call in calls):
            return []
        return [(call.scope, call.inputs[place]) for call in calls]


def _by_name(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Return what has a name; of two with the same, TensorFlow might run the one that was not looked at."""
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise UnsafeOp(f"{_shown(name)} stands for two nodes or functions")
        found[name] = value
    return found


def _inputs(node: Any) -> tuple[str, ...]:
    """Return a node's inputs without those that only say what comes first."""
    return tuple(value for value in node.input if not value.startswith("^"))


def _tensor(value: str) -> str:
    return value if ":" in value else f"{value}:0"


def _text(node: Any, attribute: str) -> bytes:
    """Return an attribute, empty where it is absent; to index the message's map would put it there."""
    return bytes(node.attr[attribute].s) if attribute in node.attr else b""


def _shown(name: str) -> str:
    return in_one_line(repr(name[:LONGEST_NAME]))
