#!/usr/bin/env python3
"""The second reader: gets the files out of a heirloom repository with nothing but this program.

It is written from SPEC.md alone, and shares no code with heirloom. It is slow and simple, and never writes to the repository.

How to get your data out:

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    export HEIRLOOM_PASSWORD='the password'   # or HEIRLOOM_RECOVERY='the fifteen words'; neither, if the repository has no password
    venv/bin/python read_repo.py REPO list                # one line of JSON for each snapshot, oldest first
    venv/bin/python read_repo.py REPO extract latest DIR
    venv/bin/python read_repo.py REPO extract 3fa9 DIR    # ... or an id, or the first digits of one

DIR must be new or empty. Afterwards it is the backup folder, as Finder or iTunes left it: files lie at their places
(`3d/3d0d7e5f...`) with their modification times, and Manifest.db says which file of the phone each of them was.
What is damaged is reported and left out; the exit status is 1 then. With --no-index, the index is not read at all; every pack is asked
what it holds.

If the packages are gone one day: Argon2id (RFC 9106), AES-256-GCM, ChaCha20-Poly1305 (RFC 8439), BLAKE3, and Zstandard (RFC 8878) are
all it takes. The sections named below are those of SPEC.md.
"""

import argparse
import hashlib
import json
import os
import re
import struct
import sys
import unicodedata
from dataclasses import dataclass
from types import MappingProxyType

import argon2.low_level
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

MAGIC, END_MAGIC = b"heirloom", b"heir-end"
HEADER, TAG, BLOCK = 64, 16, 1 << 20
TRAILER = HEADER + 12
DATA_PACK, TREE_PACK, SEGMENT, SNAPSHOT = 1, 2, 3, 4
MAX_FILE_KIND = 10
PACK_FOLDERS = {DATA_PACK: "packs", TREE_PACK: "trees"}
DATA, NODE, LIST = 1, 2, 3
RAW, ZSTD, DELTA = 0, 1, 2
FILE, DIRECTORY, LINK = 1, 2, 3
DIRECTORY_FRAME = 0xFFFF_FFFF
MAX_PACK, MAX_PACK_CHUNKS, MAX_DIRECTORY, MAX_FRAME = 2**31 - 1, 65_535, 4 << 20, 16 << 20
MAX_SEGMENT, MAX_ENTRIES, MAX_TEXT, MAX_NODE, MAX_SNAPSHOT = 1 << 30, 1 << 28, 64 << 10, 1 << 20, 1 << 20
MAX_NODE_KEYS = 4 << 20
MAX_DELTAS, MAX_TREE_LEVELS, MAX_LIST_LEVELS, MAX_LIST_ITEMS, MAX_ENTRY_CHUNKS = 8, 16, 4, 4096, 32
MAX_KEPT = 256 << 20  # bytes of decoded frames that are kept in memory
CIPHERS = {"aes-256-gcm": AESGCM, "chacha20-poly1305": ChaCha20Poly1305}
KNOWN_NEEDS = frozenset()
SLOT_KINDS = {"password", "recovery", "open"}


class Refused(Exception):
    """What was read is not what SPEC.md allows; the text says what and why."""


class WrongPassword(Refused):
    """A slot is whole, but its tag does not verify under the key that was given."""


class Newer(Refused):
    """What was read is well sealed, or in a file that has its name, but only a newer program knows it; that is no damage."""

    def __init__(self, what):
        super().__init__(f"{what}: it needs a newer program")


def known(condition, what):
    if not condition:
        raise Newer(what)


def require(condition, why):
    if not condition:
        raise Refused(why)


# ---- numbers and bytes


class Cursor:
    """Reads bytes from front to back; refuses to read past their end."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, n):
        require(n <= self.left(), "ends too early")
        self.at += n
        return self.data[self.at - n : self.at]

    def u8(self):
        return self.take(1)[0]

    def varint(self):
        """LEB128 of at most ten bytes and 64 bits (section 6)."""
        value = 0
        for i in range(10):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                require(value < 1 << 64, "varint over 64 bits")
                return value
        raise Refused("varint of more than ten bytes")


def unzigzag(n):
    return (n >> 1) ^ -(n & 1)


def derive(context, material):
    return blake3(material, derive_key_context=context).digest()


def keyed(key, data, length=32):
    return blake3(data, key=key).digest(length=length)


def is_hex(text, digits):
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{%d}" % digits, text) is not None


# ---- config, slots and keys (sections 3 and 4)


def read_line_file(data):
    """The first line, as bytes, of a file in the form of config: a line of JSON and the line's BLAKE3."""
    require(len(data) <= MAX_TEXT, "longer than 64 KiB")
    lines = data.split(b"\n")
    require(len(lines) == 3 and lines[2] == b"", "not two lines")
    require(lines[1] == blake3(lines[0]).hexdigest().encode(), "its BLAKE3 does not match")
    return lines[0]


def parse_json_object(data):
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from None
    require(isinstance(value, dict), "not a JSON object")
    return value


def check_needs(value, who):
    require(isinstance(value, list), f"{who} is not a list")
    for need in value:
        known(need in KNOWN_NEEDS, f"the feature {need!r}")


