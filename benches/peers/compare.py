#!/usr/bin/env python3
"""heirloom beside restic, rustic, borg and bupstash on the same histories of a simulated phone. See README.md beside this file."""

import argparse
import csv
import filecmp
import hashlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("plain", "incremental", "fresh-keys")
PASSWORD, PHONE_PASSWORD = "of the repository", "of the backup"
SEED = "7"


# ---- the tools


class Tool:
    """A program with a repository of its own. Commands are lists; `env` is what they need."""

    name, forgets = "", True

    def __init__(self, program, work):
        self.program, self.work = str(program), work / self.name.replace(" ", "-")
        self.repository, self.home = self.work / "repository", self.work / "home"

    def env(self):
        return {"HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / "cache")}

    def begin(self):
        shutil.rmtree(self.work, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.run(self.init())

    def run(self, command, cwd=None):
        """Runs a command; returns what it printed, and seconds, processor seconds and peak KiB."""
        out = open(self.work / "output", "w+")
        start = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in command], env=os.environ | self.env(), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
        out.close()
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, command))}\n{text}\nended with {process.returncode}")
        return text, (seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)

    def bytes(self):
        return sum(path.stat().st_size for path in self.repository.rglob("*") if path.is_file())

    def restored(self, target, source):
        """Where a restore puts what was at `source`."""
        return target / source.relative_to("/")

    def version(self):
        return subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout.strip().splitlines()[0]


class Heirloom(Tool):
    name, password = "heirloom", PHONE_PASSWORD

    def env(self):
        return super().env() | {"HEIRLOOM_REPOSITORY": str(self.repository), "HEIRLOOM_PASSWORD": PASSWORD} | (
            {"HEIRLOOM_BACKUP_PASSWORD": self.password} if self.password else {}
        )

    def begin(self):
        self.forgets = subprocess.run([self.program, "forget", "--help"], capture_output=True).returncode == 0
        super().begin()

    def init(self):
        return [self.program, "init", "--no-verify"]

    def backup(self, source, number):
        return [self.program, "import", source]

    def restore(self, number, newest, target):
        return [self.program, "export", f"latest~{newest - number}" if number < newest else "latest", "--to", target]

    def restored(self, target, source):
        return target / source.name

    def check(self):
        return [self.program, "check", "--read-data"]

    def prune(self):
        return [[self.program, "forget", "--keep-last", "1", "--prune", "--now"]]


class HeirloomLocked(Heirloom):
    """Without the phone's password: what it encrypted is kept as it is."""

    name, password = "heirloom, locked", None


class Restic(Tool):
    name = "restic"

    def env(self):
        return super().env() | {"RESTIC_REPOSITORY": str(self.repository), "RESTIC_PASSWORD": PASSWORD}

    def init(self):
        return [self.program, "init", "-q"]

    def backup(self, source, number):
        return [self.program, "backup", "-q", "--tag", f"g{number}", source]

    def restore(self, number, newest, target):
        return [self.program, "restore", "-q", "latest", "--tag", f"g{number}", "--target", target]

    def check(self):
        return [self.program, "check", "-q", "--read-data"]

    def prune(self):
        return [[self.program, "forget", "-q", "--group-by", "host", "--keep-last", "1", "--prune"]]

    def version(self):
        return subprocess.run([self.program, "version"], capture_output=True, text=True).stdout.strip()


class Rustic(Restic):
    name = "rustic"

    def env(self):
        return Tool.env(self) | {"RUSTIC_REPOSITORY": str(self.repository), "RUSTIC_PASSWORD": PASSWORD, "RUSTIC_NO_PROGRESS": "true"}

    def init(self):
        return [self.program, "init"]

    def backup(self, source, number):
        return [self.program, "backup", "--tag", f"g{number}", source]

    def restore(self, number, newest, target):
        return [self.program, "restore", f"latest~{newest - number}" if number < newest else "latest", target]

    def check(self):
        return [self.program, "check", "--read-data"]

    def prune(self):
        return [[self.program, "forget", "-g", "host", "--keep-last", "1"], [self.program, "prune", "--instant-delete"]]

    def version(self):
        return Tool.version(self)


