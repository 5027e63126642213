//! Stumbling blocks of newcomers: warnings that nobody counts, words that are typed wrongly, work that is broken off.

mod disks;
mod interrupted;
mod mistyped;
mod warnings;
