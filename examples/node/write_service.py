"""Writes Triton's gRPC service as a descriptor set, from which any language generates a stub.

python examples/node/write_service.py triton.protoset

`protoc --descriptor_set_in` reads it as well, for the languages that generate beforehand.
"""

import sys
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tritonclient.grpc import service_pb2


def with_imports(file: FileDescriptor) -> list[FileDescriptor]:
    """What a file imports, and then the file."""
    return [*(below for one in file.dependencies for below in with_imports(one)), file]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} OUT")
    files = dict.fromkeys(with_imports(service_pb2.DESCRIPTOR))
    written = FileDescriptorSet(file=[])
    for one in files:
        one.CopyToProto(written.file.add())
    Path(sys.argv[1]).write_bytes(written.SerializeToString())