class Borg(Tool):
    name, compression = "borg", "lz4"

    def env(self):
        return super().env() | {"BORG_REPO": str(self.repository), "BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": str(self.home)}

    def init(self):
        return [self.program, "init", "-e", "repokey-blake2"]

    def backup(self, source, number):
        return [self.program, "create", "-C", self.compression, f"::g{number}", source]

    def restore(self, number, newest, target):
        return [self.program, "extract", f"::g{number}"]

    def check(self):
        return [self.program, "check", "--verify-data"]

    def prune(self):
        return [[self.program, "prune", "--keep-last", "1"], [self.program, "compact"]]


class BorgZstd(Borg):
    name, compression = "borg zstd", "zstd,3"


class Bupstash(Tool):
    name = "bupstash"

    def env(self):
        return super().env() | {"BUPSTASH_REPOSITORY": str(self.repository), "BUPSTASH_KEY": str(self.home / "key")}

    def begin(self):
        super().begin()
        self.run([self.program, "new-key", "-o", self.home / "key"])

    def init(self):
        return [self.program, "init"]

    def backup(self, source, number):
        return [self.program, "put", "--no-progress", f"generation=g{number}", source]

    def restore(self, number, newest, target):
        return [self.program, "restore", "--no-progress", "--into", target, f"generation=g{number}"]

    def restored(self, target, source):
        return target

    def check(self):
        return None

    def prune(self):
        return [[self.program, "rm", "--allow-many", "generation=g*", "and", f"~generation=g{self.newest}"], [self.program, "gc"]]

    def version(self):
        return subprocess.run([self.program, "version"], capture_output=True, text=True).stdout.strip()


# ---- the histories


def history(kind, size, generations, bin, work):
    """The folders of the backups of a phone on days that follow one another."""
    folder = work / "history" / f"{size}-{kind}"
    found = sorted(folder.glob("g*/*"))
    if len(found) == generations:
        return found
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (plain_history if kind == "plain" else encrypted_history)(folder, kind, size, generations, bin)
    return sorted(folder.glob("g*/*"))


