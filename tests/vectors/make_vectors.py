#!/usr/bin/env python3
"""Writes the test vectors of SPEC.md beside itself: tests/vectors/*.json, and the folders of REPOSITORIES.

    make_vectors.py           writes them
    make_vectors.py --check   compares instead, and exits 1 if a file differs

Nothing depends on a clock or on chance: what the format wants random is `fixed(label)`. Compressed bytes differ among versions of zstd,
so they are made once and kept in zstd.json; a run takes them from there, after it has decoded them, and compresses what is missing.
Every verdict is declared here and confirmed by read_repo.py; a difference stops the run.
"""

import argparse
import json
import os
import struct
import sys
import tempfile
import unicodedata
from dataclasses import dataclass

import argon2.low_level
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from mnemonic import Mnemonic

import read_repo as reader
from read_repo import DATA, DELTA, DIRECTORY_FRAME, LIST, NODE, RAW, ZSTD, Refused, derive, keyed

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY_ID = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
CREATED = 1_700_000_000
REPOSITORIES = ("repository", "repository-deltas")


def fixed(label, length=32):
    """The bytes that stand where the format wants random ones: BLAKE3 of the label, extended."""
    return blake3(label.encode()).digest(length=length)


SECRET = fixed("secret")


# ---- the writer's half of SPEC.md


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def zigzag(n):
    return n << 1 if n >= 0 else (-n << 1) - 1


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def line_file(line):
    return line.encode() + b"\n" + blake3(line.encode()).hexdigest().encode() + b"\n"


def config_line(cipher="aes-256-gcm", **changes):
    config = {"heirloom": 1, "id": REPOSITORY_ID.hex(), "cipher": cipher, "created": CREATED, "pack_bytes": 67_108_864}
    return compact({**config, "read_needs": [], "write_needs": [], **changes})


def keys_for(cipher="aes-256-gcm"):
    return reader.Keys.of(SECRET, {"id": REPOSITORY_ID.hex(), "cipher": cipher})


def seal_secret(config, key):
    cipher = reader.CIPHERS[json.loads(config)["cipher"]](key)
    return cipher.encrypt(bytes(12), SECRET, blake3(config.encode()).digest()).hex()


def password_slot(config, password, memory_kib=64, passes=1, lanes=1):
    salt = fixed("slot salt", 16)
    text = unicodedata.normalize("NFC", password).encode()
    key = argon2.low_level.hash_secret_raw(text, salt, passes, memory_kib, lanes, 32, argon2.low_level.Type.ID)
    slot = {
        "slot": fixed("password slot", 8).hex(),
        "kind": "password",
        "created": CREATED,
        "config": config,
        "salt": salt.hex(),
    }
    return {**slot, "memory_kib": memory_kib, "passes": passes, "lanes": lanes, "sealed": seal_secret(config, key)}


def recovery_slot(config, entropy):
    salt = fixed("recovery salt", 16)
    slot = {
        "slot": fixed("recovery slot", 8).hex(),
        "kind": "recovery",
        "created": CREATED,
        "config": config,
        "salt": salt.hex(),
    }
    return {**slot, "sealed": seal_secret(config, derive("heirloom 1 recovery", entropy + salt))}


def open_slot(config):
    return {"slot": fixed("open slot", 8).hex(), "kind": "open", "created": CREATED, "config": config, "secret": SECRET.hex()}


class Sealer:
    """A sealed file in the making."""

    def __init__(self, keys, kind, label, clear=b""):
        self.header = reader.MAGIC + bytes([1, kind]) + bytes(6) + keys.repository + fixed(f"file salt {label}")
        self.key = keyed(keys.seal, self.header + clear)
        self.aead = reader.CIPHERS[keys.cipher](self.key)

    def seal(self, number, plain, last=False):
        return self.aead.encrypt(reader.nonce(number, last), plain, None)


def seal_payload(keys, kind, label, payload, clear=b""):
    sealer = Sealer(keys, kind, label, clear)
    starts = range(0, max(len(payload), 1), reader.BLOCK)
    blocks = [sealer.seal(n, payload[at : at + reader.BLOCK], n == len(starts) - 1) for n, at in enumerate(starts)]
    return sealer.header + clear + b"".join(blocks)


def seal_segment(keys, label, contents):
    """The file of a segment of these contents: its clear part, and its payload sealed."""
    packs, superseded = struct.unpack("<II", contents[:8])
    clear = 8 + 40 * packs + 32 * superseded
    return seal_payload(keys, reader.SEGMENT, label, contents[clear:], contents[:clear])


class Compressed:
    """zstd.json: BLAKE3 of what went in -> what came out."""

    path = os.path.join(HERE, "zstd.json")
    known, used = {}, {}

    @classmethod
    def load(cls):
        if os.path.exists(cls.path):
            with open(cls.path) as file:
                cls.known = json.load(file)["frames"]

    @classmethod
    def frame(cls, plain, base=b""):
        key = blake3(varint(len(base)) + base + plain).hexdigest()
        prefix = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if base else None
        if key in cls.known:
            frame = bytes.fromhex(cls.known[key])
            text = zstandard.ZstdDecompressor(dict_data=prefix).decompress(frame, max_output_size=len(plain))
            assert text == plain, f"zstd.json: {key} decodes to something else"
        else:
            frame = zstandard.ZstdCompressor(level=3, dict_data=prefix).compress(plain)
        cls.used[key] = frame.hex()
        return frame


class PackWriter:
    """Frames, then a directory, and the header again."""

    def __init__(self, keys, kind, label):
        self.kind, self.keys, self.sealer = kind, keys, Sealer(keys, kind, label)
        self.frames, self.body = [], b""

    def add(self, encoding, kind, texts, base=None, version=1):
        """Appends a frame of chunks; `base` is the plaintext of a delta's base. Returns the chunks' ids."""
        plain = b"".join(texts)
        if encoding != RAW:
            plain = Compressed.frame(plain, base or b"")
        sealed = self.sealer.seal(len(self.frames), plain)
        chunks = [(self.keys.id_of(text, kind), len(text)) for text in texts]
        frame = reader.Frame(len(self.frames), reader.HEADER + len(self.body), len(sealed), encoding, kind, chunks)
        if encoding == DELTA:
            frame.base, frame.version = self.keys.id_of(base, kind), version
        self.frames.append(frame)
        self.body += sealed
        return [chunk_id for chunk_id, _ in chunks]

    def finish(self, directory=None, padding=None, end=reader.END_MAGIC, length=None, last=False, header=None):
        """The bytes of the pack. The arguments make malformed ones."""
        plain = self.directory() if directory is None else directory
        fixed_part = reader.HEADER + len(self.body) + len(plain) + reader.TAG + reader.TRAILER
        plain += bytes(-fixed_part % 4096) if padding is None else padding(-fixed_part % 4096)
        sealed = self.sealer.seal(DIRECTORY_FRAME, plain, last)
        trailer = (header or self.sealer.header) + struct.pack("<I", len(sealed) if length is None else length) + end
        return self.sealer.header + self.body + sealed + trailer

    def directory(self):
        return varint(len(self.frames)) + b"".join(encode_frame(frame) for frame in self.frames)


def encode_frame(frame):
    chunks = b"".join(chunk_id + varint(length) for chunk_id, length in frame.chunks)
    out = bytes([frame.encoding, frame.kind]) + varint(frame.sealed_length) + varint(len(frame.chunks)) + chunks
    return out + frame.base + bytes([frame.version]) if frame.encoding == DELTA else out


def size_class(n):
    if n == 0:
        return 0
    e = n.bit_length() - 1
    return 8 * e + ((n >> (e - 3) if e >= 3 else n << (3 - e)) & 7)


