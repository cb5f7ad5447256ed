"""Fakes and contract tests for implementers."""
