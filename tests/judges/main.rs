//! Judges: programs, file systems and backups that were not made here, and what becomes of them and of this program together. What they make
//! and take is compared file by file.
//!
//! A test whose judge is not on this computer is counted as ignored, with the reason, and never as passed. `.ci/run` installs all judges.

// What a test needs beyond this project, and how it is found.
mod judge;

// File systems in images, mounted for as long as a test takes.
mod images;

// Other programs on the computer that a phone is attached to, and their backup folders.
mod programs;

// Two backup folders, compared.
mod comparison;

// idevice_id, idevicepair, ideviceinfo, idevicebackup2 on the simulated phone: is it one, for those who know real ones?
mod libimobiledevice;

// The same asked of the other widely used client.
mod pymobiledevice3;

// Whether an encrypted backup of the simulated phone opens with the password and nothing else.
mod iphone_backup_decrypt;

// Whether the data comes out without this program: a second reader in Python extracts a repository.
mod second_reader;

// heirloom and idevicebackup2 on the same phone, and each with what the other made.
mod heirloom;

// What becomes of a repository on a stick: on images of exFAT and FAT that are mounted here.
mod sticks;

// Whether a disk that is full to the last byte can be freed by what is on it.
mod full_disk;

// What a person sees on a terminal: colours, questions, tables that fit.
mod terminal;

// What is left of a real phone's backup, read and imported.
mod real_backup;

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use libtest_mimic::{Arguments, run};

/// The programs wait more than they work.
const THREADS: usize = 4;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let trials = [
        libimobiledevice::trials(),
        pymobiledevice3::trials(),
        iphone_backup_decrypt::trials(),
        second_reader::trials(),
        heirloom::trials(),
        sticks::trials(),
        full_disk::trials(),
        terminal::trials(),
        real_backup::trials(),
    ];
    run(&arguments, trials.into_iter().flatten().collect()).exit();
}
