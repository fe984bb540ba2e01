"""loopmark compares event loops by giving every one of them the same, proven work."""

__version__ = "0.1.0"
