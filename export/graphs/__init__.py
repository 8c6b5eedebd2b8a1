"""From networks and weights to ONNX graphs."""
