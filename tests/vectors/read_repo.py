#!/usr/bin/env python3
"""The second reader: gets the files out of a heirloom repository with nothing but this program.

It is written from SPEC.md alone, and shares no code with heirloom. It is slow and simple, and never writes to the repository.

How to get your data out:

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    export HEIRLOOM_PASSWORD='the password'   # or HEIRLOOM_RECOVERY='the fifteen words'; neither, if the repository has no password
    venv/bin/python read_repo.py REPO list           # one line of JSON for each snapshot, oldest first
    venv/bin/python read_repo.py REPO extract latest DIR
    venv/bin/python read_repo.py REPO extract 3fa9 DIR    # ... or an id, or the first digits of one
    venv/bin/python read_repo.py REPO check          # reads everything, writes nothing

DIR must be new or empty. Afterwards it is the backup folder, as Finder or iTunes left it: files lie at their places
(`3d/3d0d7e5f...`) with their modification times, and Manifest.db says which file of the phone each of them was.
With --no-index, the index is not read at all; every pack is asked what it holds. If the repository is damaged, --keep-going writes
what is whole and says what is not.

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
from collections import OrderedDict
from dataclasses import dataclass, field

import argon2.low_level
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

MAGIC = b"heirloom"
END_MAGIC = b"heir-end"
HEADER = 64
TAG = 16
BLOCK = 1 << 20
DATA_PACK, TREE_PACK, SEGMENT, SNAPSHOT, SESSION = 1, 2, 3, 4, 5
DATA, NODE, LIST = 1, 2, 3
RAW, ZSTD, DELTA = 0, 1, 2
DIRECTORY_FRAME = 0xFFFF_FFFF
MAX_CHUNK = MAX_FRAME = 16 << 20
MAX_PACK, MAX_PACK_CHUNKS, MAX_DIRECTORY = 2**31 - 1, 65_535, 4 << 20
MAX_ENTRIES = 1 << 28
MAX_TEXT = 64 << 10
MAX_NODE = 1 << 20
MAX_DEPTH = 8
CIPHERS = {"aes-256-gcm": AESGCM, "chacha20-poly1305": ChaCha20Poly1305}
KNOWN_NEEDS = frozenset()


class Refused(Exception):
    """What was read is not what SPEC.md allows; the text says what and why."""


class WrongPassword(Refused):
    """A slot is whole, but its tag does not verify under the key that was given."""


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
        """LEB128 of at most ten bytes and 64 bits."""
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
        require(need in KNOWN_NEEDS, f"it needs {need!r}, which this reader does not know")


def parse_config(line):
    config = parse_json_object(line)
    require(type(config.get("heirloom")) is int and config["heirloom"] == 1, f"version {config.get('heirloom')!r} is not 1")
    require(is_hex(config.get("id"), 32), "id is not 32 hexadecimal digits")
    require(config.get("cipher") in CIPHERS, f"unknown cipher {config.get('cipher')!r}")
    check_needs(config.get("read_needs", []), "read_needs")
    return config


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
    secret = unicodedata.normalize("NFC", password).encode("utf-8")
    return argon2.low_level.hash_secret_raw(
        secret, unhex(slot, "salt", 16), passes, memory, lanes, 32, argon2.low_level.Type.ID, version=0x13
    )


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
    require(isinstance(slot.get("config"), str), "it has no copy of config")
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


class Sealed:
    """The header of a sealed file, checked, and the key of its frames."""

    def __init__(self, keys, header, kinds):
        require(len(header) == HEADER, "shorter than its header")
        require(header[:8] == MAGIC, "wrong magic")
        require(header[8] == 1, f"unknown version {header[8]}")
        require(header[9] in kinds, f"kind {header[9]} does not belong here")
        require(header[10:16] == bytes(6), "bytes 10 to 15 are not zero")
        require(header[16:32] == keys.repository, "of another repository")
        self.kind = header[9]
        self.aead = CIPHERS[keys.cipher](keyed(keys.seal, header))

    def open(self, number, sealed):
        require(len(sealed) >= TAG, f"frame {number} is shorter than its tag")
        try:
            return self.aead.decrypt(struct.pack("<IQ", number, 0), sealed, None)
        except InvalidTag:
            raise Refused(f"the tag of frame {number} does not verify") from None


def open_payload(keys, data, kind):
    """The payload of a sealed file that is not a pack."""
    sealed = Sealed(keys, data[:HEADER], {kind})
    require(len(data) > HEADER, "has no frame")
    blocks = [
        sealed.open(number, data[at : at + BLOCK + TAG]) for number, at in enumerate(range(HEADER, len(data), BLOCK + TAG))
    ]
    require(len(blocks) == 1 or blocks[-1], "an empty block after others")
    return b"".join(blocks)


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
    depth: int = 0

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
        require(at <= end, f"frame {number} reaches past the frames of the pack")
        require(ordinals <= MAX_PACK_CHUNKS, "more than 65535 chunks")
        frames.append(frame)
    require(at == end, "there are bytes between the last frame and the directory")
    require(not any(cursor.take(cursor.left())), "padding is not zero")
    return frames


def parse_frame(cursor, number, at):
    encoding, kind = cursor.u8(), cursor.u8()
    require(encoding in (RAW, ZSTD, DELTA), f"unknown encoding {encoding}")
    require(kind in (DATA, NODE, LIST), f"unknown kind of chunk {kind}")
    sealed_length, count = cursor.varint(), cursor.varint()
    require(sealed_length >= TAG, f"frame {number} is shorter than its tag")
    require(1 <= count <= MAX_PACK_CHUNKS, f"frame {number} holds {count} chunks")
    require(encoding != DELTA or count == 1, "a delta frame with several chunks")
    chunks = [(cursor.take(16), cursor.varint()) for _ in range(count)]
    frame = Frame(number, at, sealed_length, encoding, kind, chunks)
    require(frame.length() <= MAX_FRAME, f"frame {number} decodes to more than 16 MiB")
    require(encoding != RAW or sealed_length == frame.length() + TAG, f"frame {number} is raw, but its lengths differ")
    if encoding == DELTA:
        frame.base, frame.depth = cursor.take(16), cursor.u8()
        require(1 <= frame.depth <= MAX_DEPTH, f"depth {frame.depth}")
    return frame


def decode_frame(frame, plain, base=None):
    """The plaintext of a frame's chunks together; `base` is the plaintext of a delta's base.

    A raw-content dictionary decodes what was made with a raw-content prefix: in both, matches reach into the bytes before the first.
    """
    length = frame.length()
    if frame.encoding == RAW:
        require(len(plain) == length, "a raw frame of another length")
        return plain
    prefix = base and zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    try:
        declared = zstandard.frame_content_size(plain)
        require(declared in (-1, length), "a zstd frame of another length")
        text = zstandard.ZstdDecompressor(dict_data=prefix or None).decompress(
            plain, max_output_size=length, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise Refused(f"zstd: {error}") from None
    require(len(text) == length, "a zstd frame of another length")
    return text


class Pack:
    """A pack file whose name was verified, with its directory. `read(at, n)` reads from the file, `size` is its length."""

    def __init__(self, keys, read, size):
        require(HEADER + TAG + 12 <= size <= MAX_PACK, f"a pack of {size} bytes")
        self.read = read
        self.sealed = Sealed(keys, read(0, HEADER), {DATA_PACK, TREE_PACK})
        length, end = struct.unpack("<I8s", read(size - 12, 12))
        require(end == END_MAGIC, "it does not end with heir-end")
        require(TAG <= length <= min(size - HEADER - 12, MAX_DIRECTORY), f"a directory of {length} bytes")
        start = size - 12 - length
        self.frames = parse_directory(self.sealed.open(DIRECTORY_FRAME, read(start, length)), start)
        # ordinal -> (frame, number of the chunk in the frame)
        self.places = [(frame, i) for frame in self.frames for i in range(len(frame.chunks))]

    def open_frame(self, frame):
        return self.sealed.open(frame.number, self.read(frame.at, frame.sealed_length))


# ---- index segments (section 7)


@dataclass
class Segment:
    packs: list  # of (name, length)
    superseded: list
    deltas: dict  # entry number -> id of the base
    entries: list  # of (id, pack, ordinal, size class, flags)


def filter_has(blocks, count, chunk_id):
    block = int.from_bytes(chunk_id[:4], "big") * count >> 32
    g = int.from_bytes(chunk_id[4:12], "little")
    bits = ((g >> 9 * i) % 512 for i in range(6))
    return all(blocks[64 * block + bit // 8] >> (bit % 8) & 1 for bit in bits)


def parse_segment(payload):
    cursor = Cursor(payload)
    e, p, s, d, f, b, zero = struct.unpack("<QIIIIII", cursor.take(32))
    require(zero == 0, "bytes 28 to 31 are not zero")
    require(e <= MAX_ENTRIES, "more than 2^28 entries")
    require(b == -(-e // 170), f"{b} entry blocks for {e} entries")
    require(f == -(-e * 10 // 512), f"{f} filter blocks for {e} entries")
    require(d <= e, "more deltas than entries")
    tables = 32 + 40 * p + 32 * s + 24 * d + 64 * f + 8 * b
    blocks_at = -(-tables // 4096) * 4096
    require(len(payload) == blocks_at + 4096 * b, f"{len(payload)} bytes instead of {blocks_at + 4096 * b}")
    packs = [(cursor.take(32), struct.unpack("<Q", cursor.take(8))[0]) for _ in range(p)]
    superseded = [cursor.take(32) for _ in range(s)]
    delta_list = [(struct.unpack("<Q", cursor.take(8))[0], cursor.take(16)) for _ in range(d)]
    filters = cursor.take(64 * f)
    fences = [cursor.take(8) for _ in range(b)]
    require(not any(cursor.take(blocks_at - tables)), "padding before the entries is not zero")
    entries = []
    for block in range(b):
        part = cursor.take(4096)
        used = min(170, e - 170 * block)
        require(not any(part[24 * used :]), "padding after the entries is not zero")
        entries += struct.iter_unpack("<16sIHBB", part[: 24 * used])
        require(fences[block] == part[:8], f"fence {block} is not the first id of its block")
    check_entries(entries, p, filters, f)
    numbers = [number for number, _ in delta_list]
    require(
        numbers == [i for i, entry in enumerate(entries) if entry[4] & 1], "the delta list does not match the entries' flags"
    )
    return Segment(packs, superseded, dict(delta_list), entries)


def check_entries(entries, packs, filters, blocks):
    before = None
    for chunk_id, pack, ordinal, _size, flags in entries:
        require(before is None or before < (chunk_id, pack, ordinal), "entries do not ascend")
        before = (chunk_id, pack, ordinal)
        require(pack < packs, f"pack {pack} is not in the table")
        require(ordinal < MAX_PACK_CHUNKS, f"ordinal {ordinal}")
        require(flags < 8 and flags >> 1 in (DATA, NODE, LIST), f"flags {flags}")
        require(filter_has(filters, blocks, chunk_id), "the filter lacks an entry")


# ---- trees (section 9)


def check_path(path, what, may_be_empty):
    """A relative path of SPEC.md, as text."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"a {what} that is not UTF-8") from None
    require(len(path) <= 4096, f"a {what} of more than 4096 bytes")
    require(b"\0" not in path, f"a {what} with a zero byte")
    if may_be_empty and not path:
        return text
    for part in path.split(b"/"):
        require(part not in (b"", b".", b".."), f"{what} {text!r} has a part that is empty, `.` or `..`")
        require(len(part) <= 255, f"a {what} with a part of more than 255 bytes")
    return text


