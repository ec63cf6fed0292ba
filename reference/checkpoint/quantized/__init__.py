"""Directories whose config.json has a `quantization_config`: AWQ, GPTQ, compressed-tensors and FP8.

What other tools stored becomes small integers and scales of N4g, or floats of N3, matrix by matrix.
"""
