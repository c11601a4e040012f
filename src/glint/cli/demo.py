"""`glint demo`."""


def demo() -> None:
    """Demo."""