def parse_key(key):
    """(domain, path) of a key."""
    require(b"\0" in key, "a key without a zero byte")
    domain, path = key.split(b"\0", 1)
    require(len(domain) <= 255, "a domain of more than 255 bytes")
    try:
        return domain.decode("utf-8"), check_path(path, "path", True)
    except UnicodeDecodeError:
        raise Refused("a domain that is not UTF-8") from None


def parse_node(data):
    """(level, [(key, entry bytes or child id)])"""
    require(len(data) <= MAX_NODE, "a node of more than 1 MiB")
    cursor = Cursor(data)
    level, count = cursor.u8(), cursor.varint()
    require(level < 16, f"a node at level {level}")
    items, key = [], None
    for _ in range(count):
        shared = cursor.varint()
        require(shared <= len(key or b""), "a key that shares more than there is")
        following = (key or b"")[:shared] + cursor.take(cursor.varint())
        require(key is None or key < following, "keys do not ascend")
        key = following
        parse_key(key)
        items.append((key, cursor.take(cursor.varint()) if level == 0 else cursor.take(16)))
    require(level == 0 or items, "an inner node without items")
    require(cursor.left() == 0, "bytes after the last item")
    return level, items


@dataclass
class Entry:
    kind: int = 0
    place: str = None
    mtime: int = None
    hash: bytes = None
    length: int = None
    chunks: list = None  # of (id, length)
    rule: int = None
    chunk_list: bytes = None
    target: bytes = None
    other: dict = field(default_factory=dict)  # tag -> value


