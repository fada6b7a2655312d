"""A package of one's own for a protocol: complete, installable, to be changed into one's own protocol.

`template/` is a package that works as it is, for a protocol called new-proto; generating is writing it under another
name.
"""