def parse_config(line):
    config = parse_json_object(line)
    require(type(config.get("heirloom")) is int and config["heirloom"] >= 0, f"version {config.get('heirloom')!r}")
    known(config["heirloom"] == 1, f"version {config['heirloom']}")
    check_needs(config.get("read_needs", []), "read_needs")
    require(isinstance(config.get("cipher"), str), f"cipher {config.get('cipher')!r}")
    known(config["cipher"] in CIPHERS, f"cipher {config['cipher']!r}")
    require(is_hex(config.get("id"), 32), "id is not 32 hexadecimal digits")
    return config


def parse_slot(name, data):
    """A slot from the file of that name in `keys`."""
    slot = parse_json_object(read_line_file(data))
    require(slot.get("slot") == name[:16], "it is another slot's")
    require(isinstance(slot.get("config"), str), "it has no copy of config")
    return slot


def unhex(slot, name, size):
    require(is_hex(slot.get(name), 2 * size), f"{name} is not {2 * size} hexadecimal digits")
    return bytes.fromhex(slot[name])


def cost(slot, name, least, most):
    value = slot.get(name)
    require(type(value) is int and least <= value <= most, f"{name} {value!r} is not within {least} to {most}")
    return value


def password_key(slot, password):
    lanes = cost(slot, "lanes", 1, 16)
    passes = cost(slot, "passes", 1, 64)
    memory = cost(slot, "memory_kib", 8 * lanes, 2_097_152)
    secret, kind = unicodedata.normalize("NFC", password).encode("utf-8"), argon2.low_level.Type.ID
    return argon2.low_level.hash_secret_raw(secret, unhex(slot, "salt", 16), passes, memory, lanes, 32, kind, version=0x13)


def recovery_key(slot, entropy):
    return derive("heirloom 1 recovery", entropy + unhex(slot, "salt", 16))


def recovery_entropy(text):
    """The 20 bytes behind 15 words of BIP 39's English list, or behind 40 hexadecimal digits."""
    text = " ".join(text.lower().split())
    if is_hex(text, 40):
        return bytes.fromhex(text)
    try:
        from mnemonic import Mnemonic

        require(len(text.split()) == 15, "a recovery key has 15 words")
        return bytes(Mnemonic("english").to_entropy(text))
    except ImportError:
        raise Refused("words need the package `mnemonic`; or give the key as 40 hexadecimal digits") from None
    except (ValueError, LookupError) as error:
        raise Refused(f"not a recovery key: {error}") from None


def open_slot(slot, config_line, password=None, entropy=None):
    """The secret in a slot; None if it is not of a kind that the given password or entropy opens."""
    require(slot["config"].encode() == config_line, "its copy of config is another one")
    kind = slot.get("kind")
    if kind == "open" and password is None and entropy is None:
        return unhex(slot, "secret", 32)
    if kind == "password" and password is not None:
        key = password_key(slot, password)
    elif kind == "recovery" and entropy is not None:
        key = recovery_key(slot, entropy)
    else:
        return None
    cipher = CIPHERS[parse_config(config_line)["cipher"]](key)
    try:
        return cipher.decrypt(bytes(12), unhex(slot, "sealed", 48), blake3(config_line).digest())
    except InvalidTag:
        raise WrongPassword("wrong password") from None


@dataclass
class Keys:
    """What opens the files of one repository."""

    repository: bytes
    cipher: str
    seal: bytes
    chunk_id: bytes
    chunker: bytes
    tree: bytes

    @staticmethod
    def of(secret, config):
        names = ("heirloom 1 seal", "heirloom 1 chunk id", "heirloom 1 chunker", "heirloom 1 tree")
        return Keys(bytes.fromhex(config["id"]), config["cipher"], *(derive(name, secret) for name in names))

    def id_of(self, plaintext, kind):
        return keyed(self.chunk_id, plaintext + bytes([kind]), 16)


# ---- sealed files (section 5)


def nonce(number, last=False):
    return struct.pack("<IB7x", number, last)


class Sealed:
    """The header of a sealed file, checked, and the key of its frames. `clear` is what lies in the clear after it."""

    def __init__(self, keys, header, kinds, clear=b""):
        require(len(header) == HEADER, "shorter than its header")
        require(header[:8] == MAGIC, "wrong magic")
        # Whether the header is authentic, the name of the file has told before.
        known(header[8] == 1, f"version {header[8]}")
        require(header[16:32] == keys.repository, "of another repository")
        require(header[10:16] == bytes(6), "bytes 10 to 15 are not zero")
        known(header[9] <= MAX_FILE_KIND, f"files of kind {header[9]}")
        require(header[9] in kinds, f"kind {header[9]} does not belong here")
        self.aead = CIPHERS[keys.cipher](keyed(keys.seal, header + clear))

    def open(self, number, sealed, last=False):
        require(len(sealed) >= TAG, f"frame {number} is shorter than its tag")
        try:
            return self.aead.decrypt(nonce(number, last), sealed, None)
        except InvalidTag:
            raise Refused(f"the tag of frame {number} does not verify") from None


