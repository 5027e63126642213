#!/usr/bin/env python3
"""Damages a repository file by file, and tells what a check notices and what a repair brings back.

    cargo build --release
    python3 benches/damage.py target/release/heirloom target/release/heirloom-sim [files]

A repository of three snapshots of a simulated phone, once with parity and once without. So many of its files, of every kind, are flipped in one bit,
cut to half, and deleted, one at a time. Then: does `check --read-data` notice it, does `repair` bring the repository back to clean, and if not, are all
files that the check does not name exported as they were?
"""

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


def phone(simulator, work):
    for day in range(3):
        folder = work / "phone" / f"day{day}"
        must(run(simulator, "write", "--size", "12M", "--seed", "3", "--days", day, folder, env=os.environ))


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
    work = pathlib.Path(tempfile.mkdtemp(prefix="damage-"))
    try:
        phone(simulator, work)
        print(f"{'':8} {'kind':10} {'damage':7} {'tried':>5} {'unnoticed':>9} {'clean again':>11}")
        for parity in (False, True):
            repository, env = make(program, simulator, work, parity)
            whole = work / "whole"
            shutil.copytree(repository, whole)
            table, chance = {}, random.Random(SEED)
            for name in choose(repository, count):
                for how in DAMAGES:
                    shutil.rmtree(repository)
                    shutil.copytree(whole, repository)
                    damage(repository / name, how, chance)
                    shutil.rmtree(work / "cache", ignore_errors=True)
                    noticed = run(program, "check", "--read-data", env=env).returncode != 0
                    repaired = run(program, "repair", env=env)
                    clean = run(program, "check", "--read-data", env=env).returncode == 0
                    row = table.setdefault((kind(name), how), [0, 0, 0])
                    row[0] += 1
                    row[1] += not noticed
                    row[2] += clean and repaired.returncode == 0
            shutil.rmtree(repository)
            shutil.rmtree(whole)
            label = "parity" if parity else "without"
            for (of, how), (tried, unnoticed, clean) in sorted(table.items()):
                print(f"{label:8} {of:10} {how:7} {tried:5} {unnoticed:9} {clean:11}")
            tried, unnoticed, clean = (sum(row[at] for row in table.values()) for at in range(3))
            print(f"{label:8} {'all':10} {'':7} {tried:5} {unnoticed:9} {clean:11}", flush=True)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
