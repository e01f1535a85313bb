"""Export: networks to ONNX, the parity gate, bundle writing. Imports torch and onnx."""
