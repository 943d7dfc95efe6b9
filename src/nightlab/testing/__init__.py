"""Shipped test tools: contract suites for third-party sandboxes and executors."""
