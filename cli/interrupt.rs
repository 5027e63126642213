//! Ctrl-C: the first stops the work at the next good place, the second at once. Nothing is lost by either: a repository is whole
//! at every moment.

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
