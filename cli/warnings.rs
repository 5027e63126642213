//! Warnings about one backup, which do not stop it: the first are said, in JSON all, more are recorded, and all are
//! counted.

use std::cell::RefCell;

use crate::report::{Report, of_many};

/// So many warnings of each backup are said to a person.
const SAID: u64 = 20;
/// So many are kept in its record (SPEC §10).
const RECORDED: usize = 100;

/// The warnings of one backup.
pub struct Warnings<'r> {
    pub report: &'r Report,
    added: RefCell<Added>,
}

#[derive(Default)]
struct Added {
    count: u64,
    recorded: Vec<String>,
}

impl<'r> Warnings<'r> {
    pub fn new(report: &'r Report) -> Warnings<'r> {
        Warnings { report, added: RefCell::default() }
    }

    pub fn add(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let mut added = self.added.borrow_mut();
        added.count += 1;
        if added.count <= SAID || self.report.json {
            self.report.warn(&warning);
        }
        if added.recorded.len() < RECORDED {
            added.recorded.push(warning);
        }
    }

    /// The same, unless it was added before.
    pub fn add_once(&self, warning: &str) {
        let is_known = self.added.borrow().recorded.iter().any(|known| known == warning);
        if !is_known {
            self.add(warning);
        }
    }

    /// Says how many there were that were not said. Returns how many there were, and the first of them.
    pub fn finish(&self) -> (u64, Vec<String>) {
        let Added { count, recorded } = self.added.take();
        if count > SAID && !self.report.json {
            self.report.warn(format_args!("and {} more", of_many(count - SAID, "warning", "warnings")));
        }
        (count, recorded)
    }
}
