"""A report of one audited run: a page that needs nothing but a browser, and the same numbers as Markdown."""
