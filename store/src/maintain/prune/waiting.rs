//! Waiting until every computer lists what was written (SPEC §11).

use std::time::Duration;

use crate::{
    error::Result,
    progress::{OnEvent, Progress, heed},
    repository::{core::Core, session::SessionInfo},
    storage::LATE_LISTING,
};

/// How often somebody is told, and may say that it is enough.
const STEP: Duration = Duration::from_millis(100);

/// How late lists may be, here or where one of `others` is: who writes from another computer to a disk of this one has it as a share.
pub(super) fn listing_delay(core: &Core, others: &[SessionInfo]) -> Duration {
    let here = core.storage.listing_delay();
    if others.iter().any(SessionInfo::may_be_elsewhere) { here.max(LATE_LISTING) } else { here }
}

/// Waits so long that every list that begins after it shows what was written before it.
///
/// # Errors
/// [`Error::Interrupted`](crate::Error::Interrupted).
pub(super) fn outwait(core: &Core, delay: Duration, on_event: OnEvent) -> Result<()> {
    let mut left = delay;
    while !left.is_zero() {
        let waiting_seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        heed(on_event(Progress { waiting_seconds, ..Progress::default() }))?;
        // A pause is no shorter than it is asked to be, by a clock that nobody sets.
        let step = left.min(STEP);
        core.storage.pause(step);
        left -= step;
    }
    Ok(())
}
