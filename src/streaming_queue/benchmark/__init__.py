"""What a protocol costs: whole runs over it, measured beside others in the same process and the same minutes.

It needs the extra `testing`, whose relay counts the bytes on the wire.
"""