SIGNED = {2, 18, 20, 22}
FIELDS = {0: "kind", 1: "place", 2: "mtime", 3: "hash", 4: "length", 5: "chunks", 6: "rule", 7: "chunk_list", 9: "target"}
NUMBERS = {
    8: "mode",
    10: "user",
    12: "group",
    14: "inode",
    16: "phone_length",
    18: "phone_modified",
    20: "phone_changed",
    22: "phone_born",
    24: "protection_class",
    26: "flags",
}


def parse_entry(data):
    cursor, entry, before = Cursor(data), Entry(), -1
    while cursor.left():
        tag = cursor.u8()
        require(tag > before, "tags do not ascend")
        before = tag
        value = cursor.take(cursor.varint()) if tag % 2 else cursor.varint()
        if tag in SIGNED:
            value = unzigzag(value)
        if tag in FIELDS:
            setattr(entry, FIELDS[tag], value)
        elif tag in NUMBERS:
            entry.other[tag] = value
        else:
            require(tag < 128, f"unknown tag {tag}")
    check_entry(entry)
    return entry


def check_entry(entry):
    require(entry.kind in (1, 2, 3), f"an entry of kind {entry.kind}")
    if entry.place is not None:
        entry.place = check_path(entry.place, "place", False)
    if entry.chunks is not None:
        entry.chunks = parse_items(entry.chunks)
        require(len(entry.chunks) <= 32, "more than 32 chunks in an entry")
    require(entry.hash is None or len(entry.hash) == 32, "a content's BLAKE3 that is not 32 bytes")
    require(entry.chunk_list is None or len(entry.chunk_list) == 16, "a chunk list's id that is not 16 bytes")
    require(entry.chunks is None or entry.chunk_list is None, "an entry with both chunks and a chunk list")
    if entry.length is None:
        require(entry.chunks is None and entry.chunk_list is None, "content without a length")
    else:
        require(entry.kind == 1, "content of something that is no file")
        require(entry.hash is not None, "content without its BLAKE3")
        if entry.chunk_list is None:
            require(sum(n for _, n in entry.chunks or []) == entry.length, "chunks that do not add up to the content's length")


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
    require(level < 4, f"a chunk list at level {level}")
    require(count <= 4096, f"a chunk list of {count} items")
    items = parse_items(cursor.take(cursor.left()))
    require(len(items) == count, f"{len(items)} items in a chunk list of {count}")
    return level, items


