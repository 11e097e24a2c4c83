"""One node of a graph, run by itself."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx import ValueInfoProto, helper, numpy_helper

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.match import name_of
from balacoon_tk.runtime.session import Session


def run_node(node: ir.Node, inputs: Mapping[str, AnyArray], model: ir.Model) -> AnyArray:
    """Return the first output of a node, for arrays by the names of its inputs."""
    constants = [numpy_helper.from_array(array, name) for name, array in inputs.items()]
    output = name_of(node.outputs[0])
    graph = helper.make_graph([ir.to_proto(node)], "node", [], [ValueInfoProto(name=output)], constants)
    # By the opset of the graph: what an operator does with its axes may be another thing in a later one.
    opsets = [helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    alone = helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
    return Session(alone).run({})[output]
