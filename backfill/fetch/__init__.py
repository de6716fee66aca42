"""Asking: one client that sends requests within the quota."""
