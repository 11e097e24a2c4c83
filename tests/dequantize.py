"""Undo dynamic quantization: the graph that an int8 one stands for, in floating point.

`DynamicQuantizeLinear` looks at the whole tensor, so an int8 graph can't be streamed exactly; the
network behind it often can. Here its scale becomes 1 and its zero point 0, which leaves the weights'
own scales where they are.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT_FORM = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}


def dequantize(model):
    """Return a copy of a graph in which nothing is quantized dynamically."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    renamed = {}
    nodes = []
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "DynamicQuantizeLinear":
            renamed[node.output[0]] = node.input[0]
            graph.initializer.append(numpy_helper.from_array(np.float32(1), node.output[1]))
            continue
        if node.op_type in FLOAT_FORM:
            source, weight = node.input[:2]
            zero = numpy_helper.to_array(weights[node.input[3]]) if len(node.input) > 3 else 0
            array = numpy_helper.to_array(weights[weight]).astype(np.float32) - np.float32(zero)
            name = f"{node.output[0]}_weight"
            graph.initializer.append(numpy_helper.from_array(array, name))
            attributes = node.attribute
            node = helper.make_node(FLOAT_FORM[node.op_type], [source, name], node.output, node.name)
            node.attribute.extend(attributes)
        elif node.name.endswith(".bias_quantized_node"):  # the bias is added to the whole numbers
            node.attribute[0].i = TensorProto.FLOAT
        nodes.append(node)
    del graph.node[:], graph.value_info[:]  # the types have changed
    graph.node.extend(nodes)
    return result
