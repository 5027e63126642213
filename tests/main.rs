//! What heirloom promises, asked from outside.
//!
//! Each module asks one kind of question, with nothing but the public interface of what it tests.

// What comes in comes out, after any sequence of edits: compared with a plain copy in memory.
mod roundtrip;

// What is left when a run is cut off anywhere, the disk loses what was not synced, or is full.
mod crash;

// What prune deletes, and what it must not, beside others and when it is cut off.
mod prune;

// Whether what is said to be unique to a snapshot is what forgetting it frees.
mod stats;

// Whether what is copied to another repository is the same there, whatever happens on the way.
mod copy;

// Whether processes that write, prune and undelete at once can do harm: every order of their steps.
mod model;

// Whether real processes, at once in one folder and killed at any moment, can be trusted with it.
mod thrash;

// What becomes of a repository on a stick or a share: on disks that behave as those do.
mod filesystems;

// What every kind of damage to every kind of file does: a table.
mod damage;

// What a repair brings back of it: another table.
mod repair;

// Whether what earlier programs wrote is read, gone on with and pruned, and what only a later one can read is refused.
mod repositories;

// What each verb does with what only a newer program knows.
mod newer;

// What is said of a drive, fit or not.
mod doctor;

// Whether somebody who can write to the folder of a repository gets in, or changes it unseen.
mod trust;

// What can be told of a repository, or of a copy of it, without its password.
mod keyless;

// What the program says, how it ends, how snapshots are named.
mod cli;

// What a newcomer stumbles over: warnings, words that are typed wrongly, work that is broken off.
mod newcomer;

// What an import does with whole, damaged and hostile backup folders.
mod import;

// What people reported of other programs: old backups, odd folders and disks, names and passwords as they are typed.
mod reported;

// What becomes of a phone: paired, backed up, restored, and everything that can go wrong with it on the way.
mod phone;

// Whether what the phone encrypted deduplicates, and comes back as the phone encrypted it.
mod sealed;

// How an export ends: broken off, into a folder that is not empty, past links, from a damaged repository.
mod export;

// Disks that fail, folders in memory, histories, a phone on a socket, bytes that do not compress.
mod support;
