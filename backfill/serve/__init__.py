"""What is kept, to look at: pages for people, JSON for programs, over HTTP."""
