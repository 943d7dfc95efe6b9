"""What researchers are asked, and what is done about their answers.

``Thinker`` is what the loop sees; the researchers think in a thread of their own.
"""

from nightlab.thinking.thinker import Thinker

__all__ = ["Thinker"]
