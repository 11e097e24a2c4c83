"""How near the native engine comes to what a machine can do, and how it stands beside ONNX Runtime.

================  =============================================================================
file              what it measures
================  =============================================================================
``layers.py``     convolutions of one shape
``decoding.py``   the default voice's decoder: whole, in chunks, its first push, its samples
``encoding.py``   its encoder, for sentences of several lengths
``rounded.py``    the decoder in int8: speed, and what is lost
``speaking.py``   from text to sound beside other engines; memory; loading
``report.py``     what was wanted, and the tables
================  =============================================================================
"""