def place_of(domain, path, entry):
    """Where the file lies in the backup folder."""
    if entry.place is not None:
        return entry.place
    if domain == "":
        return check_path(path.encode(), "place", False)
    digits = hashlib.sha1(f"{domain}-{path}".encode()).hexdigest()
    return f"{digits[:2]}/{digits}"


# ---- snapshots (section 10)


def parse_snapshot(payload):
    require(len(payload) <= 1 << 20, "a snapshot of more than 1 MiB")
    snapshot = parse_json_object(payload)
    check_needs(snapshot.get("needs", []), "needs")
    require(is_hex(snapshot.get("root"), 32), "root is not 32 hexadecimal digits")
    previous = snapshot.get("previous")
    require(previous is None or is_hex(previous, 64), "previous is not 64 hexadecimal digits")
    for name in ("time", "created"):
        require(type(snapshot.get(name)) is int, f"{name} is not a number")
    return snapshot


# ---- the repository


class Repository:
    def __init__(self, path, password=None, recovery=None, use_index=True, report=lambda line: None):
        self.path, self.report = path, report
        self.reports = 0
        slots = self.read_slots()
        line = self.read_config(slots)
        self.config = parse_config(line)
        secret = self.open_slots(slots, line, password, recovery)
        self.keys = Keys.of(secret, self.config)
        self.packs = {}  # name -> Pack, or None if it is absent
        self.frames = OrderedDict()  # the last few decoded frames
        self.where = {}  # chunk id -> [(name of the pack, ordinal, id of the delta's base)]
        self.load_index(use_index)

    def tell(self, line):
        self.reports += 1
        self.report(line)

    def file(self, *parts):
        return os.path.join(self.path, *parts)

    def names(self, folder, digits=64):
        """The names in a folder that have the right form; any other is ignored."""
        try:
            return sorted(name for name in os.listdir(self.file(folder)) if is_hex(name, digits))
        except FileNotFoundError:
            return []

    def read_text(self, *parts):
        with open(self.file(*parts), "rb") as file:
            return read_line_file(file.read(MAX_TEXT + 1))

    def read_slots(self):
        slots = {}
        try:
            names = sorted(os.listdir(self.file("keys")))
        except FileNotFoundError:
            raise Refused("not a repository: it has no folder `keys`") from None
        for name in names:
            if not re.fullmatch(r"[0-9a-f]{16}-[12]", name):
                continue
            try:
                slot = parse_json_object(self.read_text("keys", name))
                require(slot.get("slot") == name[:16], "it is another slot's")
                slots.setdefault(name[:16], slot)
            except (Refused, OSError) as error:
                self.tell(f"keys/{name}: {error}")
        return list(slots.values())

    def read_config(self, slots):
        try:
            return self.read_text("config")
        except FileNotFoundError:
            raise Refused("not a repository: it has no `config`") from None
        except Refused as error:
            self.tell(f"config: {error}; taken from a slot")
        for slot in slots:
            if isinstance(slot.get("config"), str):
                return slot["config"].encode()
        raise Refused("config is broken, and no slot has a copy")

    def open_slots(self, slots, line, password, recovery):
        entropy = recovery_entropy(recovery) if recovery is not None else None
        why = None
        for slot in slots:
            try:
                secret = open_slot(slot, line, password, entropy)
                if secret is not None:
                    return secret
            except Refused as error:
                why = why if isinstance(why, WrongPassword) else error
        raise why or Refused("no slot opens with what was given; set HEIRLOOM_PASSWORD or HEIRLOOM_RECOVERY, or neither")

    # index

    def pack_names(self):
        for xx in self.names("packs", 2):
            for name in self.names(os.path.join("packs", xx)):
                if name[:2] == xx:
                    yield name

    def load_index(self, use_index):
        named = set()
        for segment in self.segments() if use_index else []:
            packs = [name.hex() for name, _ in segment.packs]
            named.update(packs)
            for number, (chunk_id, pack, ordinal, _size, _flags) in enumerate(segment.entries):
                self.add(chunk_id, packs[pack], ordinal, segment.deltas.get(number))
        for name in self.pack_names():
            pack = self.pack(name) if name not in named else None
            if pack:
                for ordinal, (frame, i) in enumerate(pack.places):
                    self.add(frame.chunks[i][0], name, ordinal, frame.base)

    def add(self, chunk_id, *place):
        places = self.where.setdefault(chunk_id, [])
        if place not in places:
            places.append(place)

    def segments(self):
        whole = {}
        for name in self.names("index"):
            payload = self.read_sealed("index", name, SEGMENT)
            if payload is not None:
                whole[name] = self.named(f"index/{name}", parse_segment, payload)
        superseded = {name.hex() for segment in whole.values() for name in segment.superseded}
        return [segment for name, segment in whole.items() if name not in superseded]

    def named(self, name, parse, *args):
        try:
            return parse(*args)
        except Refused as error:
            raise Refused(f"{name}: {error}") from None

    def read_sealed(self, folder, name, kind):
        """The payload of a sealed file; None if the file is broken."""
        with open(self.file(folder, name), "rb") as file:
            data = file.read()
        if blake3(data).hexdigest() != name:
            self.tell(f"{folder}/{name}: broken: its bytes do not match its name")
            return None
        return self.named(f"{folder}/{name}", open_payload, self.keys, data, kind)

    # chunks

    def pack(self, name):
        """A pack; None if it is absent or broken."""
        if name not in self.packs:
            self.packs[name] = self.load_pack(name)
        return self.packs[name]

    def load_pack(self, name):
        path = self.file("packs", name[:2], name)
        hasher = blake3()
        try:
            with open(path, "rb") as file:
                while part := file.read(BLOCK):
                    hasher.update(part)
        except FileNotFoundError:
            return None
        if hasher.hexdigest() != name:
            self.tell(f"packs/{name[:2]}/{name}: broken: its bytes do not match its name")
            return None

        def read(at, n):
            with open(path, "rb") as file:
                file.seek(at)
                data = file.read(n)
            require(len(data) == n, "ends too early")
            return data

        return self.named(f"packs/{name[:2]}/{name}", Pack, self.keys, read, os.path.getsize(path))

    def chunk(self, chunk_id, kind, deltas=0):
        """The plaintext of a chunk, its id verified. If there are several copies of it, the first whole one."""
        why = "it is nowhere"
        for name, ordinal, base in self.where.get(chunk_id, []):
            try:
                text = self.copy(chunk_id, kind, name, ordinal, base, deltas)
                require(self.keys.id_of(text, kind) == chunk_id, "its bytes do not match its id")
                return text
            except Refused as error:
                why = f"pack {name}: {error}"
        raise Refused(f"chunk {chunk_id.hex()}: {why}")

    def copy(self, chunk_id, kind, name, ordinal, base, deltas):
        pack = self.pack(name)
        require(pack, "absent or broken")
        require(ordinal < len(pack.places), f"it has no chunk {ordinal}")
        frame, number = pack.places[ordinal]
        require(frame.chunks[number][0] == chunk_id, "the index does not match the directory")
        require(frame.base == base, "the index does not match the directory about a delta")
        require(frame.kind == kind, f"a chunk of kind {frame.kind} instead of {kind}")
        start = sum(length for _, length in frame.chunks[:number])
        return self.decoded(pack, name, frame, deltas)[start : start + frame.chunks[number][1]]

    def decoded(self, pack, name, frame, deltas):
        key = (name, frame.number)
        if key not in self.frames:
            base = None
            if frame.encoding == DELTA:
                require(deltas < MAX_DEPTH, "a chain of more than 8 deltas")
                base = self.chunk(frame.base, frame.kind, deltas + 1)
            self.frames[key] = decode_frame(frame, pack.open_frame(frame), base)
            if len(self.frames) > 16:
                self.frames.popitem(last=False)
        return self.frames[key]

    # snapshots and trees

    def snapshots(self):
        """(id, snapshot) of all, oldest first."""
        found = []
        for name in self.names("snapshots"):
            payload = self.read_sealed("snapshots", name, SNAPSHOT)
            if payload is not None:
                found.append((name, self.named(f"snapshots/{name}", parse_snapshot, payload)))
        return sorted(found, key=lambda item: (item[1]["time"], item[1]["created"], item[0]))

    def snapshot(self, wanted):
        found = self.snapshots()
        if wanted == "latest":
            require(found, "there is no snapshot")
            return found[-1]
        matches = [item for item in found if item[0].startswith(wanted)]
        require(len(matches) == 1, f"{len(matches)} snapshots begin with {wanted!r}")
        return matches[0]

    def walk(self, root):
        """(domain, path, entry) of every name in a tree, in order."""
        for key, data in self.walk_node(bytes.fromhex(root), None, None):
            domain, path = parse_key(key)
            yield domain, path, self.named(f"{domain!r} {path!r}", parse_entry, data)

    def walk_node(self, node_id, expected_level, first_key):
        level, items = self.named(f"node {node_id.hex()}", parse_node, self.chunk(node_id, NODE))
        if expected_level is not None:
            require(level == expected_level, "a node at another level than its parent says")
            require(items and items[0][0] == first_key, "a node that does not begin with its parent's key")
        if level == 0:
            yield from items
            return
        for i, (key, child) in enumerate(items):
            limit = items[i + 1][0] if i + 1 < len(items) else None
            for found in self.walk_node(child, level - 1, key):
                require(limit is None or found[0] < limit, "a node that reaches into the next one")
                yield found

    def content(self, entry):
        """The content of a file, chunk by chunk; whoever takes it all has it verified."""
        items = self.walk_list(entry.chunk_list, None, entry.length) if entry.chunk_list else entry.chunks or []
        hasher = blake3()
        for chunk_id, length in items:
            text = self.chunk(chunk_id, DATA)
            require(len(text) == length, "a chunk of another length")
            hasher.update(text)
            yield text
        require(hasher.digest() == entry.hash, "the content does not match its BLAKE3")

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


