"""int8 as ONNX Runtime's kernels multiply it, made of the QDQ pairs of a plain graph."""
