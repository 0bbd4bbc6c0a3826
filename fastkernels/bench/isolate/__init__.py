"""Worker processes and what crosses between them."""
