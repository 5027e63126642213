//! A backup or restore under way, as the person at the terminal sees it: how far it is, what the phone wants, what went
//! wrong.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    env,
    time::Duration,
};

use heirloom_device::mobilebackup2::{Control, Event, Phase, Progress as Transfer, Timeouts, Warning};

use crate::{
    interrupt,
    report::{Progress, Report},
    warnings::Warnings,
};

/// Follows one operation.
pub struct Operation<'o> {
    /// What is done with files, such as `receiving`.
    verb: &'static str,
    report: &'o Report,
    warnings: &'o Warnings<'o>,
    progress: Progress<'o>,
    lost: RefCell<BTreeSet<String>>,
    /// The phone sends its Status.plist last; that is no new beginning.
    is_finishing: Cell<bool>,
}

impl<'o> Operation<'o> {
    pub fn new(verb: &'static str, warnings: &'o Warnings<'o>) -> Operation<'o> {
        let report = warnings.report;
        let progress = report.progress("connecting");
        Operation { verb, report, warnings, progress, lost: RefCell::default(), is_finishing: Cell::new(false) }
    }

    /// Does `work` with a control through which this follows it. `notifications` gives what notification_proxy relays,
    /// where `work` does not ask for it itself.
    pub fn follow<T>(
        &self,
        notifications: &mut dyn FnMut() -> Option<String>,
        work: impl FnOnce(&mut Control<'_>) -> T,
    ) -> T {
        let mut events = |event: Event<'_>| self.hear(event);
        work(&mut Control { cancel: interrupt::flag(), events: &mut events, notifications, timeouts: timeouts() })
    }

    /// The places in the backup of files that the phone could not read.
    pub fn into_lost(self) -> BTreeSet<String> {
        self.lost.into_inner()
    }

    fn hear(&self, event: Event<'_>) {
        match event {
            Event::Phase(_) if self.is_finishing.get() => {}
            Event::Phase(Phase::Preparing) => self.progress.phase("the phone is preparing"),
            Event::Phase(Phase::Transferring) => self.progress.phase(self.verb),
            Event::Phase(Phase::Finishing) => {
                self.is_finishing.set(true);
                self.progress.phase("the phone is finishing");
            }
            Event::Progress(transfer) => self.show(&transfer),
            Event::PasscodePrompt(true) => self.report.note("the phone waits for its passcode: enter it there"),
            Event::PasscodePrompt(false) => {}
            Event::Warning(warning) => self.warn(&warning),
        }
    }

    fn show(&self, Transfer { percent, received, sent, .. }: &Transfer<'_>) {
        let now = heirloom_store::Progress {
            files_done: received.files + sent.files,
            bytes_done: received.bytes + sent.bytes,
            ..Default::default()
        };
        self.progress.update_part(now, percent.map(|percent| percent / 100.0));
    }

    fn warn(&self, warning: &Warning) {
        match warning {
            // These leave nothing out.
            Warning::NewerVersion { .. } | Warning::NothingToMove { .. } => self.report.detail(warning),
            Warning::NoSyncLock { .. } => self.report.note(warning),
            Warning::UnreadableOnPhone { host_path, .. } => {
                self.lost.borrow_mut().insert(place_of(host_path));
                self.warnings.add(warning.to_string());
            }
            warning => self.warnings.add(warning.to_string()),
        }
    }
}

/// How long silence is borne. Tests set the variable: they cannot wait as long as a phone may think.
fn timeouts() -> Timeouts {
    let milliseconds = env::var("HEIRLOOM_TEST_TIMEOUT_MS").ok().and_then(|text| text.parse().ok());
    let time = milliseconds.map(Duration::from_millis);
    time.map_or(Timeouts::default(), |time| Timeouts { handshake: time, operation: time })
}

/// Where a file that the phone sends to `<UDID>/Snapshot/ab/abcd…` lies in the end: `ab/abcd…`.
fn place_of(host_path: &str) -> String {
    let parts: Vec<&str> = host_path.split('/').collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}
