"""Containers over mutual TLS; imports nothing of ours and only ``gateway`` knows it."""