def plain_history(folder, kind, size, generations, bin):
    for day in range(generations):
        target = folder / f"g{day}"
        if day:
            shutil.copytree(folder / f"g{day - 1}", target, copy_function=shutil.copy2)
        command = [bin / "heirloom-sim", "write", "--seed", SEED, "--size", size, "--days", str(day), target]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def encrypted_history(folder, kind, size, generations, bin):
    """What the phone sends is taken by heirloom, without the password, and exported as it came."""
    scratch = folder / "scratch"
    (scratch / "home").mkdir(parents=True)
    socket = scratch / "phone"
    command = [bin / "heirloom-sim", "serve", "--seed", SEED, "--size", size, "--password", PHONE_PASSWORD, "--socket", socket]
    phone = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    while not socket.exists():
        time.sleep(0.1)
    env = os.environ | {"HOME": str(scratch / "home"), "XDG_CACHE_HOME": str(scratch / "cache"), "USBMUXD_SOCKET_ADDRESS": f"UNIX:{socket}"}
    env |= {"HEIRLOOM_REPOSITORY": str(scratch / "repository")}
    heirloom = lambda *args: subprocess.run([bin / "heirloom", "-q", *args], env=env, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    heirloom("init", "--no-password")
    heirloom("pair")
    for day in range(generations):
        if day:
            phone.stdin.write(b"\n")
            phone.stdin.flush()
            time.sleep(3)
        heirloom("backup", *(["--full"] if kind == "fresh-keys" else []))
        heirloom("export", "latest", "--to", folder / f"g{day}")
    phone.kill()
    phone.wait()
    shutil.rmtree(scratch)


def bring(source, target):
    """Makes `target` the same as `source`, and touches nothing that is."""
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if path.relative_to(target) not in wanted:
            path.unlink()
    for path in sorted((path for path in target.rglob("*") if path.is_dir()), reverse=True):
        if not (source / path.relative_to(target)).is_dir():
            path.rmdir()
    for path in wanted:
        old, new = target / path, source / path
        if old.exists() and old.stat().st_size == new.stat().st_size and filecmp.cmp(old, new, shallow=False):
            continue
        old.parent.mkdir(parents=True, exist_ok=True)
        part = old.with_name(old.name + ".part")
        shutil.copy2(new, part)
        part.rename(old)


def assert_same(one, other):
    difference = subprocess.run(["diff", "-r", one, other], capture_output=True, text=True)
    if difference.returncode:
        raise SystemExit(f"{one} and {other} differ:\n{difference.stdout[:2000]}")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return digest.digest()


def bound(generations, zstd):
    """Bytes that each generation needs: new files compressed, changed ones patched from what they were, known contents for nothing."""

    def compressed(path, base=None):
        command = [zstd, "-12", "-q", "-c", "--long=27", path] + ([f"--patch-from={base}"] if base else [])
        # Counted, not kept: a program that is started counts the memory of this one as its own.
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            return sum(len(part) for part in iter(lambda: process.stdout.read(1 << 20), b""))

    def cost(path, base):
        alone = compressed(path)
        return min(alone, compressed(path, base)) if base else alone

    seen, before, needed = set(), {}, []
    for folder in generations:
        now = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
        jobs = []
        for name, path in now.items():
            digest = sha256(path)
            if digest not in seen:
                seen.add(digest)
                jobs.append((path, before.get(name)))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            needed.append(sum(pool.map(lambda job: cost(*job), jobs)))
        before = now
    return needed


# ---- measuring


class Measured:
    """All measurements, written as they come."""

    columns = ("size", "kind", "tool", "run", "step", "generation", "wall_s", "cpu_s", "peak_kib", "repository_bytes")

    def __init__(self, path):
        self.rows, self.file = [], open(path, "w", newline="")
        self.writer = csv.writer(self.file)
        self.writer.writerow(self.columns)

    def add(self, size, kind, tool, run, step, generation, usage):
        row = (size, kind, tool.name, run, step, generation, round(usage[0], 3), round(usage[1], 3), usage[2], tool.bytes())
        self.rows.append(dict(zip(self.columns, row)))
        self.writer.writerow(row)
        self.file.flush()

    def of(self, size, kind, tool, step, column, generation=None):
        return [
            row[column]
            for row in self.rows
            if (row["size"], row["kind"], row["tool"], row["step"]) == (size, kind, tool, step) and generation in (None, row["generation"])
        ]


def measure(size, kind, generations, tools, runs, work, measured):
    current = work / "current" / generations[0].name
    for run in range(1, runs + 1):
        shutil.rmtree(work / "current", ignore_errors=True)
        current.mkdir(parents=True)
        for tool in tools:
            tool.begin()
        newest = len(generations) - 1
        step = lambda tool, name, number, command, cwd=None: measured.add(size, kind, tool, run, name, number, timed(tool, command, cwd))
        for number, source in enumerate(generations):
            bring(source, current)
            for tool in tools:
                step(tool, "next" if number else "first", number, tool.backup(current, number))
        for tool in tools:
            step(tool, "again", newest, tool.backup(current, newest + 1) if not isinstance(tool, Heirloom) else tool.backup(current, newest))
            for name, number in (("newest", newest), ("oldest", 0)):
                target = tool.work / "restored"
                target.mkdir()
                # The unchanged backup is one more, but for heirloom, which makes none of it.
                last = newest if isinstance(tool, Heirloom) else newest + 1
                step(tool, name, number, tool.restore(number, last, target), target)
                assert_same(generations[number], tool.restored(target, current))
                shutil.rmtree(target)
            if tool.check():
                step(tool, "check", newest, tool.check())
            if tool.forgets:
                tool.newest = newest + 1
                usages = [timed(tool, command) for command in tool.prune()]
                measured.add(size, kind, tool, run, "prune", newest, [sum(u[0] for u in usages), sum(u[1] for u in usages), max(u[2] for u in usages)])
            shutil.rmtree(tool.work)


def timed(tool, command, cwd=None):
    os.sync()
    return tool.run(command, cwd)[1]


# ---- telling


def table(size, kind, generations, tools, needed, measured):
    lines = [f"{size}, {kind}, {len(generations)} generations: medians; seconds of wall and of processor; MB added; times the bound"]
    lines.append(
        f"{'':17}{'first':>13}{'next':>13}{'again':>13}{'newest':>13}{'oldest':>13}{'check':>13}{'prune':>13}{'peak':>8}{'MB first':>10}{'MB next':>9}{'x first':>9}{'x next':>8}"
    )
    if needed:
        first, following = needed[0] / 1e6, statistics.fmean(needed[1:]) / 1e6
        lines.append(f"{'bound':17}{'':99}{first:10.1f}{following:9.2f}")
    for tool in tools:
        cells = ""
        for name in ("first", "next", "again", "newest", "oldest", "check", "prune"):
            wall, cpu = (measured.of(size, kind, tool.name, name, column) for column in ("wall_s", "cpu_s"))
            cells += f"{statistics.median(wall):7.2f}{statistics.median(cpu):6.2f}" if wall else f"{'-':>13}"
        peak = max(row["peak_kib"] for row in measured.rows if (row["size"], row["kind"], row["tool"]) == (size, kind, tool.name))
        after = [statistics.median(measured.of(size, kind, tool.name, "next" if n else "first", "repository_bytes", n)) for n in range(len(generations))]
        first, following = after[0], (after[-1] - after[0]) / (len(generations) - 1)
        ratios = f"{first / needed[0]:9.3f}{following / statistics.fmean(needed[1:]):8.2f}" if needed else ""
        lines.append(f"{tool.name:17}{cells}{peak / 1024:6.0f} M{first / 1e6:10.1f}{following / 1e6:9.2f}{ratios}")
    return "\n".join(lines) + "\n\n"


def head(tools, absent, command):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    lines = [f"# {command}", f"# {os.cpu_count()} x {cpu}, {platform.system()} {platform.release()}"]
    lines += [f"# {tool.name}: {tool.version()}" for tool in tools]
    lines += [f"# {name}: not installed" for name in absent]
    return "\n".join(lines) + "\n\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--history", action="append", metavar="SIZExGENERATIONS", help="may be repeated (300Mx5 and 1Gx3 if not given)")
    parser.add_argument("--kind", action="append", choices=KINDS, help="may be repeated (all if not given)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release", help="heirloom and heirloom-sim")
    parser.add_argument("--tools", type=Path, default=ROOT / "target/peers", help="what tools.sh installed")
    parser.add_argument("--work", type=Path, default=ROOT / "target/peers-work", help="a folder on the disk to measure")
    parser.add_argument("--results", type=Path, help="where table and measurements go (the working folder if not given)")
    args = parser.parse_args()
    work = args.work.resolve()
    results = args.results or work
    for folder in (work, results):
        folder.mkdir(parents=True, exist_ok=True)
    programs = {Restic: "restic", Rustic: "rustic", Borg: "borg", BorgZstd: "borg", Bupstash: "bupstash"}
    found = {tool: args.tools / "bin" / name for tool, name in programs.items() if (args.tools / "bin" / name).exists()}
    absent = sorted({name for tool, name in programs.items() if tool not in found})
    ours = [Heirloom(args.bin / "heirloom", work)]
    others = [tool(program, work) for tool, program in found.items()]
    measured = Measured(results / "peers.csv")
    text = head(ours + others, absent, "benches/peers/compare.py " + " ".join(sys.argv[1:]))
    zstd = shutil.which("zstd")
    for wanted in args.history or ["300Mx5", "1Gx3"]:
        size, generations = wanted.split("x")
        needed = bound(history("plain", size, int(generations), args.bin, work), zstd) if zstd else None
        for kind in args.kind or KINDS:
            folders = history(kind, size, int(generations), args.bin, work)
            locked = [HeirloomLocked(args.bin / "heirloom", work)] if kind != "plain" else []
            tools = ours + locked + others
            measure(size, kind, folders, tools, args.runs, work, measured)
            text += table(size, kind, folders, tools, needed, measured)
            (results / "peers.txt").write_text(text)
            if kind != "plain":
                shutil.rmtree(work / "history" / f"{size}-{kind}")
        shutil.rmtree(work / "history" / f"{size}-plain", ignore_errors=True)
    shutil.rmtree(work / "current", ignore_errors=True)
    print(text, end="")


if __name__ == "__main__":
    main()