def pack_entries(number, frames):
    """Index entries of the pack that is `number` in its segment's table, and their deltas' bases."""
    ordinal = 0
    for frame in frames:
        for chunk_id, length in frame.chunks:
            share = -(-frame.sealed_length * length // max(frame.length(), 1))
            flags = (frame.encoding == DELTA) | frame.kind << 1
            yield (chunk_id, number, ordinal, size_class(share), flags), frame.base
            ordinal += 1


def segment_contents(packs, superseded, entries):
    """`packs`: (name, length, kind); `entries`: (entry, base or None), in any order. The clear part, and after it the payload."""
    entries = sorted(entries, key=lambda item: item[0][:3])
    deltas = [(i, base) for i, (entry, base) in enumerate(entries) if entry[4] & 1]
    filter_blocks, entry_blocks = -(-len(entries) * 10 // 512), -(-len(entries) // 170)
    clear = struct.pack("<II", len(packs), len(superseded))
    clear += b"".join(name + struct.pack("<IB3x", length, kind) for name, length, kind in packs) + b"".join(superseded)
    head = struct.pack("<QIII12x", len(entries), len(deltas), filter_blocks, entry_blocks)
    filters = bytearray(64 * filter_blocks)
    for (chunk_id, *_), _ in entries:
        block = int.from_bytes(chunk_id[:4], "big") * filter_blocks >> 32
        g = int.from_bytes(chunk_id[4:12], "little")
        for i in range(6):
            bit = (g >> 9 * i) % 512
            filters[64 * block + bit // 8] |= 1 << bit % 8
    packed = [struct.pack("<16sIHBB", *entry) for entry, _ in entries]
    blocks = [packed[i : i + 170] for i in range(0, len(packed), 170)]
    tables = head + b"".join(struct.pack("<Q", i) + base for i, base in deltas) + filters
    tables += b"".join(block[0][:8] for block in blocks)
    tables += bytes(-len(tables) % 4096)
    return clear + tables + b"".join(b"".join(block).ljust(4096, b"\0") for block in blocks)


# chunker


def gear_table(key):
    return struct.unpack("<256Q", keyed(key, b"gear", 2048))


MEDIA = [
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"GIF8",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"ID3",
    b"RIFF",
    b"caff",
    b"#!AMR",
    b"bvx",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
]


def wal_page_size(head):
    if len(head) < 12 or head[:4] not in (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"):
        return None
    size = int.from_bytes(head[8:12], "big")
    return size if 512 <= size <= 65_536 and size & (size - 1) == 0 else None


def rule_of(data):
    if len(data) <= 65_536:
        return 1
    if data.startswith(b"SQLite format 3\0"):
        return 2
    if wal_page_size(data):
        return 3
    return 4 if any(data.startswith(magic) for magic in MEDIA) or data[4:8] == b"ftyp" else 5


def cuts(key, data):
    """Where chunks end."""
    rule, n = rule_of(data), len(data)
    if rule == 1:
        ends = []
    elif rule == 2:
        ends = range(65_536, n, 65_536)
    elif rule == 3:
        ends = range(32, n, 16 * (24 + wal_page_size(data)))
    elif rule == 4:
        ends = range(4 << 20, n, 4 << 20)
    else:
        return content_cuts(key, data)
    return [*ends, n] if n else []


def content_cuts(key, data):
    gear, ends, start = gear_table(key), [], 0
    mask_before = sum(1 << bit for bit in range(45, 63))
    mask_after = sum(1 << bit for bit in range(49, 63))
    while start < len(data):
        end = limit = min(start + 262_144, len(data))
        h = 0
        for at in range(start + 16_384, limit):
            h = (h << 1) + gear[data[at]] & 0xFFFF_FFFF_FFFF_FFFF
            if h & (mask_before if at - start < 65_536 else mask_after) == 0:
                end = at + 1
                break
        ends.append(end)
        start = end
    return ends


# trees


def encode_entry(fields):
    """`fields`: (tag, number or bytes), in the order given; signed numbers as they are."""
    out = b""
    for tag, value in fields:
        if isinstance(value, bytes):
            out += bytes([tag]) + varint(len(value)) + value
        else:
            out += bytes([tag]) + varint(zigzag(value) if tag in reader.SIGNED else value)
    return out


def encode_item(level, before, key, value):
    shared = len(os.path.commonprefix([before, key]))
    rest = varint(shared) + varint(len(key) - shared) + key[shared:]
    return rest + (varint(len(value)) + value if level == 0 else value)


def encode_node(level, items):
    out, before = bytes([level]) + varint(len(items)), b""
    for key, value in items:
        out += encode_item(level, before, key, value)
        before = key
    return out


def zeros(tree_key, key):
    n = int.from_bytes(keyed(tree_key, key)[:8], "little")
    return (n & -n).bit_length() - 1 if n else 64


def build_tree(keys, items):
    """(root id, [(level, id, node)]) of the tree of [(key, entry)], which ascend."""
    nodes, level = [], 0
    while True:
        parents = []
        for group in split(keys, level, items):
            node = encode_node(level, group)
            node_id = keys.id_of(node, NODE)
            nodes.append((level, node_id, node))
            parents.append((group[0][0] if group else b"", node_id))
        if len(parents) == 1:
            return parents[0][1], nodes
        items, level = parents, level + 1


def split(keys, level, items):
    groups = [[]]
    for item in items:
        full = len(encode_node(level, groups[-1] + [item])) > 262_144
        if groups[-1] and (full or zeros(keys.tree, item[0]) >= 6 * (level + 1)):
            groups.append([])
        groups[-1].append(item)
    return groups


def build_list(keys, items):
    """(id, [(level, id, list)]) of the chunk lists of [(id, length)]."""
    nodes, level = [], 0
    while True:
        groups, parents = [[]], []
        for item in items:
            groups[-1].append(item)
            is_boundary = int.from_bytes(item[0][:2], "little") % 512 == 0
            if is_boundary and len(groups[-1]) >= 2 or len(groups[-1]) == 4096:
                groups.append([])
        for group in filter(None, groups):
            text = bytes([level]) + varint(len(group)) + b"".join(i + varint(n) for i, n in group)
            list_id = keys.id_of(text, LIST)
            nodes.append((level, list_id, text))
            parents.append((list_id, sum(n for _, n in group)))
        if len(parents) == 1:
            return parents[0][0], nodes
        items, level = parents, level + 1


# ---- vectors


def verdict_of(function, *args):
    try:
        function(*args)
        return "ok"
    except reader.Newer as error:
        return f"newer: {error}"
    except Refused as error:
        return f"refuse: {error}"


def case(name, expected, function, *args, unspecified=False, **fields):
    """A vector whose verdict read_repo.py confirms. `expected` is ok, refuse or newer; `unspecified`, if SPEC.md leaves it open."""
    verdict = verdict_of(function, *args)
    assert verdict.split(":")[0] == expected, f"{name}: {verdict} instead of {expected}"
    out = {"name": name, "verdict": verdict, **fields}
    if unspecified:
        out["unspecified"] = True
    return out


def pieces_bytes(pieces):
    """The bytes that a formula stands for."""
    out = b""
    for piece in pieces:
        if "hex" in piece:
            out += bytes.fromhex(piece["hex"])
        elif "xof" in piece:
            out += fixed(piece["xof"], piece["length"])
        else:
            part = bytes.fromhex(piece["repeat"])
            out += (part * (piece["length"] // len(part) + 1))[: piece["length"]]
    return out


def xof(label, length):
    return {"xof": label, "length": length}


def repeat(text, length):
    return {"repeat": text.hex(), "length": length}


def chunker_vectors():
    key = keys_for().chunker
    gear = gear_table(key)
    cases = []

    def add(name, rule, *pieces):
        data = pieces_bytes(pieces)
        assert rule_of(data) == rule, f"{name}: rule {rule_of(data)}"
        cases.append({"name": name, "pieces": pieces, "length": len(data), "rule": rule, "cuts": cuts(key, data)})

    zero = lambda n: repeat(b"\0", n)
    for n in (0, 1, 16_384, 65_535, 65_536):
        add(f"whole, {n} bytes", 1, xof("random", n))
    add("SQLite of 65536 bytes is whole", 1, {"hex": b"SQLite format 3\0".hex()}, zero(65_520))
    for n in (65_537, 81_920, 262_143, 262_144, 262_145, 1_000_000):
        add(f"random, {n} bytes", 5, xof("random", n))
        add(f"zeros, {n} bytes", 5, zero(n))
    add("text repeated", 5, repeat(b"The quick brown fox jumps over the lazy dog. ", 600_000))
    add("random, moved by one byte", 5, {"hex": "2a"}, xof("random", 1_000_000))
    add("random, zeros, random", 5, xof("a", 100_000), zero(300_000), xof("b", 100_000))
    sqlite = {"hex": b"SQLite format 3\0".hex()}
    for n in (65_537, 131_072, 131_073, 300_000):
        add(f"SQLite, {n} bytes", 2, sqlite, zero(n - 16))
    add("SQLite without its zero byte", 5, {"hex": b"SQLite format 3".hex()}, repeat(b" ", 65_537 - 15))
    for magic in ("377f0682", "377f0683"):
        for page in (512, 4096, 65_536):
            n = 32 + max(2 * 16 * (24 + page), 65_536) + 24 + page
            add(f"WAL {magic}, page {page}", 3, {"hex": magic + "002de218" + page.to_bytes(4, "big").hex()}, zero(n - 12))
        for page in (0, 1, 256, 1000, 4095, 131_072, 2**31):
            add(
                f"WAL {magic}, bad page {page}",
                5,
                {"hex": magic + "002de218" + page.to_bytes(4, "big").hex()},
                zero(65_537 - 12),
            )
    add("WAL 377f0682, page 4096 in the wrong byte order", 5, {"hex": "377f0682002de21800100000"}, zero(65_525))
    add("WAL, all frames whole", 3, {"hex": "377f0682002de21800001000"}, zero(32 + 3 * 16 * 4120 - 12))
    add("WAL of another magic", 5, {"hex": "377f0684002de21800001000"}, zero(65_525))
    for magic in MEDIA:
        add(f"media {magic.hex()}", 4, {"hex": magic.hex()}, zero(65_537 - len(magic)))
        add(f"not quite media {magic.hex()}", 5, {"hex": magic[:-1].hex() + "01"}, zero(65_537 - len(magic)))
        add(f"media {magic.hex()}, 65536 bytes", 1, {"hex": magic.hex()}, zero(65_536 - len(magic)))
    add("ftyp at 4", 4, {"hex": "00000018" + b"ftypheic".hex()}, zero(65_537))
    add("ftyp at 0", 5, {"hex": b"ftypheic".hex()}, zero(65_537))
    for n in (4_194_303, 4_194_304, 4_194_305, 9_000_000):
        add(f"JPEG, {n} bytes", 4, {"hex": "ffd8ff"}, zero(n - 3))
    table = ["%016x" % number for number in gear]
    return {"chunker_key": key.hex(), "gear": table[:8], "gear_last": table[255], "cases": cases}


def keys_vectors():
    config = config_line()
    chacha = config_line("chacha20-poly1305")
    entropy = fixed("recovery entropy", 20)
    words = Mnemonic("english").to_mnemonic(entropy)
    keys = keys_for()
    slots, configs, lines = [], [], []

    def add_slot(name, expected, slot, config=config, password=None, recovery=None, **more):
        def opens():
            parsed = reader.parse_config(config.encode())
            secret = reader.open_slot(slot, config.encode(), password, recovery and reader.recovery_entropy(recovery))
            reader.known(slot.get("kind") in reader.SLOT_KINDS, f"keys of kind {slot.get('kind')}")
            reader.require(secret is not None, "no slot of the right kind")
            assert secret == SECRET and parsed

        fields = {"file": line_file(compact(slot)).decode(), "config": config, "password": password, "recovery": recovery}
        slots.append(case(name, expected, opens, **fields, **more))

    slot = password_slot(config, "correct horse")
    add_slot("password", "ok", slot, password="correct horse")
    add_slot("password, chacha20-poly1305", "ok", password_slot(chacha, "correct horse"), chacha, password="correct horse")
    add_slot(
        "password, two passes and lanes", "ok", password_slot(config, "correct horse", 256, 2, 2), password="correct horse"
    )
    add_slot("password, given as NFD", "ok", password_slot(config, "\u00c5ngstr\u00f6m"), password="A\u030angstro\u0308m")
    add_slot("password, empty", "ok", password_slot(config, ""), password="")
    add_slot("wrong password", "refuse", slot, password="correct house", wrong_password=True)
    add_slot("recovery, words", "ok", recovery_slot(config, entropy), recovery=words)
    add_slot("recovery, chacha20-poly1305", "ok", recovery_slot(chacha, entropy), chacha, recovery=words)
    other = Mnemonic("english").to_mnemonic(fixed("other entropy", 20))
    add_slot("recovery, another key", "refuse", recovery_slot(config, entropy), recovery=other, wrong_password=True)
    shifted = " ".join(words.split()[1:] + words.split()[:1])
    add_slot("recovery, checksum wrong", "refuse", recovery_slot(config, entropy), recovery=shifted)
    add_slot("recovery, twelve words", "refuse", recovery_slot(config, entropy), recovery=" ".join(words.split()[:12]))
    add_slot(
        "recovery, no such word", "refuse", recovery_slot(config, entropy), recovery="heirloom " + " ".join(words.split()[1:])
    )
    add_slot("open", "ok", open_slot(config))
    add_slot("open, but a password was given", "refuse", open_slot(config), password="correct horse")
    add_slot("open, but a recovery key was given", "refuse", open_slot(config), recovery=words)
    add_slot("password, but nothing was given", "refuse", slot)
    add_slot("password, but a recovery key was given", "refuse", slot, recovery=words)
    add_slot("of a kind that is not known", "newer", {**slot, "kind": "fingerprint"}, password="correct horse")
    add_slot("memory too high", "refuse", {**slot, "memory_kib": 2_097_153}, password="correct horse", wrong_password=False)
    add_slot("passes too high", "refuse", {**slot, "passes": 65}, password="correct horse", wrong_password=False)
    add_slot(
        "lanes too high", "refuse", {**slot, "memory_kib": 1024, "lanes": 17}, password="correct horse", wrong_password=False
    )
    add_slot("memory is negative", "refuse", {**slot, "memory_kib": -1}, password="correct horse", wrong_password=False)
    add_slot("no passes", "refuse", {**slot, "passes": 0}, password="correct horse", wrong_password=False)
    add_slot("no lanes", "refuse", {**slot, "lanes": 0}, password="correct horse", wrong_password=False)
    add_slot("salt too short", "refuse", {**slot, "salt": "00"}, password="correct horse", wrong_password=False)
    add_slot(
        "sealed too short", "refuse", {**slot, "sealed": slot["sealed"][:-2]}, password="correct horse", wrong_password=False
    )
    add_slot(
        "sealed flipped",
        "refuse",
        {**slot, "sealed": "%096x" % (int(slot["sealed"], 16) ^ 1)},
        password="correct horse",
        wrong_password=True,
    )
    another = config_line(created=CREATED + 1)
    add_slot("copy of another config", "refuse", slot, another, password="correct horse")
    add_slot("config exchanged", "refuse", {**slot, "config": another}, another, password="correct horse", wrong_password=True)

    def add_config(name, expected, line, **more):
        configs.append(case(name, expected, reader.parse_config, line.encode(), line=line, **more))

    add_config("aes-256-gcm", "ok", config)
    add_config("chacha20-poly1305", "ok", chacha)
    add_config("unknown keys", "ok", config_line(colour="blue"))
    add_config("unknown write_needs", "ok", config_line(write_needs=["sparkles"]))
    add_config("spaces between tokens", "ok", config.replace(":", " : "))
    for version in (0, 2):
        add_config(f"version {version}", "newer", config_line(heirloom=version))
    add_config("version as text", "refuse", config_line(heirloom="1"))
    add_config("unknown read_needs", "newer", config_line(read_needs=["sparkles"]))
    add_config("unknown cipher", "newer", config_line("rot13"))
    add_config("cipher as number", "refuse", config_line(1))
    add_config("id too short", "refuse", config_line(id="00"))
    add_config("id in upper case", "refuse", config_line(id="0A" * 16))
    add_config("an array", "refuse", "[]")
    add_config("not JSON", "refuse", config[:-1])

    def add_line(name, expected, data, **more):
        pieces = data if isinstance(data, list) else [{"hex": data.hex()}]
        lines.append(case(name, expected, reader.read_line_file, pieces_bytes(pieces), pieces=pieces, **more))

    good = line_file(config)
    add_line("whole", "ok", good)
    add_line("check line broken", "refuse", good.replace(b"aes", b"AES"))
    add_line("check line missing", "refuse", good[: good.index(b"\n") + 1])
    add_line(
        "check line of the line with its newline",
        "refuse",
        config.encode() + b"\n" + blake3(config.encode() + b"\n").hexdigest().encode() + b"\n",
    )
    add_line("empty", "refuse", b"")
    add_line("check line in upper case", "refuse", good[:-65] + good[-65:].upper())
    add_line("without its last newline", "refuse", good[:-1])
    add_line("a third line", "refuse", good + b"\n")
    for length, expected in ((65_536, "ok"), (65_537, "refuse")):
        check = blake3(b" " * (length - 66)).hexdigest().encode()
        add_line(f"{length} bytes", expected, [repeat(b" ", length - 66), {"hex": (b"\n" + check + b"\n").hex()}])
    derived = {
        name: getattr(keys, field).hex()
        for name, field in (("seal_key", "seal"), ("id_key", "chunk_id"), ("chunker_key", "chunker"), ("tree_key", "tree"))
    }
    recovery = {"entropy": entropy.hex(), "words": words}
    zero = {"entropy": bytes(20).hex(), "words": Mnemonic("english").to_mnemonic(bytes(20))}
    return {
        "secret": SECRET.hex(),
        **derived,
        "recovery": [recovery, zero],
        "configs": configs,
        "line_files": lines,
        "slots": slots,
        "repositories": opening_cases(),
    }


def copies(slot):
    return {f"keys/{slot['slot']}-{copy}": line_file(compact(slot)) for copy in (1, 2)}


def opening_cases():
    """Repositories of nothing but config and slots, opened."""
    config, another, words = config_line(), config_line(created=CREATED + 1), Mnemonic("english").to_mnemonic(bytes(20))
    secret, evil = password_slot(config, "correct horse"), {"slot": "00" * 8}
    recovery = recovery_slot(config, bytes(20))
    cases = []

    def add(name, expected, slots, line=line_file(config), password="correct horse", reported=(), **more):
        files = {"config": line} if line else {}
        for slot in slots:
            files |= slot if "slot" not in slot else copies(slot)
        reports = []

        def opens():
            with tempfile.TemporaryDirectory() as folder:
                for path, text in {"keys/.DS_Store": b"", **files}.items():
                    os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
                    with open(os.path.join(folder, path), "wb") as file:
                        file.write(text)
                assert reader.Repository(folder, password, report=lambda line, _=False: reports.append(line)).keys == keys_for()

        fields = {"files": {path: text.decode() for path, text in files.items()}, "password": password}
        cases.append(case(name, expected, opens, **fields, **more))
        cases[-1]["reported"] = list(reported)
        assert all(any(line.startswith(begin) for line in reports) for begin in reported), f"{name}: {reports}"

    broken, first = line_file(config).replace(b"aes", b"AES"), "keys/" + evil["slot"]
    one, two = copies(secret)
    whole = line_file(compact(secret))
    other, costly = {**password_slot(another, "correct horse"), **evil}, {**secret, **evil, "memory_kib": 2**31}
    add("password slot, then recovery slot", "ok", [secret, recovery])
    add("recovery slot before the password slot", "ok", [{**recovery, **evil}, secret])
    add("no slot", "refuse", [])
    add("no config", "refuse", [secret], b"")
    add("the first copy broken", "ok", [{one: broken, two: whole}], reported=[one])
    add("the second copy broken", "ok", [{one: whole, two: broken}], reported=[two])
    add("both copies broken", "refuse", [{one: broken, two: broken}])
    add("a slot of another config before it", "ok", [other, secret], reported=[first])
    add("only a slot of another config", "refuse", [other])
    add("an open slot before it", "ok", [{**open_slot(config), **evil, "secret": "66" * 32}, secret])
    add(
        "an open slot, and a wrong password",
        "refuse",
        [open_slot(config), secret],
        password="correct house",
        wrong_password=True,
    )
    add("an open slot, and no password", "ok", [open_slot(config)], password=None)
    add("an open slot beside a password, and no password", "refuse", [secret, open_slot(config)], password=None)
    add("an open slot beside one of another config, and no password", "refuse", [other, open_slot(config)], password=None)
    add("an open slot in place of a copy", "ok", [{one: line_file(compact({**open_slot(config), "slot": secret["slot"]})), two: whole}])
    later = {**evil, "kind": "fingerprint", "config": config, "salt": 7}
    add("a slot of a kind that is not known before it", "ok", [later, secret])
    add("only a slot of a kind that is not known", "newer", [later])
    add("an open slot beside one of a kind that is not known", "newer", [later, open_slot(config)], password=None)
    add("a slot with a label", "ok", [{**secret, "label": "Anna"}])
    add("config broken, and an open slot of another", "ok", [{**open_slot(another), **evil}, secret], broken)
    add("a slot that asks for too much before it", "ok", [costly, secret])
    add(
        "a slot that asks for too much, and a wrong password",
        "refuse",
        [secret, {**costly, "slot": "ff" * 8}],
        password="wrong",
    )
    cases[-1]["wrong_password"] = True
    add("a slot of another password before it", "ok", [{**password_slot(config, "another"), **evil}, secret])
    named = {first + "-1": line_file(compact(open_slot(config)))}
    add("a slot under another's name before it", "ok", [named, secret], reported=[first])
    add("config broken", "ok", [secret], broken, reported=["config"])
    add("config empty", "ok", [secret], b"\n", reported=["config"])
    add("config broken, and the first slot as well", "ok", [{first + "-1": broken}, secret], broken, reported=["config", first])
    add("config broken, and no slot", "refuse", [], broken)
    changed = {**password_slot(another, "another"), **evil}
    add("config broken, and the first slot of another", "refuse", [changed, secret], broken)
    add("config whole, but of version 2", "newer", [secret], line_file(config_line(heirloom=2)))
    return cases


def flip(data, at, bit=1):
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


def sealed_vectors():
    cases, files = [], []
    kind = reader.SNAPSHOT
    for cipher in reader.CIPHERS:
        keys = keys_for(cipher)
        for length in (0, 1, 13, 1 << 20, (1 << 20) + 1, 2 << 20):
            label = f"payload {length}"
            data = fixed(label, length)
            whole = seal_payload(keys, kind, label, data)
            assert reader.open_payload(keys, whole, kind) == data
            sealer = Sealer(keys, kind, label)
            file = {"name": f"{cipher}, {length} bytes", "cipher": cipher, "kind": kind, "header": sealer.header.hex()}
            file |= {
                "file_key": sealer.key.hex(),
                "payload": [xof(label, length)],
                "length": len(whole),
                "blake3": blake3(whole).hexdigest(),
            }
            files.append(file | ({"file": whole.hex()} if length < 100 else {}))
        label = "payload 13"
        whole = seal_payload(keys, kind, label, fixed(label, 13))

        def add(name, expected, data, expect=kind, cipher=cipher, keys=keys, **more):
            fields = {"cipher": cipher, "kind": expect, "file": data.hex()}
            cases.append(case(f"{cipher}, {name}", expected, reader.open_payload, keys, data, expect, **fields, **more))

        add("whole", "ok", whole)
        regions = {
            "magic": 0,
            "version": 8,
            "kind": 9,
            "zero bytes": 10,
            "last zero byte": 15,
            "repository": 16,
            "salt": 32,
            "end of salt": 63,
        }
        for region, at in (regions | {"ciphertext": 64, "end of ciphertext": 76, "tag": 77, "end of tag": 92}).items():
            add(f"flip in {region}", "newer" if region == "version" else "refuse", flip(whole, at))
        add("kind that is not known", "newer", whole[:9] + b"\x0b" + whole[10:])
        add("kind 0", "refuse", whole[:9] + b"\0" + whole[10:])
        add("kind that is not known, of another repository", "refuse", whole[:9] + b"\x0b" + bytes(23) + whole[32:])
        for keep in (0, 1, 63, 64, 65, 79, 80, 92):
            add(f"cut to {keep} bytes", "refuse", whole[:keep])
        add("a byte more", "refuse", whole + b"\0")
        add("in another folder", "refuse", whole, reader.SEGMENT)
        other = reader.Keys(bytes(16), cipher, keys.seal, keys.chunk_id, keys.chunker, keys.tree)
        add("of another repository, well sealed", "refuse", seal_payload(other, kind, label, b"payload"))
        sealer = Sealer(keys, kind, label)
        add("frame 1 in place of frame 0", "refuse", sealer.header + sealer.seal(1, b"payload", True))
        add("block that is not marked as the last", "refuse", sealer.header + sealer.seal(0, b"payload"))
        add("with associated data", "refuse", sealer.header + sealer.aead.encrypt(reader.nonce(0, True), b"payload", b"x"))
        add("an empty block after an empty one", "refuse", sealer.header + sealer.seal(0, b"") + sealer.seal(1, b"", True))
        add("short blocks", "refuse", sealer.header + sealer.seal(0, b"pay") + sealer.seal(1, b"load", True))
        wrong_key = reader.CIPHERS[cipher](keyed(keys.seal, sealer.header[32:]))
        add("keyed with the salt alone", "refuse", sealer.header + wrong_key.encrypt(reader.nonce(0, True), b"payload", None))
    return {
        "repository": REPOSITORY_ID.hex(),
        "seal_key": keys_for().seal.hex(),
        "files": files,
        "cases": cases,
        "cuts": sealed_cuts(),
    }


def sealed_cuts():
    """Big files: `file` names one of `files`, of which `keep` bytes are left, followed by `more`."""
    out = []
    one = 64 + (1 << 20) + 16

    def add(cipher, length, keep, expected, more=b""):
        keys, label = keys_for(cipher), f"payload {length}"
        whole = seal_payload(keys, reader.SNAPSHOT, label, fixed(label, length))
        name, data = f"{cipher}, {length} bytes", whole[:keep] + more
        fields = {"file": name, "keep": keep, "more": more.hex()}
        about = f"{name}, the first {keep} of {len(whole)} bytes" + ", and a block" * bool(more)
        out.append(case(about, expected, reader.open_payload, keys, data, reader.SNAPSHOT, **fields))

    for cipher in reader.CIPHERS:
        for keep in (64, one - 1, one, one + 1, one + 16, one + 17):
            add(cipher, (1 << 20) + 1, keep, "ok" if keep == one + 17 else "refuse")
        for keep in (one, 2 * one - 64):
            add(cipher, 2 << 20, keep, "ok" if keep == 2 * one - 64 else "refuse")
        # Block 0 not the last, and an empty block 1 that is.
        empty = Sealer(keys_for(cipher), reader.SNAPSHOT, f"payload {(1 << 20) + 1}").seal(1, b"", True)
        add(cipher, (1 << 20) + 1, one, "refuse", empty)
    return out


def sample_pack(keys, label="sample pack", kind=reader.DATA_PACK):
    """A pack with a frame of every encoding: (writer, plaintexts by ordinal)."""
    pack = PackWriter(keys, kind, label)
    hello, base = b"hello", b"".join(b"line %d of a text that a delta is made of\n" % i for i in range(40))
    changed = base.replace(b"line 7 ", b"line seven ")
    again = changed.replace(b"line 9 ", b"line nine ")
    solid = [b"one", b"two two", b"three three three " * 9]
    pack.add(RAW, DATA, [hello])
    pack.add(ZSTD, DATA, [base])
    pack.add(ZSTD, DATA, solid)
    pack.add(RAW, DATA, [b"four", b"five"])
    pack.add(DELTA, DATA, [changed], base)
    pack.add(DELTA, DATA, [again], changed, version=2)
    return pack, [hello, base, *solid, b"four", b"five", changed, again]


def frame_fields(frame):
    chunks = [{"id": chunk_id.hex(), "length": length} for chunk_id, length in frame.chunks]
    out = {
        "encoding": frame.encoding,
        "kind": frame.kind,
        "at": frame.at,
        "sealed_length": frame.sealed_length,
        "chunks": chunks,
    }
    return out | ({"base": frame.base.hex(), "version": frame.version} if frame.base else {})


def sample_tree_pack(keys):
    """The same of a tree pack: solid frames of nodes and of chunk lists, and deltas of chunks in them."""
    pack = PackWriter(keys, reader.TREE_PACK, "sample tree pack")
    leaf = lambda *names: encode_node(0, [(b"HomeDomain\0" + name, encode_entry([(0, 2)])) for name in names])
    a_to_d, x, a_to_e = leaf(b"a", b"b", b"c", b"d"), leaf(b"x"), leaf(b"a", b"b", b"c", b"d", b"e")
    a_to_f = leaf(b"a", b"b", b"c", b"d", b"e", b"f")
    one, two, longer = (list_bytes(0, list_items(n, begin)) for n, begin in ((3, b""), (2, b"\1"), (4, b"")))
    pack.add(ZSTD, LIST, [one, two])
    pack.add(ZSTD, NODE, [a_to_d, x])
    pack.add(DELTA, NODE, [a_to_e], a_to_d)
    pack.add(DELTA, NODE, [a_to_f], a_to_e, version=2)
    pack.add(DELTA, LIST, [longer], one)
    return pack, [one, two, a_to_d, x, a_to_e, a_to_f, longer]


def read_whole_pack(keys, data, kind=reader.DATA_PACK):
    """The plaintexts of a pack by ordinal, everything checked; bases must be in the same pack."""

    def read(at, n):
        reader.require(0 <= at and at + n <= len(data), "ends too early")
        return data[at : at + n]

    repository = reader.Repository.__new__(reader.Repository)
    pack = reader.Pack(keys, read, len(data), kind)
    it = (kind, "it")
    repository.keys, repository.packs, repository.where = keys, {it: pack}, {}
    repository.frames = reader.LastUsed(reader.MAX_KEPT)
    ids = [(frame.chunks[i][0], frame.kind) for frame, i, _ in pack.places]
    for ordinal, (chunk_id, _) in enumerate(ids):
        repository.where.setdefault(chunk_id, set()).add((it, ordinal))
    return [repository.chunk(*chunk) for chunk in ids]


def pack_vectors():
    out = {
        "repository": REPOSITORY_ID.hex(),
        "seal_key": keys_for().seal.hex(),
        "id_key": keys_for().chunk_id.hex(),
        "packs": [],
    }
    samples = [(cipher, cipher, sample_pack) for cipher in reader.CIPHERS]
    samples.append(("tree pack", "aes-256-gcm", sample_tree_pack))
    for name, cipher, sample in samples:
        keys = keys_for(cipher)
        pack, texts = sample(keys)
        data = pack.finish()
        assert read_whole_pack(keys, data, pack.kind) == texts and len(data) == 4096
        fields = {"name": name, "cipher": cipher, "kind": pack.kind, "blake3": blake3(data).hexdigest(), "directory": pack.directory().hex()}
        fields |= {
            "frames": [frame_fields(frame) for frame in pack.frames],
            "chunks": [text.hex() for text in texts],
            "pack": data.hex(),
        }
        out["packs"].append(fields)
    out["chunk_ids"] = [
        {"plaintext": text.hex(), "kind": kind, "id": keys.id_of(text, kind).hex()}
        for text in (b"", b"hello")
        for kind in (DATA, NODE, LIST)
    ]
    out["cases"] = pack_cases(keys_for())
    return out


def pack_cases(keys):
    cases = []

    def add(name, expected, data, kind=reader.DATA_PACK, **more):
        fields = {"cipher": keys.cipher, "kind": kind, "pack": data.hex(), **more}
        cases.append(case(name, expected, read_whole_pack, keys, data, kind, **fields))

    def tiny(change=lambda frame: None, **finish):
        pack = tiny_pack(keys)
        for frame in pack.frames:
            change(frame)
        return pack.finish(**{"padding": lambda n: b"", **finish})

    def changed(number, changes):
        return tiny(lambda frame: frame.__dict__.update(changes if frame.number == number else {}))

    def first(**changes):
        return changed(0, changes)

    def second(**changes):
        return changed(1, changes)

    some = fixed("some id", 16)
    hello = keys.id_of(b"hello", DATA)
    good = tiny()
    add("two frames", "ok", good)
    after_count = tiny_pack(keys).directory()[1:]
    add("no frames", "ok", PackWriter(keys, reader.DATA_PACK, "tiny pack").finish(padding=lambda n: b""))
    add("wrong end magic", "refuse", tiny(end=b"heir-enD"))
    add("sealed directory said to be longer than the file", "refuse", tiny(length=5000))
    add("sealed directory said to be of 2^32 - 1 bytes", "refuse", tiny(length=2**32 - 1))
    add("sealed directory said to be shorter than a tag", "refuse", tiny(length=15))
    add("sealed directory said to be a byte shorter", "refuse", tiny(length=struct.unpack("<I", good[-12:-8])[0] - 1))
    add("padding with a one at its end", "refuse", tiny(padding=lambda n: bytes(20) + b"\1"))
    add("padding with a one at its start", "refuse", tiny(padding=lambda n: b"\1" + bytes(20)))
    add("frame longer than the pack", "refuse", second(sealed_length=5000))
    add("frame of 2^63 bytes", "refuse", second(sealed_length=1 << 63))
    add("frame of less than a tag", "refuse", second(sealed_length=15))
    add("frames a byte short of the directory", "refuse", second(sealed_length=tiny_pack(keys).frames[1].sealed_length - 1))
    add("raw frame whose chunk is said to be longer", "refuse", first(chunks=[(hello, 6)]))
    add("raw frame whose chunk is said to be shorter", "refuse", first(chunks=[(hello, 4)]))
    add("zstd frame whose chunk is said to be longer", "refuse", second(chunks=[(some, 121)]))
    add("zstd frame whose chunk is said to be shorter", "refuse", second(chunks=[(some, 119)]))
    add("chunk of more than 16 MiB", "refuse", second(chunks=[(some, (16 << 20) + 1)]))
    add("frame whose chunks add up to 2^64", "refuse", second(chunks=[(some, 1 << 63), (some, 1 << 63)]))
    add("wrong id", "refuse", first(chunks=[(some, 5)]))
    add("id of another kind of chunk", "refuse", first(kind=NODE))
    add("unknown encoding", "newer", first(encoding=3))
    add("kind of chunk 0", "refuse", first(kind=0))
    add("kind of chunk 4", "newer", first(kind=4))
    add("frame without chunks", "refuse", first(chunks=[]))
    add("raw bytes said to be zstd", "refuse", first(encoding=ZSTD))
    add("delta of version 0", "refuse", second(encoding=DELTA, base=hello, version=0))
    add("delta of version 255", "ok", second(encoding=DELTA, base=hello, version=255))
    add("delta with two chunks", "refuse", second(encoding=DELTA, base=hello, version=1, chunks=[(some, 60), (some, 60)]))
    add("more frames than there are", "refuse", tiny(directory=b"\x03" + after_count))
    add("fewer frames than there are", "refuse", tiny(directory=b"\x01" + after_count))
    add("2^63 frames", "refuse", tiny(directory=varint(1 << 63) + after_count))
    add("a varint of eleven bytes", "refuse", tiny(directory=b"\x80" * 10 + b"\0" + after_count))
    add("a varint over 64 bits", "refuse", tiny(directory=b"\xff" * 9 + b"\x02" + after_count))
    add("2^40 chunks in a frame", "refuse", tiny(directory=b"\x01\x00\x01" + varint(37) + varint(1 << 40)))
    add(
        "directory that ends in a chunk's id", "refuse", tiny(directory=tiny_pack(keys).directory()[:12], padding=lambda n: b"")
    )
    add("flip in a frame", "refuse", flip(good, 64))
    add("flip in the directory", "refuse", flip(good, len(good) - 104))
    add("flip in the length of the directory", "refuse", flip(good, len(good) - 12))
    add("flip in the header", "refuse", flip(good, 40), unspecified=True)
    add("flip in the header at the end", "refuse", flip(good, len(good) - 76 + 40), unspecified=True)
    add("flip in both headers", "refuse", flip(flip(good, 40), len(good) - 76 + 40))
    add("header of another pack at the end", "refuse", tiny(header=chain_pack(keys, 1).sealer.header), unspecified=True)
    add("among packs of another kind", "refuse", good, reader.TREE_PACK)
    add("cut by a byte at the end", "refuse", good[:-1])
    add("cut to its header", "refuse", good[:64])
    add("empty", "refuse", b"")
    add("kind of file 3", "refuse", PackWriter(keys, reader.SEGMENT, "tiny pack").finish(padding=lambda n: b""))
    add("padded to a multiple of 4096 bytes", "ok", tiny(padding=bytes))
    add("directory sealed with the mark of a last block", "refuse", tiny(last=True))
    add("chain of eight deltas", "ok", chain_pack(keys, 8).finish(padding=lambda n: b""))
    add("chain of nine deltas", "refuse", chain_pack(keys, 9).finish(padding=lambda n: b""))
    circle = PackWriter(keys, reader.DATA_PACK, "circle")
    circle.add(DELTA, DATA, [b"one " * 30], b"two " * 30)
    circle.add(DELTA, DATA, [b"two " * 30], b"one " * 30)
    add("two deltas of each other", "refuse", circle.finish(padding=lambda n: b""))
    swapped = PackWriter(keys, 1, "tiny pack")
    swapped.add(RAW, DATA, [b"hello"])
    swapped.add(RAW, DATA, [b"world"])
    swapped.body = swapped.body[21:] + swapped.body[:21]
    add("two frames exchanged", "refuse", swapped.finish(padding=lambda n: b""))
    for name, expected, pack, *more in delta_packs(keys):
        add(name, expected, pack.finish(padding=lambda n: b""), pack.kind, **dict(more))
    return cases


def tiny_pack(keys):
    pack = PackWriter(keys, reader.DATA_PACK, "tiny pack")
    pack.add(RAW, DATA, [b"hello"])
    pack.add(ZSTD, DATA, [b"world " * 20])
    return pack


def chain_pack(keys, deltas):
    """A chunk, and a chain of deltas above it, each a line longer than its base."""
    pack, text = PackWriter(keys, reader.DATA_PACK, "chain pack"), b"a line to begin with\n" * 3
    pack.add(RAW, DATA, [text])
    for version in range(1, deltas + 1):
        base, text = text, text + b"line %d\n" % version
        pack.add(DELTA, DATA, [text], base, min(version, 8))
    return pack


def delta_packs(keys):
    """(name, verdict, pack) of frames with several chunks, and of deltas and what they may be made of."""
    base, other = b"a base of several words, " * 5, b"something else altogether, " * 5
    text, far, long = base + b"and more", fixed("far", 3000), fixed("far", 3000) + bytes(200_000)

    def pack(*frames, kind=reader.DATA_PACK, changes=None):
        made = PackWriter(keys, kind, "delta pack")
        for frame in frames:
            made.add(*frame)
        made.frames[-1].__dict__.update(changes or {})
        return made

    data = lambda *texts: (RAW, DATA, texts)
    delta = lambda text, base, version=1: (DELTA, DATA, [text], base, version)
    yield "delta of a chunk in a solid frame", "ok", pack(data(b"before", base, b"after"), delta(text, base))
    yield "delta before its base", "ok", pack(delta(text, base), data(base))
    chain = [delta(base + bytes(n), base + bytes(n - 1)) for n in (3, 2, 1)]
    yield "chain of three deltas that all say version 1", "ok", pack(data(base), *chain)
    yield "delta that says version 8 of a chunk that is none", "ok", pack(data(base), delta(text, base, 8))
    yield "delta that takes nothing of its base", "ok", pack(data(base), delta(fixed("noise", 100), base))
    yield "delta of the start of a long base", "ok", pack((ZSTD, DATA, [long]), delta(far + b"end", long))
    yield "delta much longer than its base", "ok", pack(data(base), delta(base + bytes(200_000) + base, base))
    yield "delta of a base of five bytes", "ok", pack(data(b"hello"), delta(b"hello " * 20, b"hello"))
    yield "delta of a base without bytes", "ok", pack(data(b""), delta(text, b""))
    node = encode_node(0, [(b"HomeDomain\0a", encode_entry([(0, 2)]))])
    nodes = (RAW, NODE, [encode_node(0, []), node])
    yield "delta of a node in a solid frame", "ok", pack(nodes, (DELTA, NODE, [node + bytes(50)], node), kind=reader.TREE_PACK)
    yield "delta of itself", "refuse", pack(delta(text, text))
    yield "delta whose base is nowhere", "refuse", pack(delta(text, base))
    yield "delta that names another base than it was made of", "refuse", pack(
        data(base, other), delta(text, base), changes={"base": keys.id_of(other, DATA)}
    )
    yield "delta of a base of another kind", "refuse", pack(
        (RAW, NODE, [base]), delta(text, base), changes={"base": keys.id_of(base, NODE)}
    )
    yield "delta whose chunk is said to be longer", "refuse", pack(
        data(base), delta(text, base), changes={"chunks": [(keys.id_of(text, DATA), len(text) + 1)]}
    )
    yield "solid frame whose chunks are exchanged", "refuse", pack(
        data(b"one", b"two"), changes={"chunks": [(keys.id_of(text, DATA), 3) for text in (b"two", b"one")]}
    )
    yield "solid frame cut elsewhere", "refuse", pack(
        data(b"one", b"two"), changes={"chunks": [(keys.id_of(b"one", DATA), 2), (keys.id_of(b"two", DATA), 4)]}
    )
    # The id is what it should be: SPEC.md says one frame, but not that a reader must look.
    chunks = [(keys.id_of(base * 2, DATA), 2 * len(base))]
    twice = pack(data(Compressed.frame(base) * 2), changes={"encoding": ZSTD, "chunks": chunks})
    yield "two zstd frames in a frame", "refuse", twice
    yield "zstd frame and a byte more", "refuse", pack(
        data(Compressed.frame(base) + b"\0"), changes={"encoding": ZSTD, "chunks": [(keys.id_of(base, DATA), len(base))]}
    )
    yield "solid frame with a chunk without bytes", "ok", pack(data(b"one", b"", b"two"))
    yield "solid frame with a chunk twice", "ok", pack(data(b"one", b"one"))


def segment_packs():
    """Packs as a segment's meaning: (name, length, kind, frames); the last ten chunks are in two packs."""
    packs, number = [], 0
    for pack, count in enumerate((150, 140, 110)):
        frames, at = [], reader.HEADER
        while count:
            inside = min(count, (1, 1, 1, 5)[len(frames) % 4])
            kind = (DATA, DATA, NODE, LIST)[len(frames) % 4 if pack else 0]
            encoding = DELTA if inside == 1 and len(frames) % 20 == 9 else ZSTD
            chunks = [(fixed(f"chunk {n % 390}", 16), 1 + n * n) for n in range(number, number + inside)]
            sealed = 20 + sum(length for _, length in chunks) // 3
            frames.append(reader.Frame(len(frames), at, sealed, encoding, kind, chunks))
            if encoding == DELTA:
                frames[-1].base, frames[-1].version = fixed(f"chunk {number - 1}", 16), 1
            number, count, at = number + inside, count - inside, at + sealed
        packs.append((fixed(f"pack {pack}"), 4096 * (pack + 1), (1, 2, 1)[pack], frames))
    return packs


def segment_vectors():
    packs, superseded = segment_packs(), [fixed("old segment 0"), fixed("old segment 1")]
    entries = [item for number, pack in enumerate(packs) for item in pack_entries(number, pack[3])]
    assert len(entries) == 400
    payload = segment_contents([pack[:3] for pack in packs], superseded, entries)
    parsed = reader.parse_segment(payload)
    p, s = struct.unpack("<II", payload[:8])
    head = 8 + 40 * p + 32 * s
    e, d, f, b = struct.unpack("<QIII", payload[head : head + 20])
    filter_at = head + 32 + 24 * d
    filters = payload[filter_at : filter_at + 64 * f]
    fences_at, blocks_at = filter_at + 64 * f, len(payload) - 4096 * b
    asked = [fixed(f"chunk {i}", 16) for i in (0, 1, 389)] + [fixed(f"absent {i}", 16) for i in range(200)]
    names = {chunk_id for (chunk_id, *_), _ in entries}
    checks = [{"id": i.hex(), "listed": i in names, "filter": reader.filter_has(filters, f, i)} for i in asked]
    checks = [c for c in checks[:40]] + [c for c in checks[40:] if c["filter"]]
    cases = []

    def add(name, expected, *patches, keep=len(payload), **more):
        data = bytearray(payload)
        for at, hexes in patches:
            data[at : at + len(hexes) // 2] = bytes.fromhex(hexes)
        fields = {"patches": [{"at": at, "hex": hexes} for at, hexes in patches], "keep": keep}
        cases.append(case(name, expected, reader.parse_segment, bytes(data[:keep]), **fields, **more))

    entry = lambda i: blocks_at + 4096 * (i // 170) + 24 * (i % 170)
    at = lambda start, n: payload[start : start + n].hex()
    plain = next(i for i, x in enumerate(parsed.entries) if not x[4] & 1 and i > 5)
    add("whole", "ok")
    add("cut by a byte", "refuse", keep=len(payload) - 1)
    add("cut to its tables", "refuse", keep=blocks_at)
    add("cut in its clear part", "refuse", keep=head - 1)
    add("cut in its head", "refuse", keep=head + 31)
    add("empty", "refuse", keep=0)
    add("P one more", "refuse", (0, "04000000"), unspecified=True)
    add("P one less", "refuse", (0, "02000000"), unspecified=True)
    add("P of 2^32 - 1", "refuse", (0, "ffffffff"))
    add("S of 2^32 - 1", "refuse", (4, "ffffffff"))
    add("pack of kind 0", "refuse", (8 + 36, "00"))
    add("pack of kind 3", "newer", (8 + 36, "03"))
    add("bytes after a pack's kind not zero", "refuse", (8 + 39, "01"))
    add("E one more", "refuse", (head, struct.pack("<Q", 401).hex()), unspecified=True)
    add("E one less", "refuse", (head, struct.pack("<Q", 399).hex()), unspecified=True)
    add("E of 2^64 - 1", "refuse", (head, "ff" * 8))
    add("D one more", "refuse", (head + 8, struct.pack("<I", d + 1).hex()), unspecified=True)
    add("D of 2^32 - 1", "refuse", (head + 8, "ffffffff"))
    add("F one more", "refuse", (head + 12, struct.pack("<I", f + 1).hex()))
    add("B one less", "refuse", (head + 16, "02000000"))
    add("B one more", "refuse", (head + 16, "04000000"))
    for zero in (20, 24, 28):
        add(f"bytes {zero} to {zero + 3} not zero", "refuse", (head + zero, "01000000"))
    add("two entries exchanged", "refuse", (entry(5), at(entry(6), 24) + at(entry(5), 24)), unspecified=True)
    add("an entry twice", "refuse", (entry(plain), at(entry(plain - 1), 24)), unspecified=True)
    add("pack not in the table", "refuse", (entry(5) + 16, "03000000"), unspecified=True)
    add("ordinal 65535", "refuse", (entry(5) + 20, "ffff"), unspecified=True)
    add("kind of chunk 0", "refuse", (entry(plain) + 23, "00"), unspecified=True)
    add("unknown flag", "refuse", (entry(plain) + 23, "%02x" % (payload[entry(plain) + 23] | 0x10)), unspecified=True)
    add(
        "flag delta, but not in the list",
        "refuse",
        (entry(plain) + 23, "%02x" % (payload[entry(plain) + 23] | 1)),
        unspecified=True,
    )
    add(
        "delta list that does not ascend",
        "refuse",
        (filter_at - 48, at(filter_at - 24, 24) + at(filter_at - 48, 24)),
        unspecified=True,
    )
    add(
        "delta list that names an entry beyond the last",
        "refuse",
        (filter_at - 24, struct.pack("<Q", 400).hex()),
        unspecified=True,
    )
    add("filter empty", "refuse", (filter_at, "00" * 64 * f), unspecified=True)
    add("fence wrong", "refuse", (fences_at + 8, "00" * 8), unspecified=True)
    add("padding after the fences not zero", "refuse", (blocks_at - 1, "01"), unspecified=True)
    add("padding after the entries not zero", "refuse", (len(payload) - 1, "01"), unspecified=True)
    frames = lambda pack: [
        [frame.kind, frame.sealed_length, frame.base and frame.base.hex(), [[i.hex(), n] for i, n in frame.chunks]]
        for frame in pack[3]
    ]
    fields = {"superseded": [n.hex() for n in superseded]}
    fields["packs"] = [
        {"name": pack[0].hex(), "length": pack[1], "kind": pack[2], "frames": frames(pack)} for pack in packs
    ]
    classes = [
        {"bytes": n, "size_class": size_class(n)}
        for n in (0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 255, 256, 65_536, 100_000, 16 << 20)
    ]
    empty = segment_contents([], [], [])
    assert reader.parse_segment(empty).entries == []
    return {
        **fields,
        "size_classes": classes,
        "filter": checks,
        "contents": payload.hex(),
        "cases": cases,
        "empty": empty.hex(),
        **segment_files(payload, empty),
    }


def segment_files(contents, empty):
    """Whole files of segments, and what is not one: the clear part is as authentic as what is sealed."""
    keys = keys_for()
    cases = []

    def add(name, expected, data, **more):
        read = lambda: reader.parse_segment(reader.open_payload(keys, data, reader.SEGMENT))
        cases.append(case(name, expected, read, file=data.hex(), **more))

    whole = seal_segment(keys, "segment", contents)
    assert reader.open_payload(keys, whole, reader.SEGMENT) == contents
    clear = len(reader.clear_part(whole))
    add("whole", "ok", whole)
    add("empty segment", "ok", seal_segment(keys, "empty segment", empty))
    for region, at in {"length of a pack": 64 + 8 + 32, "kind of a pack": 64 + 8 + 36, "name of a pack": 64 + 8}.items():
        add(f"flip in the {region}", "refuse", flip(whole, at, 3))
    add("flip in a superseded name", "refuse", flip(whole, 64 + clear - 1))
    add("flip in what is sealed", "refuse", flip(whole, 64 + clear))
    add("P one less", "refuse", flip(whole, 64))
    add("P of 2^32 - 1", "refuse", whole[:64] + b"\xff" * 4 + whole[68:])
    add("two packs exchanged", "refuse", whole[:72] + whole[112:152] + whole[72:112] + whole[152:])
    add("clear part left out", "refuse", whole[:64] + bytes(8) + whole[64 + clear :])
    add("keyed without the clear part", "refuse", whole[: 64 + clear] + seal_payload(keys, 3, "segment", contents[clear:])[64:])
    for keep in (64, 71, 72, 64 + clear - 1, 64 + clear, len(whole) - 1):
        add(f"cut to {keep} bytes", "refuse", whole[:keep])
    return {"repository": REPOSITORY_ID.hex(), "cipher": keys.cipher, "seal_key": keys.seal.hex(), "files": cases}


def tree_vectors():
    keys = keys_for()
    out = {"tree_key": keys.tree.hex(), "id_key": keys.chunk_id.hex()}
    out["keys"], out["places"], out["places_of"] = key_cases(), place_cases(), places_of()
    out["boundaries"], out["nodes"], out["entries"] = boundaries(keys), node_cases(keys), entry_cases()
    items = sample_items(keys)
    root, nodes = build_tree(keys, items)
    assert {level for level, _, _ in nodes} == {0, 1, 2, 3}
    out["tree"] = {"root": root.hex(), "items": item_fields(items), "nodes": node_fields(nodes)}
    out["roots"] = [build_tree(keys, items[:n])[0].hex() for n in range(len(items) + 1)]
    out["long_trees"], out["longest_entry"] = long_trees(keys), 131_072
    out["tree_cases"] = tree_cases(keys)
    out["lists"], out["written_lists"], out["list_cases"] = list_bytes_cases(), written_lists(keys), list_cases(keys)
    return out


def long_trees(keys):
    """Nodes that end by their length: those of as many bytes as may be, and of one more."""
    out = []
    name = lambda folder, n: b"HomeDomain\0%d/%04d" % (folder, n)
    folder = next(i for i in range(99) if all(zeros(keys.tree, name(i, n)) < 6 for n in range(1, 200)))

    def add(about, lengths):
        items = [(name(folder, n), encode_entry([(0, 3), (9, b"a" * length)])) for n, length in enumerate(lengths)]
        root, nodes = build_tree(keys, items)
        made = [{"level": level, "id": node_id.hex(), "length": len(node)} for level, node_id, node in nodes]
        out.append({"name": about, "folder": folder, "lengths": lengths, "root": root.hex(), "nodes": made})
        return [len(node) for level, _, node in nodes if level == 0]

    add("200 of 4000 bytes", [4000] * 200)
    most = [4000] * 65 + [next(n for n in range(4000) if add_up(name, folder, [4000] * 65 + [n]) == 262_144)]
    assert add("262144 bytes", most) == [262_144]
    assert len(add("a byte more", most[:-1] + [most[-1] + 1])) == 2
    assert len(add("three of the longest entries", [131_072 - 6] * 3)) == 3
    return out


def add_up(name, folder, lengths):
    return len(encode_node(0, [(name(folder, n), encode_entry([(0, 3), (9, b"a" * m)])) for n, m in enumerate(lengths)]))


class Chunks(reader.Repository):
    """A repository that is nothing but chunks of one kind, and stops at the first fault."""

    def __init__(self, keys, kind, texts):
        self.texts = {keys.id_of(text, kind): text for text in texts}

    def chunk(self, chunk_id, kind, deltas=0):
        reader.require(chunk_id in self.texts, "it is nowhere")
        return self.texts[chunk_id]

    def report(self, line, is_newer=False):
        raise Refused(line)


def tree_cases(keys):
    """Trees of hand-made nodes: whether all of one can be walked."""
    out = []
    key = lambda name: b"HomeDomain\0" + name
    entry = encode_entry([(0, 2)])
    leaf = lambda *names: encode_node(0, [(key(name), entry) for name in names])
    inner = lambda level, *children: encode_node(level, [(key(name), keys.id_of(node, NODE)) for name, node in children])

    def add(name, expected, root, *nodes):
        chunks = Chunks(keys, NODE, [root, *nodes])
        root_id = keys.id_of(root, NODE)
        walk = lambda: [reader.parse_key(k) for k, _ in chunks.walk_node(root_id, None)]
        out.append(case(name, expected, walk, root=root_id.hex(), nodes=[node.hex() for node in (root, *nodes)]))

    ab, cd = leaf(b"a", b"b"), leaf(b"c", b"d")
    add("two leaves", "ok", inner(1, (b"a", ab), (b"c", cd)), ab, cd)
    add("an inner node with one child", "ok", inner(1, (b"a", ab)), ab)
    add("a leaf two levels below", "refuse", inner(2, (b"a", ab)), ab)
    add("a child of the same level", "refuse", inner(1, (b"a", inner(1, (b"a", ab)))), inner(1, (b"a", ab)), ab)
    add("a first key that is greater than its parent says", "refuse", inner(1, (b"a", leaf(b"aa"))), leaf(b"aa"))
    add("a first key that is less than its parent says", "refuse", inner(1, (b"b", ab)), ab)
    add("an empty leaf below", "refuse", inner(1, (b"a", leaf())), leaf())
    add("a lost leaf", "refuse", inner(1, (b"a", ab), (b"c", cd)), ab)
    nodes = [ab]
    while len(nodes) < 16:
        nodes.append(inner(len(nodes), (b"a", nodes[-1])))
    add("sixteen levels", "ok", *nodes[::-1])
    return out


def item_fields(items, level=0):
    return [{"key": key.hex(), "entry" if level == 0 else "child": value.hex()} for key, value in items]


def node_fields(nodes):
    return [{"level": level, "id": node_id.hex(), "bytes": node.hex()} for level, node_id, node in nodes]


def key_cases():
    out = []

    def add(name, expected, domain, path, **more):
        key = domain + b"\0" + path
        fields = {"domain": domain.decode(), "path": path.decode()} if expected == "ok" else {}
        out.append(case(name, expected, reader.parse_key, key, key=key.hex(), **fields, **more))

    add("a file", "ok", b"HomeDomain", b"Library/SMS/sms.db")
    add("domain without a name", "ok", b"", b"Manifest.db")
    add("empty path", "ok", b"HomeDomain", b"")
    add("empty path of the domain without a name", "refuse", b"", b"")
    add("UTF-8", "ok", b"AppDomain-x", "\u00e4/\u65e5\u672c/\U0001f600".encode())
    add("NFD and NFC are kept", "ok", b"AppDomain-x", "a\u0308".encode())
    add("dots in parts", "ok", b"HomeDomain", b".a/..b/c.../...")
    add("backslash, colon, newline", "ok", b"HomeDomain", b"a\\b:c\nd")
    add("domain of 255 bytes", "ok", b"d" * 255, b"x")
    add("domain of 256 bytes", "refuse", b"d" * 256, b"x")
    add("domain with a slash and dots", "ok", b"../d", b"x")
    long = b"/".join([b"p" * 255] * 15 + [b"p" * 254, b"p"])
    add("path of 4096 bytes", "ok", b"D", long)
    add("path of 4097 bytes", "refuse", b"D", long + b"p")
    add("part of 1024 bytes", "ok", b"D", b"p" * 1024)
    add("part of 1025 bytes", "refuse", b"D", b"p" * 1025)
    add("part of a place of 255 bytes", "ok", b"", b"p" * 255)
    add("part of a place of 256 bytes", "refuse", b"", b"p" * 256)
    for path in (b"/", b"/a", b"a/", b"a//b", b".", b"..", b"./a", b"a/.", b"../a", b"a/..", b"a/../b", b"a/./b"):
        add(f"path {path.decode()}", "refuse", b"HomeDomain", path)
    add("zero byte in the path", "refuse", b"HomeDomain", b"a\0b")
    add("zero byte in the domain", "refuse", b"Home\0Domain", b"a\0b")
    for bad in ("ff", "c080", "eda080", "f4908080", "e282"):
        add(f"path of the bytes {bad}", "refuse", b"HomeDomain", bytes.fromhex(bad))
        add(f"domain of the bytes {bad}", "refuse", bytes.fromhex(bad), b"a")
    out.append(case("no zero byte", "refuse", reader.parse_key, b"HomeDomain", key=b"HomeDomain".hex()))
    return out


def place_cases():
    out = []
    for name, expected, place in (
        ("two parts", "ok", b"3d/3d0d7e5fb2ce288813306e4d4636395e047a3d28"),
        ("one part", "ok", b"Manifest.db"),
        ("empty", "refuse", b""),
        ("parent", "refuse", b".."),
        ("parent inside", "refuse", b"a/../../b"),
        ("absolute", "refuse", b"/etc/passwd"),
        ("slash at the end", "refuse", b"a/"),
        ("zero byte", "refuse", b"a\0"),
        ("not UTF-8", "refuse", b"\xff"),
        ("part of 255 bytes", "ok", b"p" * 255),
        ("part of 256 bytes", "refuse", b"p" * 256),
        ("dot", "refuse", b"."),
    ):
        out.append(case(name, expected, reader.check_path, place, "place", place=place.hex()))
    return out


def places_of():
    """Where what a name and an entry say lies in the backup folder, if anywhere."""
    content = [(3, blake3(b"").digest()), (4, 0), (5, b""), (6, 1)]
    file, absent, directory, link = [(0, 1), *content], [(0, 1)], [(0, 2)], [(0, 3), (9, b"target")]
    given = [(0, 1), (1, b"ab/other"), *content]
    cases = [
        ("HomeDomain", "Library/SMS/sms.db", file),
        ("CameraRollDomain", "Media/DCIM/100APPLE/IMG_0001.HEIC", file),
        ("AppDomain-x", "\u00e4", file),
        ("HomeDomain", "Library/SMS/sms.db", given),
        ("HomeDomain", "Library/SMS/sms.db", absent),
        ("HomeDomain", "Library/SMS/sms.db", [(0, 1), (1, b"ab/other")]),
        ("HomeDomain", "Library", directory),
        ("HomeDomain", "link", link),
        ("", "Manifest.db", file),
        ("", "3d/extra", file),
        ("", "3d/extra", given),
        ("", "3d/absent", absent),
        ("", "Snapshot", directory),
        ("", "link", link),
    ]
    out = []
    for domain, path, fields in cases:
        entry = encode_entry(fields)
        place = reader.place_of(domain, path, reader.parse_entry(entry))
        out.append({"domain": domain, "path": path, "entry": entry.hex(), "place": place})
    return out


def boundaries(keys):
    chosen = [b"HomeDomain\0Library/SMS/sms.db", b"\0Manifest.db", b"HomeDomain\0"]
    chosen += [b"HomeDomain\0file %d" % i for i in range(20)] + [found(keys, t) for t in (5, 6, 11, 12, 17, 18)]
    return [{"key": key.hex(), "zeros": zeros(keys.tree, key), "hash": keyed(keys.tree, key).hex()} for key in chosen]


def found(keys, t, skip=0):
    """The first key of a row that has exactly t trailing zero bits, after `skip` others."""
    number = 0
    while True:
        key = b"HomeDomain\0Library/boundary/%d" % number
        if zeros(keys.tree, key) == t:
            if skip == 0:
                return key
            skip -= 1
        number += 1


def sample_items(keys):
    names = [b"HomeDomain\0Library/%s/%d" % (folder, i) for folder in (b"SMS", b"Notes", b"Caches") for i in range(90)]
    names += [b"\0Manifest.db", b"\0Info.plist", b"HomeDomain\0", "AppDomain-x\0\u00e4".encode()]
    names += (
        [found(keys, 6, i) for i in range(12)]
        + [found(keys, 12, i) for i in range(8)]
        + [found(keys, 17, 0), found(keys, 18, 0)]
    )
    names += [b"CameraRollDomain\0Media/%d" % i for i in range(300 - len(names))]
    assert len(set(names)) == 300
    return [(key, encode_entry([(0, 1), (16, i * i)])) for i, key in enumerate(sorted(names))]


def node_cases(keys):
    out = []
    key = lambda path: b"HomeDomain\0" + path
    entry = encode_entry([(0, 2)])
    child = fixed("child", 16)

    def add(name, expected, node, **more):
        decoded = {}
        if expected == "ok":
            level, items = reader.parse_node(node)
            decoded = {"level": level, "items": item_fields(items, level), "id": keys.id_of(node, NODE).hex()}
        out.append(case(name, expected, reader.parse_node, node, node=node.hex(), **decoded, **more))

    two = [(key(b"a"), entry), (key(b"ab"), entry)]
    add("empty leaf", "ok", encode_node(0, []))
    add("leaf of one", "ok", encode_node(0, two[:1]))
    add("leaf of two", "ok", encode_node(0, two))
    add("inner of two", "ok", encode_node(1, [(k, child) for k, _ in two]))
    add("level 15", "ok", encode_node(15, [(key(b"a"), child)]))
    add("level 16", "refuse", encode_node(16, [(key(b"a"), child)]))
    add("inner without items", "refuse", encode_node(1, []))
    add("keys equal", "refuse", encode_node(0, [two[0], two[0]]))
    add("keys descend", "refuse", encode_node(0, two[::-1]))
    add(
        "shares more than there is",
        "refuse",
        b"\0\2" + encode_item(0, b"", *two[0]) + varint(13) + varint(1) + b"b" + varint(2) + entry,
    )
    add("first item shares", "refuse", b"\0\1" + varint(1) + varint(11) + key(b"a")[1:] + varint(2) + entry)
    whole = b"\0\2" + encode_item(0, b"", *two[0]) + varint(0) + varint(13) + two[1][0] + varint(2) + entry
    add("shares less than it could", "ok", whole)
    add("more items than there are", "refuse", b"\0\3" + encode_node(0, two)[2:])
    add("fewer items than there are", "refuse", b"\0\1" + encode_node(0, two)[2:])
    add("2^63 items", "refuse", b"\0" + varint(1 << 63) + encode_node(0, two)[2:])
    add("rest of the key of 2^63 bytes", "refuse", b"\0\1\0" + varint(1 << 63) + b"a")
    add("entry longer than the node", "refuse", b"\0\1\0\x0c" + key(b"a") + varint(100) + entry)
    add("child cut", "refuse", encode_node(1, [(key(b"a"), child)])[:-1])
    add("key with a bad path", "refuse", encode_node(0, [(key(b"../a"), entry)]))
    add("key without a zero byte", "refuse", encode_node(0, [(b"HomeDomain", entry)]))
    add("no bytes", "refuse", b"")
    return out


def entry_cases():
    out = []
    content = fixed("content", 32)
    chunk = fixed("a", 16) + varint(300)
    file = [(0, 1), (3, content), (4, 300), (5, chunk), (6, 1)]

    def add(name, expected, data, **more):
        data = data if isinstance(data, bytes) else encode_entry(data)
        fields = entry_fields(reader.parse_entry(data)) if expected == "ok" else {}
        out.append(case(name, expected, reader.parse_entry, data, entry=data.hex(), **fields, **more))

    add("directory", "ok", [(0, 2)])
    add("file that is not there", "ok", [(0, 1)])
    add("file of one chunk", "ok", file)
    add("empty file", "ok", [(0, 1), (3, blake3(b"").digest()), (4, 0), (5, b""), (6, 1)])
    add("file without the rule by which it was cut", "ok", file[:-1])
    every = [
        (0, 1),
        (1, b"aa/bb"),
        (2, -1),
        (3, content),
        (4, 300),
        (5, chunk),
        (6, 1),
        (8, 0o100644),
        (10, 501),
        (12, 502),
        (14, 2**64 - 1),
    ]
    every += [(16, 299), (18, -2_000_000_000), (20, 1_600_000_000), (22, 0), (24, 3), (26, 7)]
    add("file with every field", "ok", every)
    add("file with a chunk list", "ok", [(0, 1), (3, content), (4, 10**12), (6, 4), (7, fixed("list", 16))])
    add("link", "ok", [(0, 3), (9, b"../target")])
    add("modification time at its least", "ok", [(0, 1), (2, -(2**63))])
    add("modification time at its most", "ok", [(0, 1), (2, 2**63 - 1)])
    chunks = b"".join(fixed(f"c{i}", 16) + varint(1) for i in range(32))
    add("32 chunks", "ok", [(0, 1), (3, content), (4, 32), (5, chunks), (6, 5)])
    add(
        "33 chunks",
        "refuse",
        [(0, 1), (3, content), (4, 33), (5, chunks + fixed("x", 16) + varint(1)), (6, 5)],
    )
    for tag, value in ((28, 5), (30, 2**64 - 1), (126, 0), (11, b""), (127, b"later"), (29, b"x" * 200)):
        fields = [*file, (tag, value)]
        add(f"unknown tag {tag}", "ok", sorted(fields, key=lambda x: x[0]))
    for tag, value in ((128, 0), (130, 5), (131, b"later"), (254, 0), (255, b"")):
        add(f"unknown tag {tag}", "newer", [*file, (tag, value)])
    add("tag 129", "newer", [*file, (129, b"rebuild")])
    add("tags descend", "refuse", [(0, 1), (4, 0), (3, content)])
    add("a tag twice", "refuse", [(0, 1), (2, 0), (2, 0)])
    add("no kind", "refuse", [(2, 0)])
    add("empty", "refuse", b"")
    add("kind 0", "refuse", [(0, 0)])
    add("kind 4", "newer", [(0, 4)])
    add("varint of ten bytes", "ok", b"\0\1\x0e" + b"\xff" * 9 + b"\1")
    add("varint over 64 bits", "refuse", b"\0\1\x0e" + b"\xff" * 9 + b"\2")
    add("varint of eleven bytes", "refuse", b"\0\1\x0e" + b"\x80" * 10 + b"\0")
    add("varint longer than it need be", "ok", b"\0\x81\0")
    add("varint that ends early", "refuse", b"\0\1\x0e\x80")
    add("bytes that end early", "refuse", b"\0\1\1\5aaaa")
    add("2^63 bytes", "refuse", b"\0\1\1" + varint(1 << 63) + b"a")
    add("tag without a value", "refuse", b"\0\1\2")
    add("place that leads out", "refuse", [(0, 1), (1, b"../x")])
    add("place that is empty", "refuse", [(0, 1), (1, b"")])
    add("BLAKE3 of 31 bytes", "refuse", [(0, 1), (3, content[:31]), (4, 300), (5, chunk)])
    add("chunk list's id of 15 bytes", "refuse", [(0, 1), (3, content), (4, 300), (7, bytes(15))])
    add("chunk items that end early", "refuse", [(0, 1), (3, content), (4, 300), (5, chunk[:-1])])
    add("chunks that do not add up", "refuse", [(0, 1), (3, content), (4, 301), (5, chunk)])
    add("a chunk without bytes", "refuse", [(0, 1), (3, content), (4, 0), (5, bytes(17))])
    add("chunks and a chunk list", "refuse", [(0, 1), (3, content), (4, 300), (5, chunk), (7, bytes(16))])
    add("content without a length", "refuse", [(0, 1), (3, content), (5, chunk)])
    add("content without its BLAKE3", "refuse", [(0, 1), (4, 300), (5, chunk)])
    add("content without chunks", "refuse", [(0, 1), (3, content), (4, 300)])
    add("content of no bytes without chunks", "refuse", [(0, 1), (3, blake3(b"").digest()), (4, 0)])
    add("a BLAKE3 without a length", "refuse", [(0, 1), (3, content)])
    add("a chunk list without a length", "refuse", [(0, 1), (3, content), (7, bytes(16))])
    add("chunks that add up beyond 64 bits", "refuse", [(0, 1), (3, content), (4, 0), (5, (bytes(16) + varint(1 << 63)) * 2)])
    add("link with content", "refuse", [(0, 3), (3, content), (4, 300), (5, chunk)])
    add("directory with content", "refuse", [(0, 2), (3, content), (4, 300), (5, chunk)])
    return out


def entry_fields(entry):
    fields = {name: value for name, value in entry.items() if value is not None}
    for name in {"hash", "chunk_list", "target"} & set(fields):
        fields[name] = fields[name].hex()
    if "chunks" in fields:
        fields["chunks"] = [{"id": i.hex(), "length": n} for i, n in fields["chunks"]]
    if "sealing" in fields:
        fields["sealing"] = {"key": fields["sealing"][0].hex(), "plaintext_length": reader.kept_length(entry)}
    return {"fields": fields}


def encrypt(key, padded):
    encryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


def decrypt(key, ciphertext):
    decryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).decryptor()
    return decryptor.update(ciphertext) + decryptor.finalize()


def sealing_field(key, plaintext_length):
    return bytes([reader.AES_256_CBC]) + key + varint(plaintext_length)


def sealing_vectors():
    return {"entries": sealing_entries(), "files": sealed_contents()}


def sealing_entries():
    out = []
    key, content = fixed("file key"), fixed("content", 32)
    chunk = lambda length: fixed("a", 16) + varint(length)

    def add(name, expected, data, **more):
        data = data if isinstance(data, bytes) else encode_entry(data)
        fields = entry_fields(reader.parse_entry(data)) if expected == "ok" else {}
        out.append(case(name, expected, reader.parse_entry, data, entry=data.hex(), **fields, **more))

    def file(ciphertext, plaintext, *more, chunks=None, sealing=None):
        chunks = chunk(plaintext) if chunks is None else chunks
        sealing = sealing_field(key, plaintext) if sealing is None else sealing
        return [(0, 1), (3, content), (4, ciphertext), (5, chunks), (6, 1), *more, (129, sealing)]

    add("padding of 4 bytes", "ok", file(304, 300))
    add("padding of a byte", "ok", file(304, 303))
    add("padding of 16 bytes", "ok", file(304, 288))
    add("no padding", "ok", file(304, 304))
    add("plaintext of no bytes", "ok", file(16, 0, chunks=b""))
    listed = [(0, 1), (3, content), (4, 2**40), (6, 2), (7, fixed("list", 16)), (129, sealing_field(key, 2**40 - 5))]
    add("chunk list", "ok", listed)
    place, phone = (1, b"aa/bb"), [(8, 0o100644), *((tag, tag + 1) for tag in (10, 12, 14, 16, 18, 20, 22, 24, 26))]
    every = file(304, 300, *phone)
    add("with every other field", "ok", [every[0], place, (2, -1), *every[1:]])
    add("unknown tag 127 before it", "ok", file(304, 300, (127, b"later")))
    add("varint longer than it need be", "ok", file(304, 300, sealing=sealing_field(key, 0)[:-1] + b"\xac\x82\x00"))
    for cipher in (0, 2, 255):
        add(f"unknown cipher {cipher}", "newer" if cipher else "refuse", file(304, 300, sealing=bytes([cipher]) + sealing_field(key, 300)[1:]))
    whole = sealing_field(key, 300)
    for keep in (0, 1, 32, 33, len(whole) - 1):
        add(f"the first {keep} bytes of it", "refuse", file(304, 300, sealing=whole[:keep]))
    add("a byte more", "refuse", file(304, 300, sealing=whole + b"\0"))
    add("varint over 64 bits", "refuse", file(304, 300, sealing=whole[:33] + b"\xff" * 9 + b"\2"))
    add("padding of 17 bytes", "refuse", file(304, 287))
    add("plaintext of a byte more than the ciphertext", "refuse", file(304, 305))
    add("plaintext of 2^64 - 1 bytes", "refuse", file(304, 2**64 - 1))
    add("ciphertext of no blocks", "refuse", file(0, 0, chunks=b""))
    add("ciphertext that ends within a block", "refuse", file(303, 300))
    add("chunks that add up to the ciphertext", "refuse", file(304, 300, chunks=chunk(304)))
    add("chunks that add up beyond 64 bits", "refuse", file(16, 0, chunks=chunk(1 << 63) * 2))
    add("without a length", "refuse", [field for field in file(304, 300) if field[0] != 4])
    add("without content", "refuse", [(0, 1), (129, whole)])
    add("directory", "refuse", [(0, 2), *file(304, 300)[1:]])
    add("directory without content", "refuse", [(0, 2), (129, whole)])
    add("link", "refuse", [(0, 3), (9, b"target"), (129, whole)])
    add("twice", "refuse", [*file(304, 300), (129, whole)])
    add("before another tag", "refuse", [*file(304, 300)[:-1], (129, whole), (8, 0o100644)])
    add("unknown tag 131 after it", "newer", [*file(304, 300), (131, b"later")])
    return out


class OneFile(reader.Repository):
    """A repository that is nothing but the plaintext of one file, in pieces of `step` bytes."""

    def __init__(self, plaintext, step):
        self.plaintext, self.step = plaintext, step

    def chunks_of(self, entry):
        return (self.plaintext[at : at + self.step] for at in range(0, len(self.plaintext), self.step))


def sealed_contents():
    """Plaintexts and their ciphertexts; `padding` is 0 where the plaintext of all blocks does not end as padding does."""
    out, key = [], fixed("file key")

    def add(name, pieces, padding, key=key):
        plaintext = pieces_bytes(pieces)
        ciphertext = encrypt(key, plaintext + bytes([padding]) * padding)
        field = reader.parse_sealing(sealing_field(key, len(plaintext)), len(ciphertext))
        entry = {"sealing": field, "hash": blake3(ciphertext).digest()}
        for step in (1, 15, 16, 17, 4096, 65_536):
            if len(plaintext) // step < 10_000:
                assert b"".join(OneFile(plaintext, step).content(entry)) == ciphertext, name
        fields = {"name": name, "key": key.hex(), "plaintext": pieces, "length": len(plaintext), "padding": padding}
        fields |= {"ciphertext_length": len(ciphertext), "blake3": entry["hash"].hex()}
        out.append(fields | ({"ciphertext": ciphertext.hex()} if len(ciphertext) < 100 else {}))

    for length in (0, 1, 15, 16, 17, 70_000, 70_001):
        add(f"{length} bytes", [xof("plaintext", length)] if length else [{"hex": ""}], 16 - length % 16)
    for ending in ("00", "11", "ff", "0302", "04030404", "10" * 15, "02ff02"):
        ends = len(ending) // 2
        add(f"ends in {ending}, no padding", [xof("plaintext", 32 - ends), {"hex": ending}], 0)
    add("70000 bytes, no padding", [xof("plaintext", 69_999), {"hex": "00"}], 0)
    add("ends as the padding does", [xof("plaintext", 16), {"hex": "0f"}], 15)
    add("ends as other padding does", [xof("plaintext", 30), {"hex": "0202"}], 16)
    add("under a wrong key", [{"hex": decrypt(key, fixed("ciphertext", 48)).hex()}], 0)
    add("under the key of zeros", [xof("plaintext", 100)], 12, bytes(32))
    return out


def list_bytes(level, items):
    return bytes([level]) + varint(len(items)) + b"".join(i + varint(n) for i, n in items)


def list_bytes_cases():
    out = []
    items = [(fixed(f"list item {i}", 16), 1000 + i) for i in range(2)]
    body = list_bytes(0, items)[2:]

    def add(name, expected, data, **more):
        decoded = {}
        if expected == "ok":
            level, found = reader.parse_list(data)
            decoded = {"level": level, "items": [{"id": i.hex(), "length": n} for i, n in found]}
        out.append(case(name, expected, reader.parse_list, data, list=data.hex(), **decoded, **more))

    add("two items", "ok", b"\0\2" + body)
    add("level 3", "ok", b"\3\2" + body)
    add("level 4", "refuse", b"\4\2" + body)
    add("more items than there are", "refuse", b"\0\3" + body)
    add("fewer items than there are", "refuse", b"\0\1" + body)
    add("an item as long as a chunk can be", "ok", list_bytes(0, [(items[0][0], 16 << 20)]))
    add("an item longer than a chunk can be", "refuse", list_bytes(0, [(items[0][0], (16 << 20) + 1)]))
    add("an item of level 1 longer than a list can be", "refuse", list_bytes(1, [(items[0][0], (16 << 32) + 1)]))
    add("an item without bytes", "refuse", list_bytes(0, [items[0], (items[1][0], 0)]))
    add("cut", "refuse", b"\0\2" + body[:-1])
    add("4097 items said", "refuse", b"\0" + varint(4097) + body)
    add("2^63 items", "refuse", b"\0" + varint(1 << 63) + body)
    return out


def list_items(count, begin):
    """Items of a written list: `begin` overwrites the first two bytes of each id."""
    return [(begin + fixed(f"list item {i}", 16)[len(begin) :], 1000 + i) for i in range(count)]


def written_lists(keys):
    out = []

    def add(count, begin, about):
        root, lists = build_list(keys, list_items(count, begin))
        levels = [sum(1 for list_level, _, _ in lists if list_level == level) for level in range(4)]
        out.append({"name": about, "count": count, "begin": begin.hex(), "id": root.hex(), "levels": levels})
        return levels

    add(33, b"", "33 items")
    assert add(4096, b"\2\0", "no boundary, 4096 items") == [1, 0, 0, 0]
    assert add(4097, b"\2\0", "no boundary, 4097 items") == [2, 1, 0, 0]
    assert add(2000, b"", "2000 items")[1] == 1
    assert add(65, b"\0\2", "65 boundaries")[0] == 33
    levels = add(3000, b"\0\2", "3000 boundaries")
    assert levels[1] > 1 and levels[2] == 1, levels
    return out


def list_cases(keys):
    """Contents of hand-made lists: whether all chunks of one are named."""
    out = []
    items = list_items(4, b"")
    one, two = list_bytes(0, items[:2]), list_bytes(0, items[2:])
    total = sum(n for _, n in items)
    above = lambda level, *children: list_bytes(level, [(keys.id_of(text, LIST), n) for text, n in children])
    both = (one, 2001), (two, 2005)

    def add(name, expected, length, root, *lists):
        chunks = Chunks(keys, LIST, [root, *lists])
        root_id = keys.id_of(root, LIST)
        walk = lambda: list(chunks.walk_list(root_id, None, length))
        fields = {"id": root_id.hex(), "length": length, "lists": [text.hex() for text in (root, *lists)]}
        if expected == "ok":
            fields["items"] = [{"id": i.hex(), "length": n} for i, n in walk()]
        out.append(case(name, expected, walk, **fields))

    add("a list", "ok", 2001, one)
    add("two lists", "ok", total, above(1, *both), one, two)
    add("four levels", "ok", 2001, *(lists := nested(above, one, 3))[::-1])
    add("five levels", "refuse", 2001, *nested(above, one, 4)[::-1])
    add("a length that is not the sum", "refuse", 2002, one)
    add("a list's length that is not the sum", "refuse", total, above(1, (one, 2002), (two, 2004)), one, two)
    add("a list two levels below", "refuse", 2001, above(2, (one, 2001)), one)
    add("a list of the same level", "refuse", 2001, above(1, (lists[1], 2001)), lists[1], one)
    add("a lost list", "refuse", total, above(1, *both), one)
    return out


def nested(above, text, levels):
    lists = [text]
    for level in range(1, levels + 1):
        lists.append(above(level, (lists[-1], 2001)))
    return lists


def snapshot_payload(tree, number=1, previous=None, **changes):
    snapshot = {"needs": [], "series": "00008030-000A1D0C3E38802E", "previous": previous, "time": CREATED + 86_400 * number}
    snapshot |= {"created": CREATED + 86_400 * number + 60, "root": tree.hex(), "files": 1, "bytes": 5, "added_bytes": 8192}
    device = {"name": "A phone", "product_type": "iPhone12,1", "product_version": "17.1", "folder": "00008030-000A1D0C3E38802E"}
    snapshot |= {"source": "import", "encrypted": False, "sealed": False, "device": device, "warnings": [], "warning_count": 0}
    return compact({**snapshot, "program": "make_vectors 1", **changes})


def snapshot_vectors():
    keys, cases = keys_for(), []
    root = fixed("root", 16)
    payload = snapshot_payload(root)
    whole = seal_payload(keys, reader.SNAPSHOT, "snapshot", payload.encode())

    def add(name, expected, text, **more):
        cases.append(case(name, expected, reader.parse_snapshot, text.encode(), payload=text, **more))

    add("whole", "ok", payload)
    add("with a predecessor", "ok", snapshot_payload(root, previous="ab" * 32))
    add("unknown keys", "ok", snapshot_payload(root, colour="blue"))
    add("unknown needs", "newer", snapshot_payload(root, needs=["sparkles"]))
    add("unknown source", "newer", snapshot_payload(root, source="cloud"))
    add("root too short", "refuse", snapshot_payload(root[:15]))
    add("root of another alphabet", "refuse", snapshot_payload(root, root="g" * 32))
    add("root null", "refuse", snapshot_payload(root, root=None))
    add("an array", "refuse", "[]")
    add("cut", "refuse", payload[:-1])
    add("empty", "refuse", "")
    add("previous too short", "refuse", snapshot_payload(root, previous="ab"))
    add("time as text", "refuse", snapshot_payload(root, time="now"))
    fields = {"repository": REPOSITORY_ID.hex(), "cipher": keys.cipher, "seal_key": keys.seal.hex()}
    return {**fields, "id": blake3(whole).hexdigest(), "payload": payload, "file": whole.hex(), "cases": cases}


# ---- the repository


class RepositoryWriter:
    """A repository in memory: path -> bytes."""

    def __init__(self, keys):
        self.keys, self.files, self.known, self.packs = keys, {}, set(), []
        self.lists = []  # the chunk lists of the snapshot being written

    def put(self, folder, data):
        name = blake3(data).hexdigest()
        in_folders = folder in reader.PACK_FOLDERS.values()
        self.files[f"{folder}/{name[:2]}/{name}" if in_folders else f"{folder}/{name}"] = data
        return name

    def new(self, kind, texts):
        """Those chunks that the repository lacks; they count as written from now on."""
        out = []
        for text in texts:
            chunk_id = self.keys.id_of(text, kind)
            if chunk_id not in self.known:
                self.known.add(chunk_id)
                out.append(text)
        return out

    def finish_pack(self, pack):
        data = pack.finish()
        name = self.put(reader.PACK_FOLDERS[pack.kind], data)
        self.packs.append((bytes.fromhex(name), len(data), pack.kind, pack.frames))

    def segment(self, label, packs, superseded=()):
        entries = [item for number, (*_, frames) in enumerate(packs) for item in pack_entries(number, frames)]
        contents = segment_contents([pack[:3] for pack in packs], [bytes.fromhex(name) for name in superseded], entries)
        return self.put("index", seal_segment(self.keys, label, contents))

    def snapshot(self, label, files, extra, deltas, previous=None, number=1, supersede=()):
        """`files`: (domain, path, content, mtime); `extra`: tree items; `deltas`: path -> base plaintext for its first new chunk."""
        data_pack = PackWriter(self.keys, reader.DATA_PACK, f"{label} data")
        items, small, self.lists = list(extra), [], []
        for domain, path, content, mtime in files:
            ends = cuts(self.keys.chunker, content)
            texts = [content[a:b] for a, b in zip([0, *ends], ends)]
            items.append((domain.encode() + b"\0" + path.encode(), self.entry(content, texts, mtime)))
            for text in self.new(DATA, texts):
                if path in deltas and text[:100] == deltas[path][:100]:
                    data_pack.add(DELTA, DATA, [text], deltas[path])
                elif len(text) < 4096:
                    small.append(text)
                else:
                    data_pack.add(ZSTD, DATA, [text])
        if small:
            data_pack.add(ZSTD, DATA, small)
        root, nodes = build_tree(self.keys, sorted(items))
        tree_pack = PackWriter(self.keys, reader.TREE_PACK, f"{label} tree")
        tree_pack.add(ZSTD, LIST, self.new(LIST, self.lists))
        tree_pack.add(ZSTD, NODE, self.new(NODE, [node for _, _, node in nodes]))
        before = len(self.packs)
        self.finish_pack(data_pack)
        self.finish_pack(tree_pack)
        segment = self.segment(label, self.packs if supersede else self.packs[before:], supersede)
        counts = self.counts([content for _, _, content, _ in files], self.packs[before:])
        payload = snapshot_payload(root, number, previous, **counts)
        return self.put("snapshots", seal_payload(self.keys, reader.SNAPSHOT, label, payload.encode())), segment

    def counts(self, contents, packs):
        added = sum(length for _, length, *_ in packs)
        return {"files": len(contents), "bytes": sum(len(content) for content in contents), "added_bytes": added}

    def entry(self, content, texts, mtime, key=None):
        """The entry of a file, which is the ciphertext of `texts` if there is a key."""
        chunks, plaintext = [(self.keys.id_of(text, DATA), len(text)) for text in texts], b"".join(texts)
        fields = [(0, 1), (2, mtime), (3, blake3(content).digest()), (4, len(content)), (6, rule_of(plaintext))]
        if len(chunks) > 32:
            list_id, lists = build_list(self.keys, chunks)
            self.lists += [text for _, _, text in lists]
            fields.append((7, list_id))
        else:
            fields.insert(4, (5, b"".join(chunk_id + varint(length) for chunk_id, length in chunks)))
        sealing = [(129, sealing_field(key, len(plaintext)))] if key else []
        return encode_entry([*fields, (8, 0o100644), (10, 501), (12, 501), *sealing])


def sample_files(second):
    text = b"".join(b"%05d: a line of a log that compresses well, %d\n" % (i, i * i % 97) for i in range(1600))[:70_000]
    database = b"SQLite format 3\0" + fixed("page", 200) + bytes(65_536 * 40)  # so many chunks that it needs a chunk list
    if second:
        text = text.replace(b"00100: a line", b"00100: a changed line")
        database = database[:65_536] + fixed("more", 300) + database[65_836:]
    time = 1_600_000_000_123_456_789
    return [
        ("", "Info.plist", b"<plist><dict/></plist>", time),
        ("", "Manifest.db", b"SQLite format 3\0 of a few bytes" + (b", changed" if second else b""), time + second * 10**9),
        ("HomeDomain", "Library/Logs/log.txt", text, time + 2 + second * 10**9),
        ("HomeDomain", "Library/SMS/sms.db", database, time + 3 + second * 10**9),
        ("HomeDomain", "Library/empty", b"", -1_000_000_000),
        ("AppDomain-org.example", "Documents/\u00e4 note.txt", b"hello", time + 5),
    ]


def config_and_slots(config):
    slots = password_slot(config, "correct horse"), recovery_slot(config, fixed("recovery entropy", 20))
    return {"config": line_file(config), **copies(slots[0]), **copies(slots[1])}


def secrets():
    return {"password": "correct horse", "recovery": Mnemonic("english").to_mnemonic(fixed("recovery entropy", 20))}


def repository_vectors():
    keys = keys_for()
    writer = RepositoryWriter(keys)
    writer.files |= config_and_slots(config_line())
    extra = [
        (b"HomeDomain\0", encode_entry([(0, 2), (8, 0o40755)])),
        (b"HomeDomain\0Library/absent", encode_entry([(0, 1), (8, 0o100644), (16, 77)])),
        (b"HomeDomain\0Library/link", encode_entry([(0, 3), (8, 0o120777), (9, b"../target")])),
        (b"\0Snapshot", encode_entry([(0, 2)])),
    ]
    first, segment = writer.snapshot("first", sample_files(False), extra, {})
    log = sample_files(False)[2][2]
    base = log[: cuts(keys.chunker, log)[0]]
    second, _ = writer.snapshot("second", sample_files(True), extra, {"Library/Logs/log.txt": base}, first, 2, [segment])
    assert any(frame.encoding == DELTA for *_, frames in writer.packs for frame in frames)
    snapshots = []
    for name, changed in ((first, False), (second, True)):
        files = [expected_file(*file) for file in sample_files(changed)]
        snapshots.append({"id": name, "files": files, "directories": ["Snapshot"]})
    return {**secrets(), "latest": second, "snapshots": snapshots}, writer.files


def expected_file(domain, path, content, mtime):
    """What repository.json says of a file."""
    place = reader.place_of(domain, path, {"kind": reader.FILE, "length": 0, "place": None})
    fields = {"domain": domain, "path": path, "place": place, "length": len(content)}
    return fields | {"blake3": blake3(content).hexdigest(), "mtime": mtime}


# ---- the repository of deltas


@dataclass
class SampleFile:
    """A file of the repository of deltas. `text` is what is kept; `base`, the text that it was made from; `key`, its ciphertext's."""

    domain: str
    path: str
    mtime: int
    text: bytes
    base: bytes = b""
    key: bytes = None

    def content(self):
        """The bytes in the backup folder: padding is added to what is not whole blocks already, since that shows none."""
        return encrypt(self.key, self.text + bytes([self.padding()]) * self.padding()) if self.key else self.text

    def padding(self):
        ends_as_padding = not self.text or 1 <= self.text[-1] <= 16
        return 16 - len(self.text) % 16 if len(self.text) % 16 or ends_as_padding else 0

    def expected(self):
        sealed = {"plaintext_length": len(self.text), "plaintext_blake3": blake3(self.text).hexdigest()} if self.key else {}
        return expected_file(self.domain, self.path, self.content(), self.mtime) | sealed


class DeltaWriter(RepositoryWriter):
    """Writes whatever is new as a delta of what it replaces, and all else in solid frames."""

    def __init__(self, keys):
        super().__init__(keys)
        self.versions = {}  # (kind, text) of the deltas -> version
        self.before = {}  # of the snapshot before: ("list", number) or (level, first key) -> chunk list or node

    def add(self, pack, kind, texts):
        """`texts`: (text, base or None); deltas, then a frame of all others."""
        texts = [(text, base) for text, base in texts if self.new(kind, [text])]
        for text, base in texts:
            if base is not None:
                version = self.versions[kind, text] = self.versions.get((kind, base), 0) + 1
                pack.add(DELTA, kind, [text], base, version)
        alone = [text for text, base in texts if base is None]
        if alone:
            pack.add(ZSTD, kind, alone)

    def pieces(self, text):
        ends = cuts(self.keys.chunker, text)
        return [text[a:b] for a, b in zip([0, *ends], ends)]

    def write(self, label, files, extra):
        """The root of the tree of these files, whose packs are written."""
        data, tree = (PackWriter(self.keys, kind, f"{label} {kind}") for kind in (reader.DATA_PACK, reader.TREE_PACK))
        items, self.lists = list(extra), []
        for file in files:
            texts, bases = self.pieces(file.text), self.pieces(file.base)
            self.add(data, DATA, zip(texts, bases + [None] * len(texts)))
            entry = self.entry(file.content(), texts, file.mtime, file.key)
            items.append((file.domain.encode() + b"\0" + file.path.encode(), entry))
        root, nodes = build_tree(self.keys, sorted(items))
        lists = {("list", number): text for number, text in enumerate(self.lists)}
        named = {(level, reader.parse_node(node)[1][0][0]): node for level, _, node in nodes}
        for kind, texts in ((LIST, lists), (NODE, named)):
            self.add(tree, kind, [(text, self.before.get(name)) for name, text in texts.items()])
        self.before = lists | named
        self.finish_pack(data)
        self.finish_pack(tree)
        return root


def delta_files(day):
    """Three versions of a draft on each day, each made from the one before it; what the phone encrypted; a database."""
    time = 1_650_000_000_000_000_001 + day * 86_400 * 10**9
    drafts = [b"A draft that is written again and again.\n" * 2]
    for n in range(1, 9):
        drafts.append(drafts[-1] + b"Line %d of it says %s.\n" % (n, fixed(f"line {n}", 6).hex().encode()))
    page = lambda n, version=0: (fixed(f"page {n} {version}", 60) * 1093)[:65_536]
    health = lambda day: b"SQLite format 3\0" + b"".join(page(n, day * (n == 3)) for n in range(5))[16:] + b"the end"
    large = lambda day: b"SQLite format 3\0" + fixed(f"head {day}", 200) + bytes(65_536 * 36)
    photos = lambda day: b"SQLite format 3\0" + fixed(f"photos {day}", 100) + bytes(65_536 * 34)
    before = max(day - 1, 0)
    base = lambda make: make(day - 1) if day else b""
    sealed = lambda n: fixed(f"key of file {n}")
    files = [SampleFile("", "Manifest.db", time, b"SQLite format 3\0 of day %d" % day)]
    for n in range(3 * day + 3):
        path = f"Documents/draft {n}.txt"
        files.append(SampleFile("AppDomain-org.example", path, time - n, drafts[n], drafts[n - 1] if n else b""))
    return files + [
        SampleFile("HealthDomain", "Health/health.db", time, health(day), base(health), sealed(0)),
        SampleFile("HealthDomain", "Health/copy.db", time, health(before), b"", sealed(1)),
        SampleFile("HomeDomain", "Library/SMS/sms.db", time, large(day), base(large), sealed(2)),
        SampleFile("HomeDomain", "Library/empty", time, b"", b"", sealed(3)),
        SampleFile("HomeDomain", "Library/note", time, b"sixteen bytes, 5", b"", sealed(4)),
        SampleFile("CameraRollDomain", "Media/PhotoData/Photos.sqlite", time, photos(day), base(photos)),
    ]


def delta_repository_vectors():
    keys = keys_for("chacha20-poly1305")
    writer = DeltaWriter(keys)
    writer.files |= config_and_slots(config_line(keys.cipher))
    # Two keys that begin new nodes, so that there are several.
    extra = [(key, encode_entry([(0, 2)])) for key in (found(keys, 6), found(keys, 6, 1), b"\0Snapshot")]
    snapshots, segments, previous = [], [], None
    for day in range(3):
        label, files = f"day {day}", delta_files(day)
        before = len(writer.packs)
        root = writer.write(label, files, extra)
        new = writer.packs[before:]
        # The last segment replaces the first, so that bases and deltas lie in different ones.
        packs, superseded = (writer.packs[:2] + new, segments[:1]) if day == 2 else (new, [])
        segments.append(writer.segment(label, packs, superseded))
        counts = writer.counts([file.content() for file in files], new)
        payload = snapshot_payload(root, day + 1, previous, **counts, encrypted=True, sealed=True)
        previous = writer.put("snapshots", seal_payload(keys, reader.SNAPSHOT, label, payload.encode()))
        snapshots.append({"id": previous, "files": [file.expected() for file in files], "directories": ["Snapshot"]})
    parked = writer.put("parked", seal_payload(keys, 8, "parked", snapshot_payload(root, 9, previous).encode()))
    keybag = fixed("keybag")
    remembered = {"series": json.loads(payload)["series"], "keybag": blake3(keybag).hexdigest(), "password": "1234"}
    remembered["created"] = CREATED
    writer.put("passwords", seal_payload(keys, 9, "password", compact(remembered).encode()))
    out = {**secrets(), "latest": previous, "parked": parked, "keybag": keybag.hex(), "remembered": remembered}
    return {**out, "snapshots": snapshots}, writer.files


def read_back(value, files):
    """Confirms that read_repo.py gets everything out, with and without the index."""
    with tempfile.TemporaryDirectory() as folder:
        for path, data in files.items():
            target = os.path.join(folder, "repository", path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                file.write(data)
        for use_index in (True, False):
            reports = []
            path, password = os.path.join(folder, "repository"), value["password"]
            repository = reader.Repository(path, password, None, use_index, reports.append)
            assert [name for name, _ in repository.snapshots()] == [snapshot["id"] for snapshot in value["snapshots"]]
            for snapshot in value["snapshots"]:
                target = os.path.join(folder, f"{snapshot['id']} {use_index}")
                reader.extract(repository, snapshot["id"], target)
                assert not reports, reports
                assert folder_fields(target) == {file["place"]: (file["blake3"], file["mtime"]) for file in snapshot["files"]}


def folder_fields(folder):
    found = {}
    for path, _, names in os.walk(folder):
        for name in names:
            whole = os.path.join(path, name)
            with open(whole, "rb") as file:
                digest = blake3(file.read()).hexdigest()
            found[os.path.relpath(whole, folder).replace(os.sep, "/")] = digest, os.stat(whole).st_mtime_ns
    return found


# ---- the worked example


def example_vectors():
    """The least that means something: a snapshot of one file of five bytes, nothing compressed."""
    secret, time = bytes(range(32)), CREATED * 10**9
    keys = reader.Keys.of(secret, {"id": REPOSITORY_ID.hex(), "cipher": "aes-256-gcm"})
    data = PackWriter(keys, reader.DATA_PACK, "example data")
    [chunk_id] = data.add(RAW, DATA, [b"hello"])
    entry = encode_entry([(0, 1), (2, time), (3, blake3(b"hello").digest()), (4, 5), (5, chunk_id + varint(5)), (6, 1)])
    root, [(_, _, leaf)] = build_tree(keys, [(b"HomeDomain\0hi.txt", entry)])
    tree = PackWriter(keys, reader.TREE_PACK, "example tree")
    tree.add(RAW, NODE, [leaf])
    packs = [(blake3(pack.finish()).digest(), len(pack.finish()), pack.kind, pack.frames) for pack in (data, tree)]
    entries = [item for number, pack in enumerate(packs) for item in pack_entries(number, pack[3])]
    segment = segment_contents([pack[:3] for pack in packs], [], entries)
    payload = snapshot_payload(root, previous=None, device={"name": "A phone"})
    assert reader.parse_segment(segment) and reader.parse_snapshot(payload.encode())
    out = {"secret": secret.hex(), "repository": REPOSITORY_ID.hex(), "cipher": keys.cipher}
    out |= {"seal_key": keys.seal.hex(), "id_key": keys.chunk_id.hex(), "tree_key": keys.tree.hex(), "chunk_id": chunk_id.hex()}
    out |= {"data_pack_key": data.sealer.key.hex(), "data_directory": data.directory().hex(), "data_pack": data.finish().hex()}
    out |= {
        "entry": entry.hex(),
        "leaf": leaf.hex(),
        "root": root.hex(),
        "place": reader.place_of("HomeDomain", "hi.txt", reader.parse_entry(entry)),
    }
    out |= {"tree_directory": tree.directory().hex(), "tree_pack": tree.finish().hex(), "segment_contents": segment.hex()}
    out["segment"] = seal_segment(keys, "example segment", segment).hex()
    snapshot = seal_payload(keys, reader.SNAPSHOT, "example snapshot", payload.encode())
    return out | {"snapshot_payload": payload, "snapshot": snapshot.hex(), "snapshot_id": blake3(snapshot).hexdigest()}


# ---- writing and comparing


def all_files():
    """path -> bytes of everything that this program makes."""
    Compressed.load()
    values = {"chunker": chunker_vectors(), "keys": keys_vectors(), "sealed": sealed_vectors(), "pack": pack_vectors()}
    values |= {"segment": segment_vectors(), "tree": tree_vectors(), "sealing": sealing_vectors()}
    values["snapshot"] = snapshot_vectors()
    repositories = dict(zip(REPOSITORIES, (repository_vectors(), delta_repository_vectors())))
    for name, (value, files) in repositories.items():
        read_back(value, files)
        values[name] = value
    values["example"] = example_vectors()
    values["zstd"] = {"frames": Compressed.used}
    out = {f"{name}.json": lines_of(value).encode() for name, value in values.items()}
    return out | {f"{name}/{path}": data for name, (_, files) in repositories.items() for path, data in files.items()}


def lines_of(value):
    """JSON with a line for each key, and for each item of a list."""
    dump = lambda value: json.dumps(value, separators=(", ", ": "), ensure_ascii=True)
    text = lambda value: (
        "[\n" + ",\n".join("  " + dump(item) for item in value) + "\n]" if isinstance(value, list) else dump(value)
    )
    return "{\n" + ",\n".join(f" {dump(key)}: {text(item)}" for key, item in value.items()) + "\n}\n"


def stored(path):
    try:
        with open(os.path.join(HERE, path), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def stray(files):
    """Files of the repositories that this program does not make."""
    for repository in REPOSITORIES:
        for folder, _, names in os.walk(os.path.join(HERE, repository)):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), HERE).replace(os.sep, "/")
                if path not in files:
                    yield path


def main():
    parser = argparse.ArgumentParser(description="Writes the test vectors.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    args = parser.parse_args()
    files = all_files()
    different = [path for path, data in files.items() if stored(path) != data]
    if args.check:
        different += stray(files)
        for path in different:
            print(f"{path} differs", file=sys.stderr)
        sys.exit(1 if different else 0)
    for path in different:
        target = os.path.join(HERE, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(files[path])
    for path in list(stray(files)):
        os.unlink(os.path.join(HERE, path))
    print(f"{len(files)} files, {len(different)} of them new or changed")


if __name__ == "__main__":
    main()