def write_file(repository, target, entry):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "xb") as file:
        try:
            for text in repository.content(entry):
                file.write(text)
        except Refused:
            os.unlink(target)
            raise


def extract(repository, wanted, folder, keep_going=False):
    """Writes a snapshot. Links are made last and the folder was empty before, so no path leads through a link.

    With `keep_going`, a file that cannot be read is reported and left out.
    """
    _, snapshot = repository.snapshot(wanted)
    os.makedirs(folder, exist_ok=True)
    require(not os.listdir(folder), f"{folder} is not empty")
    links, times = [], []
    for domain, path, entry in repository.walk(snapshot["root"]):
        if entry.kind == 1 and entry.length is not None:
            place = place_of(domain, path, entry)
            target = safe_join(folder, place)
            try:
                repository.named(place, write_file, repository, target, entry)
            except Refused as error:
                if not keep_going:
                    raise
                repository.tell(str(error))
                continue
        elif domain == "" and entry.kind == 2:
            target = safe_join(folder, place_of(domain, path, entry)) if path else folder
            os.makedirs(target, exist_ok=True)
        elif domain == "" and entry.kind == 3:
            links.append((safe_join(folder, place_of(domain, path, entry)), entry.target or b""))
            continue
        else:
            continue
        if entry.mtime is not None:
            times.append((target, entry.mtime))
    for target, _ in links:
        os.makedirs(os.path.dirname(target), exist_ok=True)
    for target, to in links:
        os.symlink(to, os.fsencode(target))
    for target, mtime in times:
        os.utime(target, ns=(mtime, mtime), follow_symlinks=False)


