//! Signals. The first Ctrl-C stops the work at the next good place, the second at once. Nothing is lost by either: a repository is
//! whole at every moment.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::failure::{Exit, Failure, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C asks to stop. To be called after the last question to the person: at a prompt it should just end the program.
pub fn catch() {
    // Without a handler Ctrl-C ends the program, which is safe too.
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted.code().into());
        }
    });
}

/// Makes a file that would grow longer than the system allows (`ulimit -f`) a write that fails, as on a full disk. Without this
/// the program ends there, without a word.
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
