"""Work for many machines: fetches are enqueued by one, and worked off by any number of others."""
