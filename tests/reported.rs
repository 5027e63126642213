//! Reports of people about programs like this one, each case made small. A comment names the kind of report.

mod old_backups;
mod places;
mod typed;
