"""Receipts of answers: what was asked, what was answered to the bit, and how it is recomputed (docs/receipts.md)."""
