"""The command line, ``autogen-coord``: looking at a store and steering it, and the demo job."""

from .app import app, main

__all__ = ["app", "main"]
