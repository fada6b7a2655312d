"""A new package for a protocol: complete and installable. Its author then changes it.

`template/` is a working package for a protocol called new-proto. The generator writes it under another name.
"""
