//! What must be in a repository in which many are at work.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

/// What is known of the snapshots that imports reported as kept. Only one forgets and undeletes; anybody may ask.
#[derive(Default)]
pub struct Ledger(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    snapshots: BTreeMap<String, Page>,
    /// How often somebody began or ended to forget by rules; odd while he does.
    forgetting: u64,
}

#[derive(Default)]
struct Page {
    state: State,
    /// How often the state has changed.
    changes: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Kept,
    /// Somebody may have forgotten or undeleted it.
    InDoubt,
    Forgotten,
}

/// The snapshots that were kept at a moment.
pub struct Moment(BTreeMap<String, u32>);

impl Page {
    fn turn(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.changes += 1;
        }
    }
}

impl Ledger {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap()
    }

    /// What an import is to remember when it begins.
    pub fn begin_import(&self) -> u64 {
        self.pages().forgetting
    }

    /// An import that remembers `begun` has reported a new snapshot.
    pub fn keep(&self, id: &str, begun: u64) {
        let mut pages = self.pages();
        let is_sure = pages.forgetting == begun && begun.is_multiple_of(2);
        let state = if is_sure { State::Kept } else { State::InDoubt };
        // It may have been forgotten before its import could tell of it.
        pages.snapshots.entry(id.to_owned()).or_insert(Page { state, changes: 0 });
    }

    /// Somebody is about to forget or undelete these.
    pub fn doubt(&self, ids: &[String]) {
        let mut pages = self.pages();
        ids.iter().for_each(|id| pages.snapshots.entry(id.clone()).or_default().turn(State::InDoubt));
    }

    /// Somebody is about to forget any of those that are there.
    pub fn doubt_all(&self) {
        let mut pages = self.pages();
        pages.forgetting += 1;
        let kept = pages.snapshots.values_mut().filter(|page| page.state == State::Kept);
        kept.for_each(|page| page.turn(State::InDoubt));
    }

    /// He has ended.
    pub fn doubt_no_more(&self) {
        self.pages().forgetting += 1;
    }

    /// What is to be looked for in a list that is made from now on.
    pub fn in_doubt(&self) -> BTreeSet<String> {
        self.those(State::InDoubt)
    }

    /// Of those that were in doubt before, these are listed; these were reported as forgotten, known or not.
    pub fn settle(&self, in_doubt: &BTreeSet<String>, listed: &BTreeSet<String>, removed: &BTreeSet<String>) {
        let mut pages = self.pages();
        for id in in_doubt.union(removed) {
            let is_kept = listed.contains(id);
            pages.snapshots.entry(id.clone()).or_default().turn(if is_kept { State::Kept } else { State::Forgotten });
        }
    }

    /// What is kept now.
    pub fn now(&self) -> Moment {
        let pages = self.pages();
        let kept = pages.snapshots.iter().filter(|(_, page)| page.state == State::Kept);
        Moment(kept.map(|(id, page)| (id.clone(), page.changes)).collect())
    }

    /// What was kept then and all the time since.
    pub fn since(&self, then: &Moment) -> BTreeSet<String> {
        let now = self.now();
        then.0.iter().filter(|(id, changes)| now.0.get(*id) == Some(changes)).map(|(id, _)| id.clone()).collect()
    }

    /// Those that nobody has forgotten.
    pub fn kept(&self) -> BTreeSet<String> {
        self.those(State::Kept)
    }

    /// Those that are gone.
    pub fn forgotten(&self) -> BTreeSet<String> {
        self.those(State::Forgotten)
    }

    fn those(&self, state: State) -> BTreeSet<String> {
        let pages = self.pages();
        pages.snapshots.iter().filter(|(_, page)| page.state == state).map(|(id, _)| id.clone()).collect()
    }
}

impl Moment {
    /// Their ids.
    pub fn ids(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}
