//! Signals. The first Ctrl-C stops the work at the next good place, the second at once. Before the work, and at a
//! question, the first ends the program. Nothing is lost by any: a repository is whole at every moment.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::failure::{Exit, Failure, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);
/// Whether there is work that looks whether it should stop.
static IS_AT_WORK: AtomicBool = AtomicBool::new(false);
/// Whether a question waits for its answer, and looks as well.
static IS_ASKING: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C asks the work to stop.
pub fn catch() {
    IS_AT_WORK.store(true, Ordering::Relaxed);
    handle();
}

/// Until the value is dropped, Ctrl-C asks a question to stop.
pub fn asking() -> Asking {
    IS_ASKING.store(true, Ordering::Relaxed);
    handle();
    Asking
}

/// A question that waits for its answer.
pub struct Asking;

impl Drop for Asking {
    fn drop(&mut self) {
        IS_ASKING.store(false, Ordering::Relaxed);
    }
}

fn handle() {
    // Without a handler Ctrl-C ends the program, which is safe too. The second time there is one already.
    let _ = ctrlc::set_handler(|| {
        let is_heard = IS_AT_WORK.load(Ordering::Relaxed) && !REQUESTED.load(Ordering::Relaxed);
        if is_heard || IS_ASKING.load(Ordering::Relaxed) {
            REQUESTED.store(true, Ordering::Relaxed);
        } else {
            std::process::exit(Exit::Interrupted.code().into());
        }
    });
}

/// Makes a file that would grow longer than the system allows (`ulimit -f`) a write that fails, as on a full disk.
/// Without this the program ends there, without a word.
pub fn outlive_file_size_limit() {
    // Nobody reads the flag: it is enough that somebody handles the signal.
    #[cfg(unix)]
    let _ = signal_hook::flag::register(libc::SIGXFSZ, std::sync::Arc::default());
}

/// Whether the work should stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Whether the work is to go on, as the store asks.
pub fn go_on() -> ControlFlow<()> {
    if requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// True once the work should stop.
pub fn flag() -> &'static AtomicBool {
    &REQUESTED
}

/// Fails if the work should stop.
pub fn check() -> Result<()> {
    if requested() { Err(Failure::interrupted()) } else { Ok(()) }
}
