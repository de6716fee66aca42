"""Providers: what each market-data service is asked and what its answers mean. No I/O."""
