"""What a user would write, or pick, in place of backfill: each module is run as a command."""
