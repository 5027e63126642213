#!/usr/bin/env python3
"""Damages a repository file by file, and tells what a check notices and what a repair brings back.

    cargo build --release
    python3 benches/damage.py target/release/heirloom target/release/heirloom-sim [files [size]]

A repository of three snapshots of a simulated phone, once with parity and once without. So many of its files, of every kind, are flipped in one bit,
cut to half, and deleted, one at a time. Then: does `check --read-data` tell of it, does `repair` bring the repository back to clean with all of its snapshots, and
if not, is there a file that the check does not name, and that is not exported as it was?
"""

import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

SEED = 7
DAMAGES = ("flip", "cut", "delete")


def run(program, *arguments, env):
    return subprocess.run([program, *map(str, arguments)], env=env, capture_output=True, text=True)


def must(done):
    if done.returncode != 0:
        raise SystemExit(f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def make(program, simulator, work, parity):
    env = {"PATH": os.environ["PATH"], "HOME": str(work / "home"), "XDG_CACHE_HOME": str(work / "cache")}
    repository = work / ("parity" if parity else "plain")
    env["HEIRLOOM_REPOSITORY"] = str(repository)
    must(run(program, "init", "--no-password", *(["--parity"] if parity else []), env=env))
    for day in sorted((work / "phone").iterdir()):
        must(run(program, "import", day, env=env))
    return repository, env


def phone(simulator, work, size):
    for day in range(3):
        folder = work / "phone" / f"day{day}"
        must(run(simulator, "write", "--size", size, "--seed", "3", "--days", day, folder, env=os.environ))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def snapshots(program, env):
    listed = run(program, "snapshots", "--json", env=env)
    return {snapshot["id"]: snapshot for snapshot in json.loads(listed.stdout)}


def place(file):
    """Where Apple puts a file of a domain."""
    if not file["domain"]:
        return file["path"]
    digits = hashlib.sha1(f"{file['domain']}-{file['path']}".encode()).hexdigest()
    return f"{digits[:2]}/{digits}"


def count_wrong(program, work, env, whole):
    """How many files that a check does not name come out otherwise than they went in."""
    checked = json.loads(run(program, "check", "--read-data", "--json", env=env).stdout)
    named, with_lost_parts = {}, set()
    for affected in checked["affected"]:
        named[affected["snapshot"]["id"]] = {place(file) for file in affected["files"]}
        if affected["lost_parts"] or affected["more"]:
            with_lost_parts.add(affected["snapshot"]["id"])
    wrong = 0
    for snapshot, files in whole.items():
        if snapshot not in snapshots(program, env) or snapshot in with_lost_parts:
            continue
        target = work / "exported"
        run(program, "export", snapshot, "--to", target, env=env)
        [folder] = (path for path in target.iterdir() if not path.name.startswith("."))
        exported = contents(folder)
        wrong += sum(exported.get(name) != data and name not in named.get(snapshot, ()) for name, data in files.items())
        shutil.rmtree(target)
    return wrong


def kind(name):
    return name.split("/")[0]


def choose(repository, count):
    """Of every kind some, chosen by chance that is the same each time."""
    names = sorted(str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file())
    names = [name for name in names if kind(name) not in ("reserve", "tmp", "sessions")]
    kinds = {}
    for name in names:
        kinds.setdefault(kind(name), []).append(name)
    chance = random.Random(SEED)
    for of in kinds.values():
        chance.shuffle(of)
    chosen = []
    while len(chosen) < count and any(kinds.values()):
        for of in kinds.values():
            if of and len(chosen) < count:
                chosen.append(of.pop())
    return chosen


def damage(path, how, chance):
    data = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)


def main():
    program, simulator = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 40
    size = sys.argv[4] if len(sys.argv) > 4 else "12M"
    work = pathlib.Path(tempfile.mkdtemp(prefix="damage-"))
    try:
        phone(simulator, work, size)
        print(f"{'':8} {'kind':10} {'damage':7} {'tried':>5} {'unnoticed':>9} {'clean again':>11} {'wrong files':>11}")
        for parity in (False, True):
            repository, env = make(program, simulator, work, parity)
            whole = work / "whole"
            shutil.copytree(repository, whole)
            days = [contents(next(day.iterdir())) for day in sorted((work / "phone").iterdir())]
            all_snapshots = sorted(snapshots(program, env).values(), key=lambda snapshot: snapshot["time"])
            before = {snapshot["id"]: files for snapshot, files in zip(all_snapshots, days, strict=True)}
            table, chance = {}, random.Random(SEED)
            for name in choose(repository, count):
                for how in DAMAGES:
                    shutil.rmtree(repository)
                    shutil.copytree(whole, repository)
                    damage(repository / name, how, chance)
                    shutil.rmtree(work / "cache", ignore_errors=True)
                    checked = run(program, "check", "--read-data", env=env)
                    # What has lost nothing is told in a note.
                    noticed = checked.returncode != 0 or "no spare" in checked.stderr
                    repaired = run(program, "repair", env=env)
                    clean = run(program, "check", "--read-data", env=env)
                    again = [repaired.returncode, clean.returncode, clean.stderr] == [0, 0, ""]
                    again = again and len(snapshots(program, env)) == len(before)
                    row = table.setdefault((kind(name), how), [0, 0, 0, 0])
                    row[0] += 1
                    row[1] += not noticed
                    row[2] += again
                    row[3] += 0 if again else count_wrong(program, work, env, before)
            shutil.rmtree(repository)
            shutil.rmtree(whole)
            label = "parity" if parity else "without"
            table["all", ""] = [sum(column) for column in zip(*table.values())]
            for (of, how), (tried, unnoticed, clean, wrong) in table.items():
                print(f"{label:8} {of:10} {how:7} {tried:5} {unnoticed:9} {clean:11} {wrong:11}", flush=True)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
