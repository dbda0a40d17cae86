"""One Head, Many Heads: the code that every chapter of the book imports.

Import the room where the code lives, for example ``from manyheads.attention import attend``;
``import manyheads`` alone pulls in neither torch nor matplotlib.
"""

__version__ = "1.0.0"
