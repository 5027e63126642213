//! How far some work has come, and whether it is to go on.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::error::{Error, Result};

/// How far some work has come; totals are zero while they are unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files so far.
    pub files_done: u64,
    /// Files in all.
    pub files_total: u64,
    /// Bytes so far.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// For how many seconds more nothing is done but wait until other computers see what was written.
    pub waiting_seconds: u64,
}

/// What is called while work goes on; `Break` ends it with [`Error::Interrupted`].
pub type OnEvent<'a> = &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync);

/// Fails if one who was told says to stop.
pub(crate) fn heed(said: ControlFlow<()>) -> Result<()> {
    match said {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    }
}

/// Tells of files that are done with on any thread.
pub(crate) struct Tally<'a> {
    on_event: OnEvent<'a>,
    files_total: u64,
    bytes_total: u64,
    files_done: AtomicU64,
    bytes_done: AtomicU64,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(files_total: u64, bytes_total: u64, on_event: OnEvent<'a>) -> Tally<'a> {
        Tally { on_event, files_total, bytes_total, files_done: AtomicU64::new(0), bytes_done: AtomicU64::new(0) }
    }

    /// One more, of `len` bytes.
    pub(crate) fn pass(&self, len: u64) -> Result<()> {
        let &Tally { on_event, files_total, bytes_total, .. } = self;
        let files_done = self.files_done.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes_done = self.bytes_done.fetch_add(len, Ordering::Relaxed) + len;
        heed(on_event(Progress { files_done, files_total, bytes_done, bytes_total, ..Progress::default() }))
    }
}
