"""The anatomical phantom: radiograph studies made from one real chest CT.

Layers, each usable alone: `source` (the real files) -> `base` (compact cleaned volume) -> `anatomy` (a new
patient) -> findings -> `projection` and `xray` (a radiograph and its masks).
"""
