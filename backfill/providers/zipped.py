"""A zip file of one member: its bytes, if it is just that, whole, and no larger than it may be."""

import zipfile
from io import BytesIO
from typing import Final

from isal import isal_zlib

from backfill.errors import BadAnswer

_LOCAL_HEADER: Final = 30
"""Bytes of what stands before a member's name; the last four tell how long that and more is."""
_ENCRYPTED: Final = 0x1
_STORED_OR_DEFLATED: Final = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def member_of(body: bytes, name: str, limit: int) -> bytes:
    """Return the one member of a zip file, of a name, of no more bytes than the limit.

    Raises
    ------
    BadAnswer
        If the file is no zip, holds something else, or the member isn't what the file says of it.
    """
    try:
        with zipfile.ZipFile(BytesIO(body)) as file:
            members = file.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise BadAnswer(f"the file is no zip: {error}") from None
    if len(members) != 1 or members[0].filename != name:
        named = ", ".join(repr(one.filename[:80]) for one in members[:3])
        raise BadAnswer(f"the file holds {named or 'nothing'}, not {name!r} alone")
    [member] = members
    if member.flag_bits & _ENCRYPTED or member.compress_type not in _STORED_OR_DEFLATED:
        raise BadAnswer("the file is packed as none of its archive is")
    if member.file_size > limit:
        raise BadAnswer(f"the file says that it unpacks to more than {limit} bytes")
    packed = _packed(body, member)
    if member.compress_type == zipfile.ZIP_STORED:
        unpacked = packed
    else:
        unpacker = isal_zlib.decompressobj(wbits=-15)
        try:
            unpacked = unpacker.decompress(packed, member.file_size + 1)
        except isal_zlib.error as error:  # type: ignore[misc]  # the stub: an instance
            raise BadAnswer(f"the file is broken as zip: {error}") from None
    if len(unpacked) != member.file_size or isal_zlib.crc32(unpacked) != member.CRC:
        raise BadAnswer("the file isn't what it says of itself")
    return unpacked


def _packed(body: bytes, member: zipfile.ZipInfo) -> bytes:
    """Return a member's bytes as they lie in a file, behind a header of its own."""
    at = member.header_offset + _LOCAL_HEADER
    lengths = body[at - 4 : at]
    at += int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    return body[at : at + member.compress_size]
