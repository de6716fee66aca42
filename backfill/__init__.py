"""Keeps a Postgres table of OHLC bars complete, current and true."""

__version__ = "0.1.0"
