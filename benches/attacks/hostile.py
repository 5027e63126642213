#!/usr/bin/env python3
"""Repositories that were made to exhaust memory or time, and what a heirloom does with them.

    benches/attacks/hostile.py HEIRLOOM [--seconds 60] [--gib 6] [--only NAME]

Each is made as somebody would who knows its secret: an open repository that was sent to a person, or one of a family's members. For `ls`, `export` and `check`
it prints the exit code, seconds, and peak memory. What takes longer than --seconds is killed; no run gets more than --gib of memory.
It needs the packages of tests/vectors/requirements.txt. Packs are written in the form that HEIRLOOM reads: with the header again at their end and trees
in a folder of their own, or without.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ID, SECRET, ENTRY_TIME = bytes(range(16)), bytes(range(32)), 1_700_000_000
DATA_PACK, TREE_PACK, SNAPSHOT = 1, 2, 4
DATA, NODE, LIST = 1, 2, 3
RAW, ZSTD, DELTA = 0, 1, 2
CHUNK = bytes(4096)


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def keyed(key, data, length=32):
    return blake3(data, key=key).digest(length=length)


SEAL, IDS = (blake3(SECRET, derive_key_context=f"heirloom 1 {name}").digest() for name in ("seal", "chunk id"))


def chunk_id(text, kind):
    return keyed(IDS, text + bytes([kind]), 16)


class Repository:
    """A repository that everybody can read, of packs that no segment names."""

    def __init__(self, path, is_new):
        self.path, self.is_new, self.files = path, is_new, 0
        config = json.dumps({"heirloom": 1, "id": ID.hex(), "cipher": "aes-256-gcm", "created": ENTRY_TIME, "pack_bytes": 1 << 24})
        self.text("config", config)
        for copy in (1, 2):
            slot = {"slot": "01" * 8, "kind": "open", "created": ENTRY_TIME, "config": config, "secret": SECRET.hex()}
            self.text(f"keys/{'01' * 8}-{copy}", json.dumps(slot))

    def write(self, name, data):
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    def text(self, name, line):
        self.write(name, line.encode() + b"\n" + blake3(line.encode()).hexdigest().encode() + b"\n")

    def sealer(self, kind):
        self.files += 1
        header = b"heirloom" + bytes([1, kind]) + bytes(6) + ID + hashlib.sha256(str(self.files).encode()).digest()
        aead = AESGCM(keyed(SEAL, header))
        return header, lambda number, plain, last=False: aead.encrypt(struct.pack("<IB7x", number, last), plain, None)

    def pack(self, kind, frames):
        """`frames`: (encoding, kind of chunks, [plaintext or (id, length)], bytes of the frame, id of the base)."""
        header, seal = self.sealer(kind)
        body, directory = b"", varint(len(frames))
        for number, (encoding, chunk_kind, chunks, encoded, base) in enumerate(frames):
            sealed = seal(number, encoded)
            body += sealed
            directory += bytes([encoding, chunk_kind]) + varint(len(sealed)) + varint(len(chunks))
            for chunk in chunks:
                name, length = chunk if isinstance(chunk, tuple) else (chunk_id(chunk, chunk_kind), len(chunk))
                directory += name + varint(length)
            if encoding == DELTA:
                directory += base + b"\1"
        again = header if self.is_new else b""
        fixed = len(header) + len(body) + len(directory) + 16 + len(again) + 12
        sealed = seal(0xFFFF_FFFF, directory + bytes(-fixed % 4096))
        data = header + body + sealed + again + struct.pack("<I", len(sealed)) + b"heir-end"
        name = blake3(data).hexdigest()
        folder = "trees" if self.is_new and kind == TREE_PACK else "packs"
        self.write(f"{folder}/{name[:2]}/{name}", data)

    def chunks(self, kind, texts):
        frames = [(ZSTD, kind, [text], zstandard.compress(text, 3), None) for text in texts]
        self.pack(DATA_PACK if kind == DATA else TREE_PACK, frames)

    def snapshot(self, root, **more):
        header, seal = self.sealer(SNAPSHOT)
        record = {"needs": [], "series": "00008030-001A2B3C4D5E6F70", "previous": None, "time": ENTRY_TIME, "created": ENTRY_TIME + self.files}
        record |= {"root": root.hex(), "files": 1, "bytes": 5, "added_bytes": 1, "source": "import", "encrypted": False, "sealed": False}
        record |= {"device": {"name": "A phone"}, "warnings": [], "warning_count": 0, "program": "hostile", **more}
        payload = json.dumps(record).encode()
        blocks = [payload[at : at + (1 << 20)] for at in range(0, len(payload), 1 << 20)]
        data = header + b"".join(seal(n, block, n == len(blocks) - 1) for n, block in enumerate(blocks))
        self.write(f"snapshots/{blake3(data).hexdigest()}", data)


def node(level, items):
    out, before = bytes([level]) + varint(len(items)), b""
    for key, value in items:
        shared = len(before) if key.startswith(before) else len(os.path.commonprefix([before, key]))
        out += varint(shared) + varint(len(key) - shared) + key[shared:]
        out += varint(len(value)) + value if level == 0 else value
        before = key
    return out


def file_entry(length, chunks=b"", chunk_list=None):
    entry = bytes([0, 1, 3, 32]) + bytes(32) + bytes([4]) + varint(length)
    if chunk_list is None:
        entry += bytes([5]) + varint(len(chunks)) + chunks + bytes([6, 1])
    else:
        entry += bytes([6, 5, 7, 16]) + chunk_list
    return entry


def benign(repository):
    text = b"hello"
    repository.chunks(DATA, [text])
    entry = bytes([0, 1, 3, 32]) + blake3(text).digest() + bytes([4, 5, 5, 17]) + chunk_id(text, DATA) + b"\5" + bytes([6, 1])
    root = node(0, [(b"HomeDomain\0hi.txt", entry)])
    repository.chunks(NODE, [root])
    repository.snapshot(chunk_id(root, NODE))


def prefixes(repository):
    """One node whose keys share a prefix of half a megabyte."""
    prefix = b"HomeDomain\0" + b"x" * (500 << 10)
    out = bytes([0]) + varint(10_001) + varint(0) + varint(len(prefix)) + prefix + varint(2) + bytes([0, 2])
    for n in range(10_000):
        out += varint(len(prefix)) + varint(4) + struct.pack(">I", n) + varint(2) + bytes([0, 2])
    repository.chunks(NODE, [out])
    repository.snapshot(chunk_id(out, NODE))


def deltas(repository):
    """The root in twelve copies, each of which is a delta of the root."""
    root = node(0, [(b"HomeDomain\0hi.txt", bytes([0, 2]))])
    name = chunk_id(root, NODE)
    for n in range(12):
        repository.pack(TREE_PACK, [(DELTA, NODE, [(name, len(root))], zstandard.compress(b"%d" % n), name)])
    repository.snapshot(name)


def delta_chain(repository):
    """Nine chunks in nine copies, each of which is a delta of the next chunk; the last is nowhere."""
    ids = [hashlib.sha256(b"%d" % n).digest()[:16] for n in range(10)]
    for n in range(9):
        for copy in range(9):
            repository.pack(TREE_PACK, [(DELTA, NODE, [(ids[n], 5)], zstandard.compress(b"%d" % copy), ids[n + 1])])
    repository.snapshot(ids[0])


def lists(repository):
    """A file of 281 TB: lists of 4096 times the same list."""
    repository.chunks(DATA, [CHUNK])
    item, texts = (chunk_id(CHUNK, DATA), len(CHUNK)), []
    for level in range(3):
        text = bytes([level]) + varint(4096) + (item[0] + varint(item[1])) * 4096
        texts.append(text)
        item = (chunk_id(text, LIST), item[1] * 4096)
    repository.chunks(LIST, texts)
    root = node(0, [(b"HomeDomain\0hi.txt", file_entry(item[1], chunk_list=item[0]))])
    repository.chunks(NODE, [root])
    repository.snapshot(chunk_id(root, NODE))


def overlaps(repository):
    """Sixteen levels of nodes, each of which has all below it that begin later: more paths than anybody could walk."""
    keys = [b"HomeDomain\0%03d" % n for n in range(60)]
    below, texts = [node(0, [(key, bytes([0, 2]))]) for key in keys], []
    for level in range(1, 16):
        texts += below
        below = [node(level, [(keys[n], chunk_id(below[n], NODE)) for n in range(first, 60)]) for first in range(60)]
    texts += below[:1]
    repository.chunks(NODE, texts)
    repository.snapshot(chunk_id(below[0], NODE))


def records(repository):
    """Four hundred records of nearly a megabyte each."""
    root = node(0, [])
    repository.chunks(NODE, [root])
    for n in range(400):
        repository.snapshot(chunk_id(root, NODE), warnings=["\u202e" * 330] * 900, device={"name": "A phone", "more": "x" * 50_000})


def slots(repository):
    """Two added keys of 1 GiB and four passes, as somebody adds who cannot open it; see `attack`."""


CASES = [benign, prefixes, deltas, delta_chain, lists, overlaps, records, slots]


def run(heirloom, args, home, limits, **variables):
    """(what happened, seconds, MB at most)"""
    environment = {"PATH": os.environ["PATH"], "HOME": home, "TZ": "UTC", **variables}

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (limits.gib << 30, limits.gib << 30))

    started = time.monotonic()
    with open(os.path.join(home, "said"), "wb") as said:
        child = subprocess.Popen([heirloom, *args], env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=limit)
        end = None
        while end is None:
            done, status, usage = os.wait4(child.pid, os.WNOHANG)
            if done:
                end = f"exit {os.waitstatus_to_exitcode(status)}"
            elif time.monotonic() - started > limits.seconds:
                child.kill()
                _, _, usage = os.wait4(child.pid, 0)
                end = "killed"
            else:
                time.sleep(0.002)
    child.returncode = 0
    return end, time.monotonic() - started, usage.ru_maxrss / 1000


def attack(heirloom, make, is_new, limits, verbs):
    with tempfile.TemporaryDirectory() as home:
        path = os.path.join(home, "repo")
        variables = {}
        if make is slots:
            variables = {"HEIRLOOM_PASSWORD": "correct horse"}
            run(heirloom, ["--repo", path, "init", "--no-verify"], home, limits, **variables)
            line = open(os.path.join(path, "config")).read().split("\n")[0]
            writer = object.__new__(Repository)
            writer.path = path
            for n in range(2):
                slot = {"slot": f"{n:016x}", "kind": "password", "created": 1, "config": line, "salt": "00" * 16}
                slot |= {"memory_kib": 1 << 20, "passes": 4, "lanes": 1, "sealed": "00" * 48}
                for copy in (1, 2):
                    writer.text(f"keys/{n:016x}-{copy}", json.dumps(slot))
        else:
            make(Repository(path, is_new))
        results = []
        for verb in verbs:
            target = os.path.join(home, "out")
            shutil.rmtree(target, ignore_errors=True)
            args = {"ls": ["ls", "latest"], "export": ["export", "latest", "--to", target], "check": ["check"], "list": ["snapshots"]}[verb]
            results.append((verb, *run(heirloom, ["--repo", path, *args], home, limits, **variables)))
        return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("heirloom")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--gib", type=int, default=6)
    parser.add_argument("--only")
    limits = parser.parse_args()
    heirloom = os.path.abspath(limits.heirloom)
    is_new = attack(heirloom, benign, True, limits, ["ls"])[0][1] == "exit 0"
    assert is_new or attack(heirloom, benign, False, limits, ["ls"])[0][1] == "exit 0", "it reads neither form of packs"
    print(f"{heirloom}: packs {'with their header again at the end' if is_new else 'with a plain trailer'}")
    for make in CASES:
        if limits.only in (None, make.__name__):
            verbs = ["list", "check"] if make in (slots, records) else ["ls", "check"] if make is lists else ["ls", "export", "check"]
            for verb, end, seconds, megabytes in attack(heirloom, make, is_new, limits, verbs):
                print(f"{make.__name__:12} {verb:7} {end:9} {seconds:8.2f} s {megabytes:8.0f} MB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
