"""The cost of a protocol: whole runs, measured beside other protocols in the same process and the same minutes.

It needs the extra `testing`, because a relay counts the bytes on the wire.
"""
