"""After the run: what is done with finished examples, such as deduplicating a file or exporting it to another format.

Works on any chat JSON Lines file, whether this package wrote it or not, and sends no request.
"""
