"""How it stands, as a page to look at: facts made of what was looked up, and HTML made of those."""
