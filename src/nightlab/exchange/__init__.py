"""Ledgers in and out: other loops' results read into one form, a study's written in theirs."""

from nightlab.exchange.reading import ImportFailed, read
from nightlab.exchange.values import Ledger, Repair, Row, Segment, Status

__all__ = ["ImportFailed", "Ledger", "Repair", "Row", "Segment", "Status", "read"]
