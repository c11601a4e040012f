"""Tensors to tensors: encoders, gate, alignment. No files but weights, no training, no logging."""
