//! This computer's clock, whatever it says.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in seconds since 1970; before 1970 it is negative, and beyond all calendars still a number.
pub fn now() -> i64 {
    let seconds = |distance: std::time::Duration| i64::try_from(distance.as_secs()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => seconds(since),
        Err(before) => -seconds(before.duration()),
    }
}
