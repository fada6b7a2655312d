from streaming_queue.testing import BackendContract

from new_proto.comm import NewProtoCommBackend


class TestNewProto(BackendContract):
    backend_class = NewProtoCommBackend
