"""``python -m backfill``."""

from backfill.cli import main

if __name__ == "__main__":
    main()
