#!/usr/bin/env python3
"""Room back from a history of which most is forgotten: heirloom beside restic, and beside a repository that never held anything else.

A simulated phone is backed up every day. Then the rules keep a few days of it, and the rest is pruned, from a copy of the repository each time.
What is kept is compared with the phone's backups of those days, file by file.
"""

import argparse
import datetime
import json
import os
import plistlib
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from compare import ROOT, SEED, Heirloom, Restic, assert_same, head, timed

RULES = ["--keep-daily", "7", "--keep-weekly", "4", "--keep-monthly", "12"]


class Pruned(Heirloom):
    packs = "packs", "trees"

    def backup_at(self, source, time):
        return self.backup(source, None)

    def forget(self, *more):
        return [self.program, "forget", *RULES, *more]

    def prune_with(self, *more):
        return [self.program, "prune", *more]

    def kept(self):
        """The times of the snapshots that the rules keep, and of all."""
        text = subprocess.run([self.program, "--json", *self.forget("--dry-run")[1:]], env=self.whole_env(), capture_output=True, check=True).stdout
        plan = json.loads(text)
        times = lambda rows: [datetime.datetime.fromisoformat(row["time"]).timestamp() for row in rows]
        return times(plan["kept"]), times(plan["kept"] + plan["removed"])

    def restore_at(self, time, target):
        found = json.loads(subprocess.run([self.program, "--json", "snapshots"], env=self.whole_env(), capture_output=True, check=True).stdout)
        return [self.program, "export", next(row["id"] for row in found if datetime.datetime.fromisoformat(row["time"]).timestamp() == time), "--to", target]

    def whole_env(self):
        return os.environ | self.env()

    def env(self):
        return super().env() | {"TZ": "UTC"}


class PrunedRestic(Restic):
    packs = ("data",)

    def backup_at(self, source, time):
        return [self.program, "backup", "-q", "--host", "phone", "--time", f"{datetime.datetime.fromtimestamp(time, datetime.UTC):%Y-%m-%d %H:%M:%S}", source]

    def forget(self, *more):
        return [self.program, "forget", "-q", *RULES, *more]

    def prune_with(self, *more):
        return [self.program, "prune", "-q", *more]

    def kept(self):
        text = subprocess.run([*self.forget("--dry-run"), "--json"], env=self.whole_env(), capture_output=True, check=True).stdout
        [group] = json.loads(text.splitlines()[0])
        kept, removed = ([restic_time(row) for row in group[which] or []] for which in ("keep", "remove"))
        return kept, kept + removed

    def restore_at(self, time, target):
        found = json.loads(subprocess.run([self.program, "snapshots", "--json"], env=self.whole_env(), capture_output=True, check=True).stdout)
        return [self.program, "restore", "-q", next(row["id"] for row in found if restic_time(row) == time), "--target", target]

    whole_env = Pruned.whole_env

    def env(self):
        return super().env() | {"TZ": "UTC"}


def restic_time(row):
    return datetime.datetime.fromisoformat(row["time"][:19] + "+00:00").timestamp()


