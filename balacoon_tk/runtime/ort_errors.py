"""What ONNX Runtime's errors say, without its codes, places in its source and advice to whoever calls it.

Its own words follow where they aren't known here; the exception itself stays the cause of what is raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
# Of a check that failed within: the file, the line, the function and the condition in C++.
_PLACE = re.compile(r"^/\S+:\d+ .*? was false\. ", re.DOTALL)
_AXIS = re.compile(r"index: (\d+) Got: (\d+) Expected: (\d+)")


def _axes(found: re.Match[str]) -> str:
    wrong = _AXIS.findall(found[2])
    axes = (f"{got} on axis {axis}, where {wanted} is needed" for axis, got, wanted in wrong)
    return f"input {found[1]!r} has {' and '.join(axes)}"


def _failed_node(found: re.Match[str]) -> str:
    return f"{found[1]} node {found[2]!r}: {_PLACE.sub('', found[3])}"


_KNOWN: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"Got invalid dimensions for input: (.+?) for the following indices(.*)", re.DOTALL), _axes),
    (
        re.compile(r"Invalid rank for input: (.+?) Got: (\d+) Expected: (\d+)"),
        lambda found: f"input {found[1]!r} has {found[2]} axes, where {found[3]} are needed",
    ),
    (
        re.compile(r"Could not find an implementation for (\w+)\(\d+\) node with name '(.*?)'"),
        lambda found: f"no kernel has the types of {found[1]} node {found[2]!r}: export it in float32",
    ),
    (
        re.compile(r"Fatal error: (?:(.*):)?(\w+)\(-?\d+\) is not a registered function/op"),
        lambda found: f"operator {found[2]} of domain {found[1] or 'ai.onnx'!r} is unknown to it",
    ),
    (
        re.compile(r"No Op registered for (\w+) with domain_version of (\d+)"),
        lambda found: f"operator {found[1]} of opset {found[2]} is unknown to it",
    ),
    (re.compile("[Pp]rotobuf parsing failed"), lambda _: "the file is damaged, or holds no ONNX graph"),
    (
        re.compile(r"returned while running (\w+) node\. Name:'(.*?)' Status Message: (.*)", re.DOTALL),
        _failed_node,
    ),
)


def reason(error: Exception) -> str:
    """Return what an error of ONNX Runtime says about the graph or the inputs, in one line."""
    text = _CODE.sub("", str(error))
    said = next((say(found) for known, say in _KNOWN if (found := known.search(text))), text)
    return " ".join(said.split())