def check(repository):
    """Reads every chunk of every pack and every file of every snapshot; refuses a repository with anything broken in it."""
    for name in repository.pack_names():
        pack = repository.pack(name)
        require(pack, f"packs/{name[:2]}/{name} is broken")
        for ordinal, (frame, i) in enumerate(pack.places):
            chunk_id = frame.chunks[i][0]
            text = repository.copy(chunk_id, frame.kind, name, ordinal, frame.base, 0)
            require(repository.keys.id_of(text, frame.kind) == chunk_id, f"chunk {chunk_id.hex()} does not match its id")
            found = (name, ordinal, frame.base) in repository.where.get(chunk_id, [])
            require(found, f"chunk {chunk_id.hex()} is not in the index")
    for snapshot_id, snapshot in repository.snapshots():
        for domain, path, entry in repository.walk(snapshot["root"]):
            if entry.length is not None:
                place_of(domain, path, entry)
                for _ in repository.content(entry):
                    pass
        print(json.dumps({"snapshot": snapshot_id, "verdict": "ok"}))
    require(repository.reports == 0, f"{repository.reports} things are broken")


def main():
    parser = argparse.ArgumentParser(
        description="Reads a heirloom repository.", epilog="The password is taken from HEIRLOOM_PASSWORD."
    )
    parser.add_argument("repo")
    parser.add_argument("--no-index", action="store_true", help="read the packs' directories only")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the snapshots, one line of JSON each")
    one = commands.add_parser("extract", help="write the files of a snapshot to a new or empty folder")
    one.add_argument("snapshot", help="an id, its first digits, or latest")
    one.add_argument("dir")
    one.add_argument("--keep-going", action="store_true", help="leave out files that cannot be read")
    commands.add_parser("check", help="read and verify everything")
    for command in commands.choices.values():
        command.add_argument(
            "--no-index", action="store_true", default=argparse.SUPPRESS, help="read the packs' directories only"
        )
    args = parser.parse_args()
    try:
        repository = Repository(
            args.repo,
            os.environ.get("HEIRLOOM_PASSWORD"),
            os.environ.get("HEIRLOOM_RECOVERY"),
            use_index=not args.no_index,
            report=lambda line: print(f"read_repo: {line}", file=sys.stderr),
        )
        if args.command == "list":
            for snapshot_id, snapshot in repository.snapshots():
                print(json.dumps({"id": snapshot_id, **snapshot}))
        elif args.command == "extract":
            extract(repository, args.snapshot, args.dir, args.keep_going)
            require(
                not args.keep_going or repository.reports == 0, f"{repository.reports} things were broken; the rest was written"
            )
        else:
            check(repository)
    except Exception as error:  # hostile bytes may break anything; a person is told in one line, and nothing goes on
        kind = "" if isinstance(error, (Refused, OSError)) else f"{type(error).__name__}: "
        print(f"read_repo: {kind}{error}".replace("\n", " "), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
