"""Gradients of a package's network, without torch: its backward graph in ONNX, computed by onnxruntime."""
