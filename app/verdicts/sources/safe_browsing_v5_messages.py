"""The messages of Safe Browsing v5 that are read here, described for the protobuf library.

Only the fields that are used; a parser passes over the others. Numbers and types as in
``google/security/safebrowsing/v5/safebrowsing.proto`` (https://github.com/googleapis/googleapis).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory

PACKAGE: Final = "google.security.safebrowsing.v5"
_ADDITIONS: Final = "compressed_additions"

# Message -> field -> (number, type). A type in capitals is a message; "*" is repeated, "|" one of several.
_MESSAGES: Final[Mapping[str, Mapping[str, tuple[int, str]]]] = MappingProxyType(
    {
        "SearchHashesResponse": {"full_hashes": (1, "*FullHash"), "cache_duration": (2, "Duration")},
        "FullHash": {"full_hash": (1, "bytes"), "full_hash_details": (2, "*FullHashDetail")},
        # Enumerations are read as numbers: new ones may come at any time.
        "FullHashDetail": {"threat_type": (1, "int32"), "attributes": (2, "*int32")},
        "BatchGetHashListsResponse": {"hash_lists": (1, "*HashList")},
        "HashList": {
            "name": (1, "string"),
            "version": (2, "bytes"),
            "partial_update": (3, "bool"),
            "additions_four_bytes": (4, "|RiceDeltaEncoded32Bit"),
            "compressed_removals": (5, "RiceDeltaEncoded32Bit"),
            "minimum_wait_duration": (6, "Duration"),
            "sha256_checksum": (7, "bytes"),
            "additions_eight_bytes": (9, "|RiceDeltaEncoded64Bit"),
            "additions_sixteen_bytes": (10, "|RiceDeltaEncoded128Bit"),
            "additions_thirty_two_bytes": (11, "|RiceDeltaEncoded256Bit"),
        },
        "RiceDeltaEncoded32Bit": {
            "first_value": (1, "uint32"),
            "rice_parameter": (2, "int32"),
            "entries_count": (3, "int32"),
            "encoded_data": (4, "bytes"),
        },
        "RiceDeltaEncoded64Bit": {
            "first_value": (1, "uint64"),
            "rice_parameter": (2, "int32"),
            "entries_count": (3, "int32"),
            "encoded_data": (4, "bytes"),
        },
        "RiceDeltaEncoded128Bit": {
            "first_value_hi": (1, "uint64"),
            "first_value_lo": (2, "fixed64"),
            "rice_parameter": (3, "int32"),
            "entries_count": (4, "int32"),
            "encoded_data": (5, "bytes"),
        },
        "RiceDeltaEncoded256Bit": {
            "first_value_first_part": (1, "uint64"),
            "first_value_second_part": (2, "fixed64"),
            "first_value_third_part": (3, "fixed64"),
            "first_value_fourth_part": (4, "fixed64"),
            "rice_parameter": (5, "int32"),
            "entries_count": (6, "int32"),
            "encoded_data": (7, "bytes"),
        },
    }
)


@lru_cache(maxsize=1)
def _pool() -> descriptor_pool.DescriptorPool:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="safebrowsing_v5_read_here.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=["google/protobuf/duration.proto"],
    )
    for message, fields in _MESSAGES.items():
        made = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            plain = kind.lstrip("*|")
            one = made.field.add(
                name=name, number=number, label=field.LABEL_REPEATED if kind[0] == "*" else field.LABEL_OPTIONAL
            )
            if plain == "Duration":
                one.type, one.type_name = field.TYPE_MESSAGE, ".google.protobuf.Duration"
            elif plain in _MESSAGES:
                one.type, one.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{plain}"
            else:
                one.type = field.Type.Value(f"TYPE_{plain.upper()}")
            if kind[0] == "|":
                if not made.oneof_decl:
                    made.oneof_decl.add(name=_ADDITIONS)
                one.oneof_index = 0
    # A pool of its own: another library in this process may bring the whole description.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(duration_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


@lru_cache(maxsize=16)
def message_class(name: str) -> Any:
    """The class of a message.

    Args:
        name: Without the package.
    """
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))
