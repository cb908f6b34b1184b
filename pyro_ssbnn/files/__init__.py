"""Files: fits and pruned networks without pickle, ONNX, and writing that an interruption cannot break."""
