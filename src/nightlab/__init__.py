"""nightlab runs autoresearch overnight and tells the truth in the morning.

Importing this package is silent and quick: no files, clock, network or environment
are read, and no heavy library is loaded. The tree is the architecture; see
``docs/structure.md``.
"""

__version__ = "0.1.0"