class Days:
    """The phone's backup folder, day by day."""

    def __init__(self, folder, size, bin):
        shutil.rmtree(folder, ignore_errors=True)
        self.folder, self.size, self.bin = folder, size, bin

    def on(self, day):
        """The folder on a day that comes after those that were asked for, and the time of its backup."""
        command = [self.bin / "heirloom-sim", "write", "--seed", SEED, "--size", self.size, "--days", str(day), self.folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        [source] = self.folder.iterdir()
        date = plistlib.loads((source / "Status.plist").read_bytes())["Date"]
        return source, date.replace(tzinfo=datetime.UTC).timestamp()


def copy_of(tool, work):
    """The tool with a copy of its repository and its home."""
    copy = type(tool)(tool.program, work)
    shutil.rmtree(copy.work, ignore_errors=True)
    copy.work.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-r", tool.work, copy.work], check=True)
    return copy


def pack_bytes(tool):
    return sum(path.stat().st_size for packs in tool.packs for path in (tool.repository / packs).rglob("*") if path.is_file())


def delete_empty_folders(folder):
    """A phone's folder has those that its files have left, according to the days on which it was written."""
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


class Steps:
    """Seconds, processor seconds and peak KiB of each step of each tool, and sizes in bytes."""

    def __init__(self):
        self.usages, self.sizes = {}, {}

    def run(self, tool, step, command):
        self.usages.setdefault((tool.name, step), []).append(timed(tool, command))

    def measure(self, tool, state):
        self.sizes[tool.name, state] = (pack_bytes(tool), tool.bytes())

    def table(self, tools):
        steps, states = list(dict.fromkeys(step for _, step in self.usages)), list(dict.fromkeys(state for _, state in self.sizes))
        lines = ["medians: seconds of wall and of processor, the most memory of any run", f"{'':34}" + "".join(f"{tool.name:>26}" for tool in tools)]
        for step in steps:
            cells = ""
            for tool in tools:
                wall, cpu, peak = zip(*self.usages[tool.name, step])
                cells += f"{statistics.median(wall):9.2f}{statistics.median(cpu):8.2f}{max(peak) / 1024:7.0f} M"
            lines.append(f"{step:34}{cells}")
        lines += ["", "MB of packs, of the whole repository; packs, times those of a repository of the kept days alone"]
        for state in states:
            cells = ""
            for tool in tools:
                packs, whole = self.sizes[tool.name, state]
                cells += f"{packs / 1e6:9.1f}{whole / 1e6:8.1f}{packs / self.sizes[tool.name, 'kept days alone'][0]:9.4f}"
            lines.append(f"{state:34}{cells}")
        return "\n".join(lines) + "\n"


def prune(tool, run, work, steps):
    """Prunes copies; leaves one pruned by default, and one as small as it gets."""
    forgotten = copy_of(tool, work / "forgotten")
    steps.run(forgotten, "forget", forgotten.forget())
    steps.run(forgotten, "prune --dry-run", forgotten.prune_with("--dry-run"))
    for name, more in (("prune", []), ("prune --max-unused 0", ["--max-unused", "0"])):
        pruned = copy_of(forgotten, work / name.replace(" ", ""))
        steps.run(pruned, name, pruned.prune_with(*more))
        steps.measure(pruned, "after " + name)
        if run == 1:
            steps.run(pruned, f"check --read-data after {name}", pruned.check())
    shutil.rmtree(forgotten.work)
    at_once = copy_of(tool, work / "at-once")
    steps.run(at_once, "forget --prune", at_once.forget("--prune"))
    shutil.rmtree(at_once.work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--size", default="100M")
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="with the repositories that an earlier run left in the working folder")
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release", help="heirloom and heirloom-sim")
    parser.add_argument("--tools", type=Path, default=ROOT / "target/peers", help="what tools.sh installed")
    parser.add_argument("--work", type=Path, default=ROOT / "target/prune-work", help="a folder on the disk to measure")
    parser.add_argument("--results", type=Path, help="where the table goes (the working folder if not given)")
    args = parser.parse_args()
    work = args.work.resolve()
    results = args.results or work
    results.mkdir(parents=True, exist_ok=True)
    tools = [Pruned(args.bin / "heirloom", work / "all"), PrunedRestic(args.tools / "bin/restic", work / "all")]
    steps = Steps()
    if not args.again:
        shutil.rmtree(work, ignore_errors=True)
        back_up(tools, Days(work / "phone", args.size, args.bin), range(args.days))
    text = head(tools, [], "benches/peers/prune.py " + " ".join(sys.argv[1:]))
    kept, days = [], {}
    for tool in tools:
        times, every = tool.kept()
        days = {time: day for day, time in enumerate(sorted(every))}
        kept.append(set(times))
        text += f"{tool.name} keeps {len(times)} of {len(every)} snapshots: days {' '.join(str(days[time]) for time in sorted(times))}\n"
        steps.measure(tool, "before")
    for run in range(1, args.runs + 1):
        for tool in tools:
            prune(tool, run, work, steps)

    fresh = [type(tool)(tool.program, work / "fresh") for tool in tools]
    phone = Days(work / "phone-again", args.size, args.bin)
    every = sorted(days[time] for time in set.union(*kept))
    for tool in fresh:
        tool.begin()
    compared = 0
    for day in every:
        source, time = phone.on(day)
        delete_empty_folders(source)
        for tool, of, times in zip(fresh, tools, kept):
            if time not in times:
                continue
            tool.run(tool.backup_at(source, time))
            for name in ("prune", "prune--max-unused0"):
                pruned, target = type(of)(of.program, work / name), work / "restored"
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
                pruned.run(pruned.restore_at(time, target))
                # restic puts it under the path that it had.
                restored = pruned.restored(target, work / "phone" / source.name)
                delete_empty_folders(restored)
                assert_same(source, restored)
                shutil.rmtree(target)
                compared += 1
    for tool in fresh:
        steps.measure(tool, "kept days alone")
    text += f"{compared} exports of kept snapshots after prune are the same as the phone's backups, file by file\n\n" + steps.table(tools)
    (results / "prune.txt").write_text(text)
    print(text, end="")


def back_up(tools, phone, days):
    for tool in tools:
        tool.begin()
    for day in days:
        source, time = phone.on(day)
        for tool in tools:
            tool.run(tool.backup_at(source, time))


if __name__ == "__main__":
    main()
