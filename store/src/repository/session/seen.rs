//! Those who were seen at work for so long that they cannot be any more (SPEC §11).
//!
//! An observation counts the time since the one before it that this computer has surely run meanwhile. Within one run of the system its clock tells that,
//! which only runs forwards and stands while the computer sleeps; where it is not known, or is another, the time of day does, which may have been set to
//! anything. So an observation counts for little, and many are needed: no jump of a clock, and no long sleep, makes seven days of one.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

use super::{SessionInfo, delete, read_sessions};
use crate::{
    clock::unix_seconds,
    error::Result,
    private,
    repository::{core::Core, machine::Process},
};

/// In the cache folder of a repository at a place.
const SEEN_FILE: &str = "sessions";
const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;
/// No backup takes a week.
const SILENT_SECONDS: i64 = 7 * DAY;
/// One observation counts at most this, by the clock of one run of the system, and by the time of day.
const STEP_MAX: i64 = DAY;
const UNSURE_STEP_MAX: i64 = HOUR;

/// When something was observed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// The run of the system; empty where that is not known.
    boot: String,
    /// How long it has run then, in seconds.
    running: i64,
    /// The time of day, in seconds since 1970.
    time: i64,
}

/// The sessions of the last observation, and how long each was seen by then, in seconds.
#[derive(Default, Serialize, Deserialize)]
struct Seen {
    at: Moment,
    sessions: BTreeMap<String, i64>,
}

impl Moment {
    pub(crate) fn now() -> Moment {
        let running = running_seconds();
        let boot = running.and_then(|_| Process::this().boot().map(str::to_owned));
        Moment { boot: boot.unwrap_or_default(), running: running.unwrap_or(0), time: unix_seconds() }
    }

    /// Returns the seconds that an observation now counts after one at `earlier`.
    fn counts_after(&self, earlier: &Moment) -> i64 {
        if !self.boot.is_empty() && self.boot == earlier.boot {
            self.running.saturating_sub(earlier.running).clamp(0, STEP_MAX)
        } else {
            self.time.saturating_sub(earlier.time).clamp(0, UNSURE_STEP_MAX)
        }
    }
}

/// How long the system has run awake since it was started, if it tells.
#[cfg(target_os = "linux")]
fn running_seconds() -> Option<i64> {
    Some(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec)
}

#[cfg(not(target_os = "linux"))]
fn running_seconds() -> Option<i64> {
    None
}

/// Ends the sessions that this computer has seen for seven days by its own watching, which is in the folder `cache`, and gives those. No clocks of two
/// machines are compared.
pub(crate) fn end_long_seen(core: &Core, cache: &Path, now: &Moment) -> Result<Vec<SessionInfo>> {
    let path = cache.join(SEEN_FILE);
    let before = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Seen>(&bytes).ok()).unwrap_or_default();
    let step = now.counts_after(&before.at);
    let seen_for =
        |session: &SessionInfo| before.sessions.get(&session.id).map_or(0, |seconds| seconds.saturating_add(step));
    let (ended, watched): (Vec<_>, Vec<_>) =
        read_sessions(core)?.into_iter().partition(|session| seen_for(session) >= SILENT_SECONDS);
    ended.iter().try_for_each(|session| delete(core, &session.id))?;
    let sessions = watched.iter().map(|session| (session.id.clone(), seen_for(session))).collect();
    // A time of day counts only where it is later than any before it: a clock that is set to and fro passes each time once.
    let at = Moment { time: now.time.max(before.at.time), ..now.clone() };
    // What is not kept is seen for the first time again.
    if let Ok(bytes) = serde_json::to_vec(&Seen { at, sessions }) {
        let _ = private::create_folder(cache).and_then(|()| private::write(&path, &bytes));
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{MemoryStorage, Options, Repository, repository::session::Session};

    /// Counts how many observations it takes until a session is ended, of at most `most`, the moments being those of `at`.
    fn observations_until_the_end(most: i64, at: impl Fn(i64) -> Moment) -> Option<i64> {
        let (repository, _) =
            Repository::create(Arc::new(MemoryStorage::default()), None, &Options::default()).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let session = Session::begin(repository.core()).unwrap();
        let ends = |n: &i64| !end_long_seen(repository.core(), cache.path(), &at(*n)).unwrap().is_empty();
        let found = (1..=most).find(ends);
        assert_eq!(session.is_there().unwrap(), found.is_none());
        found
    }

    fn running(seconds: i64) -> Moment {
        Moment { boot: "one".to_owned(), running: seconds, time: 0 }
    }

    fn by_day(time: i64) -> Moment {
        Moment { time, ..Moment::default() }
    }

    #[test]
    fn session_that_was_seen_for_seven_days_is_ended() {
        assert_eq!(observations_until_the_end(99, |n| running(n * DAY)), Some(8));
        assert_eq!(observations_until_the_end(999, |n| running(n * HOUR)), Some(7 * 24 + 1));
        assert_eq!(observations_until_the_end(999, |n| by_day(n * HOUR)), Some(7 * 24 + 1));
    }

    #[test]
    fn few_observations_far_apart_are_not_seven_days() {
        assert_eq!(observations_until_the_end(7, |n| running(n * 365 * DAY)), None);
        assert_eq!(observations_until_the_end(7 * 24, |n| by_day(n * 365 * DAY)), None);
    }

    #[test]
    fn clock_that_jumps_ends_nobody() {
        let jumps: [fn(i64) -> Moment; 5] = [
            |n| by_day([0, i64::MAX, i64::MIN, 5][n as usize % 4]),
            |n| by_day(-n * DAY),
            |n| Moment { time: n * 365 * DAY, ..running(n) },
            |n| Moment { time: -n * DAY, ..running(n) },
            // The computer is started anew each time, with another time of day.
            |n| Moment { boot: n.to_string(), running: 9 * DAY, time: [n, 99 * DAY][n as usize % 2] },
        ];
        for (number, at) in jumps.into_iter().enumerate() {
            assert_eq!(observations_until_the_end(999, at), None, "number {number}");
        }
    }

    #[test]
    fn computer_that_sleeps_counts_nothing() {
        assert_eq!(observations_until_the_end(99, |n| Moment { time: n * DAY, ..running(1) }), None);
    }

    #[test]
    fn moments_of_this_computer_follow_one_another() {
        let first = Moment::now();
        assert!((0..HOUR).contains(&Moment::now().counts_after(&first)));
        assert_eq!(first.boot.is_empty(), !cfg!(target_os = "linux"));
    }
}