def open_payload(keys, data, kind):
    """The payload of a sealed file that is not a pack. That of a segment begins with its clear part (section 7)."""
    clear = clear_part(data) if kind == SEGMENT else b""
    sealed = Sealed(keys, data[:HEADER], {kind}, clear)
    starts = range(HEADER + len(clear), len(data), BLOCK + TAG)
    require(starts, "has no frame")
    blocks = [sealed.open(n, data[at : at + BLOCK + TAG], n == len(starts) - 1) for n, at in enumerate(starts)]
    require(len(blocks) == 1 or blocks[-1], "an empty block after others")
    return clear + b"".join(blocks)


def clear_part(data):
    """What a segment says without the key: its bytes after the header, before its sealed blocks."""
    require(len(data) >= HEADER + 8, "ends in its clear part")
    packs, superseded = struct.unpack("<II", data[HEADER : HEADER + 8])
    length = 8 + 40 * packs + 32 * superseded
    require(HEADER + length <= len(data), "ends in its clear part")
    return data[HEADER : HEADER + length]


# ---- packs (section 6)


@dataclass
class Frame:
    number: int
    at: int
    sealed_length: int
    encoding: int
    kind: int
    chunks: list  # of (id, length)
    base: bytes = None
    version: int = 0

    def length(self):
        return sum(length for _, length in self.chunks)


def parse_directory(plain, end):
    """The frames of a pack; `end` is where the sealed directory begins."""
    cursor = Cursor(plain)
    frames, at, ordinals = [], HEADER, 0
    count = cursor.varint()
    require(count <= MAX_PACK_CHUNKS, "more than 65535 frames")
    for number in range(count):
        frame = parse_frame(cursor, number, at)
        at += frame.sealed_length
        ordinals += len(frame.chunks)
        require(ordinals <= MAX_PACK_CHUNKS, "more than 65535 chunks")
        frames.append(frame)
    require(at == end, "the frames do not end where the directory begins")
    require(not any(cursor.take(cursor.left())), "something follows the directory's last frame")
    return frames


def parse_frame(cursor, number, at):
    encoding, kind = cursor.u8(), cursor.u8()
    known(encoding in (RAW, ZSTD, DELTA), f"encoding {encoding}")
    require(kind != 0, "chunks of no kind")
    known(kind in (DATA, NODE, LIST), f"chunks of kind {kind}")
    sealed_length, count = cursor.varint(), cursor.varint()
    require(sealed_length >= TAG, f"frame {number} is shorter than its tag")
    require(1 <= count <= MAX_PACK_CHUNKS, f"frame {number} holds {count} chunks")
    frame = Frame(number, at, sealed_length, encoding, kind, [(cursor.take(16), cursor.varint()) for _ in range(count)])
    require(frame.length() <= MAX_FRAME, f"frame {number} decodes to more than 16 MiB")
    require(encoding != RAW or sealed_length == frame.length() + TAG, f"frame {number} is raw, but its lengths differ")
    if encoding == DELTA:
        require(count == 1, "a delta frame with several chunks")
        frame.base, frame.version = cursor.take(16), cursor.u8()
        require(frame.version >= 1, "a delta that says it is none")
    return frame


