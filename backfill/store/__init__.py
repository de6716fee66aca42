"""Keeping: the only folder that speaks SQL."""
