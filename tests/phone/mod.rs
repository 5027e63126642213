//! A phone on its cable: the program and a simulated phone, which is strict, with a socket between them.

// Paired, backed up day by day, restored.
mod story;

// Backups that the phone encrypts.
mod encryption;

// Everything that can go wrong on the phone's side: a table.
mod faults;

// Everything that can go wrong on this side: the disk, a kill, Ctrl-C, damage.
mod host;

// Phones that are not there, do not trust, or are several.
mod reach;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const INCOMPLETE: i32 = 3;
const NO_DEVICE: i32 = 20;
const NOT_TRUSTED: i32 = 21;
const REFUSED: i32 = 22;
const WRONG_BACKUP_PASSWORD: i32 = 23;
const DAMAGE: i32 = 30;
const INTERRUPTED: i32 = 130;
