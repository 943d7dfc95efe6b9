"""Does the judge tell the truth, and what does that cost? Simulated nights, real decisions.

``python -m bench.judge`` prints the table that ``docs/judging.md`` explains. Every decision
in it is made by ``nightlab.judge``; only the training runs are simulated.
"""
