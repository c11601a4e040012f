"""Image encoders behind one contract (base.py)."""