def decode_frame(frame, plain, base=None):
    """The plaintext of a frame's chunks together; `base` is the plaintext of a delta's base.

    A raw-content dictionary decodes what was made with a raw-content prefix: in both, matches reach into the bytes before the first.
    """
    length = frame.length()
    if frame.encoding == RAW:
        require(len(plain) == length, "a raw frame of another length")
        return plain
    prefix = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if base else None
    try:
        declared = zstandard.frame_content_size(plain)
        require(declared in (-1, length), "a zstd frame of another length")
        zstd = zstandard.ZstdDecompressor(dict_data=prefix)
        text = zstd.decompress(plain, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Refused(f"zstd: {error}") from None
    require(len(text) == length, "a zstd frame of another length")
    return text


def places_in(frame):
    start = 0
    for number, (_, length) in enumerate(frame.chunks):
        yield frame, number, start
        start += length


class Pack:
    """A pack file whose name was verified, with its directory. `read(at, n)` reads from the file, `size` is its length."""

    def __init__(self, keys, read, size, kind):
        require(HEADER + TAG + TRAILER <= size <= MAX_PACK, f"a pack of {size} bytes")
        self.read = read
        header, length, end = struct.unpack("<64sI8s", read(size - TRAILER, TRAILER))
        require(end == END_MAGIC, "it does not end with heir-end")
        require(header == read(0, HEADER), "its two headers differ")
        require(TAG <= length <= min(size - HEADER - TRAILER, MAX_DIRECTORY), f"a directory of {length} bytes")
        self.sealed = Sealed(keys, header, {kind})
        start = size - TRAILER - length
        self.frames = parse_directory(self.sealed.open(DIRECTORY_FRAME, read(start, length)), start)
        # ordinal -> (frame, number of the chunk in the frame, where it begins in the frame's plaintext)
        self.places = [place for frame in self.frames for place in places_in(frame)]

    def open_frame(self, frame):
        return self.sealed.open(frame.number, self.read(frame.at, frame.sealed_length))


# ---- index segments (section 7)


@dataclass
class Segment:
    packs: list  # of (name, length, kind)
    superseded: list
    deltas: dict  # entry number -> id of the base
    entries: list  # of (id, pack, ordinal, size class, flags)


def filter_has(blocks, count, chunk_id):
    block = int.from_bytes(chunk_id[:4], "big") * count >> 32
    g = int.from_bytes(chunk_id[4:12], "little")
    bits = ((g >> 9 * i) % 512 for i in range(6))
    return all(blocks[64 * block + bit // 8] >> (bit % 8) & 1 for bit in bits)


def parse_segment(contents):
    """A segment by its clear part and its payload, one after the other."""
    cursor = Cursor(contents)
    p, s = struct.unpack("<II", cursor.take(8))
    require(cursor.left() >= 40 * p + 32 * s + 32, "ends in its tables")
    packs = [struct.unpack("<32sIB3s", cursor.take(40)) for _ in range(p)]
    for _name, _length, kind, zeros in packs:
        require(kind != 0, "a pack of no kind")
        require(zeros == bytes(3), "bytes after a pack's kind are not zero")
        known(kind in PACK_FOLDERS, f"packs of kind {kind}")
    superseded = [cursor.take(32) for _ in range(s)]
    payload_at = cursor.at
    e, d, f, b, *zeros = struct.unpack("<QIIIIII", cursor.take(32))
    require(not any(zeros), "bytes 20 to 31 are not zero")
    require(e <= MAX_ENTRIES, "more than 2^28 entries")
    require(b == -(-e // 170), f"{b} entry blocks for {e} entries")
    require(f == -(-e * 10 // 512), f"{f} filter blocks for {e} entries")
    tables = 32 + 24 * d + 64 * f + 8 * b
    blocks_at = -(-tables // 4096) * 4096
    length = payload_at + blocks_at + 4096 * b
    require(len(contents) == length, f"{len(contents)} bytes instead of {length}")
    deltas = [struct.unpack("<Q16s", cursor.take(24)) for _ in range(d)]
    filters = cursor.take(64 * f)
    fences = [cursor.take(8) for _ in range(b)]
    require(not any(cursor.take(blocks_at - tables)), "padding before the entries is not zero")
    entries = []
    for block in range(b):
        part, used = cursor.take(4096), 24 * min(170, e - 170 * block)
        entries += struct.iter_unpack("<16sIHBB", part[:used])
        require(fences[block] == part[:8], f"fence {block} is not the first id of its block")
        require(not any(part[used:]), "padding after the entries is not zero")
    check_entries(entries, p, filters, f)
    numbers = [i for i, entry in enumerate(entries) if entry[4] & 1]
    require(numbers == [number for number, _ in deltas], "the delta list does not match the entries' flags")
    return Segment([pack[:3] for pack in packs], superseded, dict(deltas), entries)


def check_entries(entries, packs, filters, blocks):
    places = [entry[:3] for entry in entries]
    require(all(a < b for a, b in zip(places, places[1:])), "entries do not ascend")
    for chunk_id, pack, ordinal, _size, flags in entries:
        require(pack < packs, f"pack {pack} is not in the table")
        require(ordinal < MAX_PACK_CHUNKS, f"ordinal {ordinal}")
        require(flags < 8 and flags >> 1 in (DATA, NODE, LIST), f"flags {flags}")
        require(filter_has(filters, blocks, chunk_id), "the filter lacks an entry")


# ---- trees (section 9)


def decode_text(data, what):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"a {what} that is not UTF-8") from None


def check_path(path, what, longest=255):
    """A relative path of at least one part, as text; no part has more than `longest` bytes."""
    text = decode_text(path, what)
    require(len(path) <= 4096, f"a {what} of more than 4096 bytes")
    require(b"\0" not in path, f"a {what} with a zero byte")
    for part in path.split(b"/"):
        require(part not in (b"", b".", b".."), f"{what} {text!r} has a part that is empty, `.` or `..`")
        require(len(part) <= longest, f"a {what} with a part of more than {longest} bytes")
    return text


def parse_key(key):
    """(domain, path) of a key."""
    require(b"\0" in key, "a key without a zero byte")
    domain, path = key.split(b"\0", 1)
    require(len(domain) <= 255, "a domain of more than 255 bytes")
    if domain and not path:
        return decode_text(domain, "domain"), ""
    return decode_text(domain, "domain"), check_path(path, "path", 1024 if domain else 255)


def parse_node(data):
    """(level, [(key, entry bytes or child id)])"""
    require(len(data) <= MAX_NODE, "a node of more than 1 MiB")
    cursor = Cursor(data)
    level, count = cursor.u8(), cursor.varint()
    require(level < MAX_TREE_LEVELS, f"a node at level {level}")
    items, key, keys_length = [], None, 0
    for _ in range(count):
        shared = cursor.varint()
        require(shared <= len(key or b""), "a key that shares more than there is")
        following = (key or b"")[:shared] + cursor.take(cursor.varint())
        require(key is None or key < following, "keys do not ascend")
        keys_length += len(following)
        require(keys_length <= MAX_NODE_KEYS, "keys of more than 4 MiB")
        key = following
        parse_key(key)
        items.append((key, cursor.take(cursor.varint()) if level == 0 else cursor.take(16)))
    require(level == 0 or items, "an inner node without items")
    require(cursor.left() == 0, "bytes after the last item")
    return level, items


SIGNED = {2, 18, 20, 22}
FIELDS = {0: "kind", 1: "place", 2: "mtime", 3: "hash", 4: "length", 5: "chunks", 6: "rule", 7: "chunk_list", 8: "mode"}
FIELDS |= {9: "target", 10: "user", 12: "group", 14: "inode", 16: "phone_length", 18: "phone_modified", 20: "phone_changed"}
FIELDS |= {22: "phone_born", 24: "protection_class", 26: "flags", 129: "sealing"}
AES_256_CBC = 1


def parse_entry(data):
    """name of the field -> value, None if it is absent."""
    cursor, entry, before = Cursor(data), dict.fromkeys(FIELDS.values()), -1
    while cursor.left():
        tag = cursor.u8()
        require(tag > before, "tags do not ascend")
        before = tag
        value = cursor.take(cursor.varint()) if tag % 2 else cursor.varint()
        known(tag in FIELDS or tag < 128, f"tag {tag}")
        if tag in FIELDS:
            entry[FIELDS[tag]] = unzigzag(value) if tag in SIGNED else value
    require(entry["kind"], "an entry of no kind")
    known(entry["kind"] in (FILE, DIRECTORY, LINK), f"entries of kind {entry['kind']}")
    if entry["place"] is not None:
        entry["place"] = check_path(entry["place"], "place")
    check_content(entry)
    return entry


def check_content(entry):
    content, chunks, chunk_list = entry["hash"], entry["chunks"], entry["chunk_list"]
    if entry["length"] is None:
        require((content, chunks, chunk_list, entry["sealing"]) == (None,) * 4, "content without its length")
        return
    require(entry["kind"] == FILE, "content of something that is no file")
    require(content is not None and len(content) == 32, "content without a BLAKE3 of 32 bytes")
    require((chunks is None) != (chunk_list is None), "content without chunks, or with both chunks and a chunk list")
    if entry["sealing"] is not None:
        entry["sealing"] = parse_sealing(entry["sealing"], entry["length"])
    if chunks is None:
        require(len(chunk_list) == 16, "a chunk list's id that is not 16 bytes")
        return
    entry["chunks"] = parse_items(chunks)
    require(len(entry["chunks"]) <= MAX_ENTRY_CHUNKS, "more than 32 chunks in an entry")
    require(sum(n for _, n in entry["chunks"]) == kept_length(entry), "chunks that do not add up to the content's length")


def parse_sealing(data, ciphertext_length):
    """(key, bytes of padding) of a file whose chunks are plaintext."""
    cursor = Cursor(data)
    cipher = cursor.u8()
    require(cipher != 0, "no cipher")
    known(cipher == AES_256_CBC, f"cipher {cipher} of tag 129")
    key, padding = cursor.take(32), ciphertext_length - cursor.varint()
    require(cursor.left() == 0, "a sealing that goes on")
    require(ciphertext_length > 0 and ciphertext_length % 16 == 0 and 0 <= padding <= 16, "a sealing of another length")
    return key, padding


def kept_length(entry):
    return entry["length"] if entry["sealing"] is None else entry["length"] - entry["sealing"][1]


def parse_items(data):
    cursor, items = Cursor(data), []
    while cursor.left():
        items.append((cursor.take(16), cursor.varint()))
        require(items[-1][1] > 0, "a chunk without bytes")
    return items


def parse_list(data):
    """(level, [(id, length)]) of a chunk list."""
    cursor = Cursor(data)
    level, count = cursor.u8(), cursor.varint()
    require(level < MAX_LIST_LEVELS, f"a chunk list at level {level}")
    require(count <= MAX_LIST_ITEMS, f"a chunk list of {count} items")
    items = parse_items(cursor.take(cursor.left()))
    require(len(items) == count, f"{len(items)} items in a chunk list of {count}")
    require(all(length <= MAX_FRAME * MAX_LIST_ITEMS**level for _, length in items), "an item that is longer than it can be")
    return level, items


def place_of(domain, path, entry):
    """Where the file or directory lies in the backup folder; None if it does not."""
    if entry["kind"] == LINK or entry["kind"] == DIRECTORY and domain or entry["kind"] == FILE and entry["length"] is None:
        return None
    if entry["place"] is not None:
        return entry["place"]
    digits = hashlib.sha1(f"{domain}-{path}".encode()).hexdigest()
    return f"{digits[:2]}/{digits}" if domain else path


# ---- snapshots (section 10)

SOURCES = ("import", "device")


def parse_snapshot(payload):
    require(len(payload) <= MAX_SNAPSHOT, "a snapshot of more than 1 MiB")
    snapshot = parse_json_object(payload)
    check_needs(snapshot.get("needs", []), "needs")
    known(snapshot.get("source") in SOURCES or not isinstance(snapshot.get("source"), str), f"source {snapshot.get('source')!r}")
    require(is_hex(snapshot.get("root"), 32), "root is not 32 hexadecimal digits")
    previous = snapshot.get("previous")
    require(previous is None or is_hex(previous, 64), "previous is not 64 hexadecimal digits")
    for name in ("time", "created"):
        require(type(snapshot.get(name)) is int, f"{name} is not a number")
    require(type(snapshot.get("kept", 0)) is int, "kept is not a number")
    return snapshot


def age(snapshot):
    """Greater the newer a snapshot is."""
    kept = snapshot.get("kept", snapshot["created"])
    if snapshot.get("source") == "device":
        order = kept
    elif snapshot["time"] > kept + 86_400:
        order = -(2**63)
    else:
        order = min(snapshot["time"], kept)
    return order, bool(snapshot.get("sealed") or not snapshot.get("encrypted")), snapshot["created"]


# ---- the repository


class LastUsed:
    """Bytes by key: those that were asked for last, `most` of them together.

    Files take turns in solid frames, and a frame of 16 MiB decoded anew for each of its chunks would take hours.
    """

    def __init__(self, most):
        self.most, self.kept, self.size = most, {}, 0

    def get(self, key, make):
        text = self.kept.pop(key, None)
        if text is None:
            text = make()
            self.size += len(text)
        self.kept[key] = text
        while self.size > self.most and len(self.kept) > 1:
            self.size -= len(self.kept.pop(next(iter(self.kept))))
        return text


class Repository:
    """An open repository. `report` is told, line by line, what is damaged, or needs a newer program; the rest is read all the same."""

    newer = MappingProxyType({})

    def __init__(self, path, password=None, recovery=None, use_index=True, report=lambda line, is_newer=False: None):
        self.path, self.report = path, report
        slots = self.read_slots()
        line = self.read_config(slots)
        self.config = parse_config(line)
        self.keys = Keys.of(self.open_slots(slots, line, password, recovery), self.config)
        self.packs = {}  # name -> Pack, or None if it is absent
        self.newer = {}  # name -> why only a newer program can read the pack
        self.frames = LastUsed(MAX_KEPT)  # (name of the pack, number of the frame) -> its plaintext
        self.where = {}  # chunk id -> {(name of the pack, ordinal)}
        self.load_index(use_index)

    def file(self, *parts):
        return os.path.join(self.path, *parts)

    def names(self, folder, form="[0-9a-f]{64}"):
        """The names in a folder that have the right form; any other is ignored."""
        try:
            return sorted(name for name in os.listdir(self.file(folder)) if re.fullmatch(form, name))
        except FileNotFoundError:
            return []

    def named(self, name, parse, *args):
        try:
            return parse(*args)
        except Newer as error:
            error.args = (f"{name}: {error}",)
            raise
        except Refused as error:
            raise Refused(f"{name}: {error}") from None

    def whole(self, name, parse, *args):
        """What `parse` makes of a file; None, and a report, if that is broken."""
        try:
            return parse(*args)
        except Refused as error:
            self.report(f"{name}: {error}", isinstance(error, Newer))
            return None

    # config and slots

    def read_text(self, *parts):
        with open(self.file(*parts), "rb") as file:
            return file.read(MAX_TEXT + 1)

    def read_slots(self):
        """All whole slots, each once if its copies are the same."""
        slots = []
        for name in self.names("keys", "[0-9a-f]{16}-[12]"):
            slot = self.whole(f"keys/{name}", parse_slot, name, self.read_text("keys", name))
            if slot and slot not in slots:
                slots.append(slot)
        return slots

    def read_config(self, slots):
        try:
            line = self.whole("config", read_line_file, self.read_text("config"))
        except FileNotFoundError:
            raise Refused("not a repository: it has no `config`") from None
        require(line is not None or slots, "config is broken, and no slot has a copy")
        return min(slots, key=lambda slot: slot.get("kind") == "open")["config"].encode() if line is None else line

    def open_slots(self, slots, line, password, recovery):
        entropy = recovery_entropy(recovery) if recovery is not None else None
        has_password = any(slot.get("kind") != "open" for slot in slots)
        usable = [slot for slot in slots if slot["config"].encode() == line]
        kinds = {slot.get("kind") for slot in usable}
        known(not kinds - SLOT_KINDS or kinds & {"password", "recovery"}, f"keys of kind {', '.join(map(str, kinds))}")
        wrong = None
        for slot in slots:
            if slot.get("kind") == "open" and has_password:
                self.report(f"keys/{slot['slot']}: it opens without a password, although there is one: not used")
                continue
            try:
                secret = self.whole(f"keys/{slot['slot']}", open_slot, slot, line, password, entropy)
            except WrongPassword as error:
                wrong = error
                continue
            if secret is not None:
                return secret
        raise wrong or Refused("no slot opens with what was given; set HEIRLOOM_PASSWORD or HEIRLOOM_RECOVERY, or neither")

    # index

    def load_index(self, use_index):
        named = set()
        for segment in self.segments() if use_index else []:
            packs = [(kind, name.hex()) for name, _, kind in segment.packs]
            named.update(packs)
            for chunk_id, pack, ordinal, _size, _flags in segment.entries:
                self.where.setdefault(chunk_id, set()).add((packs[pack], ordinal))
        for kind, folder in PACK_FOLDERS.items():
            for xx in self.names(folder, "[0-9a-f]{2}"):
                for name in self.names(f"{folder}/{xx}", xx + "[0-9a-f]{62}"):
                    pack = self.pack((kind, name)) if (kind, name) not in named else None
                    for ordinal, (frame, i, _) in enumerate(pack.places if pack else []):
                        self.where.setdefault(frame.chunks[i][0], set()).add(((kind, name), ordinal))

    def segments(self):
        """The whole segments that no other whole one supersedes."""
        whole = self.sealed_files("index", SEGMENT, parse_segment)
        superseded = {name.hex() for segment in whole.values() for name in segment.superseded}
        return [segment for name, segment in whole.items() if name not in superseded]

    def sealed_files(self, folder, kind, parse):
        """name -> meaning of the whole files in a folder."""
        found = {}
        for name in self.names(folder):
            meaning = self.whole(f"{folder}/{name}", self.read_sealed, folder, name, kind, parse)
            if meaning is not None:
                found[name] = meaning
        return found

    def read_sealed(self, folder, name, kind, parse):
        with open(self.file(folder, name), "rb") as file:
            require(os.fstat(file.fileno()).st_size <= MAX_SEGMENT, "longer than 1 GiB")
            data = file.read()
        require(blake3(data).hexdigest() == name, "broken: its bytes do not match its name")
        return parse(open_payload(self.keys, data, kind))

    # chunks

    def pack(self, pack):
        """A pack, by its kind and name; None if it is absent or broken."""
        if pack not in self.packs:
            exists = os.path.exists(self.file(*self.pack_file(*pack)))
            self.packs[pack] = self.whole("/".join(self.pack_file(*pack)), self.try_pack, *pack) if exists else None
        return self.packs[pack]

    def try_pack(self, *pack):
        try:
            return self.open_pack(*pack)
        except Newer as error:
            self.newer[pack] = error
            raise

    def pack_file(self, kind, name):
        return PACK_FOLDERS[kind], name[:2], name

    def open_pack(self, kind, name):
        path, hasher = self.file(*self.pack_file(kind, name)), blake3()
        with open(path, "rb") as file:
            while part := file.read(BLOCK):
                hasher.update(part)
        require(hasher.hexdigest() == name, "broken: its bytes do not match its name")

        def read(at, n):
            with open(path, "rb") as file:
                file.seek(at)
                data = file.read(n)
            require(len(data) == n, "ends too early")
            return data

        return Pack(self.keys, read, os.path.getsize(path), kind)

    def chunk(self, chunk_id, kind, deltas=0):
        """The plaintext of a chunk, its id verified. If there are several copies of it, the first whole one."""
        why, newer = "it is nowhere", None
        for name, ordinal in self.where.get(chunk_id, ()):
            try:
                text = self.copy(kind, name, ordinal, deltas)
                require(self.keys.id_of(text, kind) == chunk_id, "its bytes do not match its id")
                return text
            except Newer as error:
                newer = error
            except Refused as error:
                why = f"{'/'.join(self.pack_file(*name))}: {error}"
        # What a newer program can read is not lost.
        raise newer or Refused(f"chunk {chunk_id.hex()}: {why}")

    def copy(self, kind, name, ordinal, deltas):
        pack = self.pack(name)
        if name in self.newer:
            raise self.newer[name]
        require(pack, "absent or broken")
        require(ordinal < len(pack.places), f"it has no chunk {ordinal}")
        frame, number, start = pack.places[ordinal]
        require(frame.kind == kind, f"a chunk of kind {frame.kind} instead of {kind}")
        return self.decoded(pack, name, frame, deltas)[start : start + frame.chunks[number][1]]

    def decoded(self, pack, name, frame, deltas):
        """The plaintext of a frame. A delta's is not kept: it takes eight others at most, and what lies below them is."""
        if frame.encoding == DELTA:
            require(deltas < MAX_DELTAS, "a chain of more than eight deltas")
            return decode_frame(frame, pack.open_frame(frame), self.chunk(frame.base, frame.kind, deltas + 1))
        return self.frames.get((name, frame.number), lambda: decode_frame(frame, pack.open_frame(frame)))

    # snapshots and trees

    def snapshots(self):
        """(id, snapshot) of all, oldest first."""
        found = self.sealed_files("snapshots", SNAPSHOT, parse_snapshot)
        return sorted(found.items(), key=lambda item: (*age(item[1]), item[0]))

    def snapshot(self, wanted):
        found = self.snapshots()
        if wanted == "latest":
            require(found, "there is no snapshot")
            return found[-1][1]
        matches = [snapshot for name, snapshot in found if name.startswith(wanted)]
        require(len(matches) == 1, f"{len(matches)} snapshots begin with {wanted!r}")
        return matches[0]

    def walk(self, root):
        """(place, entry) of everything in a tree that lies in the backup folder, in the order of names."""
        before = b""
        for key, data in self.walk_node(bytes.fromhex(root), None):
            entry = self.whole(repr(key), parse_entry, data)
            place = place_of(*parse_key(key), entry) if entry and before < key else None
            before = key
            if place is not None:
                yield place, entry

    def walk_node(self, node_id, above):
        """(key, entry bytes) of what lies below a node; `above` is what those above say: its level, first key, and the key that follows."""
        node = self.whole("a part of the tree", self.read_node, node_id, above)
        level, items = node or (0, [])
        following = [key for key, _ in items[1:]] + [above[2] if above else None]
        for (key, value), end in zip(items, following):
            if level == 0:
                yield key, value
            else:
                yield from self.walk_node(value, (level - 1, key, end))

    def read_node(self, node_id, above):
        level, items = self.named(f"node {node_id.hex()}", parse_node, self.chunk(node_id, NODE))
        if above is not None:
            require(items and above[:2] == (level, items[0][0]), "not the node that the one above it names")
            require(above[2] is None or items[-1][0] < above[2], "a node that goes beyond the next")
        return level, items

    def content(self, entry):
        """The content of a file, piece by piece; whoever takes it all has it verified."""
        hasher = blake3()
        for text in self.chunks_of(entry) if entry["sealing"] is None else self.ciphertext(entry):
            hasher.update(text)
            yield text
        require(hasher.digest() == entry["hash"], "the content does not match its BLAKE3")

    def ciphertext(self, entry):
        key, padding = entry["sealing"]
        encryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor()
        for text in self.chunks_of(entry):
            yield encryptor.update(text)
        yield encryptor.update(bytes([padding]) * padding) + encryptor.finalize()

    def chunks_of(self, entry):
        listed, length = entry["chunk_list"], kept_length(entry)
        for chunk_id, length in entry["chunks"] if listed is None else self.walk_list(listed, None, length):
            text = self.chunk(chunk_id, DATA)
            require(len(text) == length, "a chunk of another length")
            yield text

    def walk_list(self, list_id, expected_level, length):
        level, items = parse_list(self.chunk(list_id, LIST))
        require(expected_level in (None, level), "a chunk list at another level than its parent says")
        require(sum(n for _, n in items) == length, "a chunk list of another length")
        for item in items:
            if level == 0:
                yield item
            else:
                yield from self.walk_list(item[0], level - 1, item[1])


# ---- extraction


def safe_join(folder, place):
    """A place was checked to have no part that leads out; a backslash or a colon could, on Windows."""
    require(os.name != "nt" or not set(place) & set("\\:"), f"place {place!r} cannot be written on this machine")
    return os.path.join(folder, *place.split("/"))


def write_entry(repository, folder, place, entry):
    target = safe_join(folder, place)
    try:
        os.makedirs(target if entry["kind"] == DIRECTORY else os.path.dirname(target), exist_ok=True)
        file = open(target, "xb") if entry["kind"] == FILE else None
    except (FileExistsError, NotADirectoryError):
        raise Refused("something else lies there") from None
    if file is None:
        return
    try:
        with file:
            for text in repository.content(entry):
                file.write(text)
    except Refused:
        os.unlink(target)
        raise
    if entry["mtime"] is not None:
        os.utime(target, ns=(entry["mtime"], entry["mtime"]))


def extract(repository, wanted, folder):
    """Writes a snapshot to a new or empty folder."""
    snapshot = repository.snapshot(wanted)
    os.makedirs(folder, exist_ok=True)
    require(not os.listdir(folder), f"{folder} is not empty")
    for place, entry in repository.walk(snapshot["root"]):
        repository.whole(place, write_entry, repository, folder, place, entry)


def main():
    parser = argparse.ArgumentParser(description="Reads a heirloom repository.")
    parser.add_argument("repo")
    parser.add_argument("command", choices=("list", "extract"))
    parser.add_argument("snapshot", nargs="?", help="to extract: an id, its first digits, or latest")
    parser.add_argument("dir", nargs="?", help="a new or empty folder")
    parser.add_argument("--no-index", action="store_true", help="read the packs' directories only")
    args = parser.parse_args()
    if (args.command == "extract") != (args.dir is not None):
        parser.error("usage: REPO list, or REPO extract SNAPSHOT DIR")
    reports = []

    def report(line, is_newer=False):
        reports.append(is_newer)
        print(f"read_repo: {line}", file=sys.stderr)

    try:
        unlock = os.environ.get("HEIRLOOM_PASSWORD"), os.environ.get("HEIRLOOM_RECOVERY")
        repository = Repository(args.repo, *unlock, not args.no_index, report)
        if args.command == "list":
            for snapshot_id, snapshot in repository.snapshots():
                print(json.dumps({"id": snapshot_id, **snapshot}))
        else:
            extract(repository, args.snapshot, args.dir)
    except Exception as error:  # hostile bytes may break anything; a person is told in one line
        kind = "" if isinstance(error, (Refused, OSError)) else f"{type(error).__name__}: "
        report(f"{kind}{error}".replace("\n", " "), isinstance(error, Newer))
    sys.exit(0 if not reports else 3 if all(reports) else 1)


if __name__ == "__main__":
    main()
