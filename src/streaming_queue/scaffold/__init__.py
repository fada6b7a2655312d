"""A new package for a protocol: complete and installable, for its author to change.

`template/` is a working package for a protocol called new-proto. The generator writes it under another name.
"""
