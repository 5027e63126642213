//! Listings that are served late: each computer sees for a minute no file that another has just created or deleted in a folder on which the protocol rests.
//!
//! Time is the place's own. It passes while a prune waits, and then others are at work.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use heirloom_store::{Error, SnapshotEditor, check_packs_without_key};

use super::{
    beside::{begin, end, folder_like_forgotten},
    *,
};

const LATE_FOLDERS: [&str; 5] = ["sessions", "gc", "snapshots", "parked", "trash"];
/// How late listings are.
const LATE: Duration = Duration::from_secs(60);
/// How late a client takes them for.
const DELAY: Duration = Duration::from_secs(61);

/// Done once, at its time.
type Deed = Box<dyn FnOnce() + Send>;

/// A disk that several computers have as a share.
#[derive(Default)]
struct Place {
    files: Arc<MemoryStorage>,
    now: Mutex<Duration>,
    changes: Mutex<Vec<Change>>,
    due: Mutex<Vec<(Duration, Deed)>>,
}

/// A file that one of them has created or deleted.
struct Change {
    at: Duration,
    by: u8,
    file: String,
    was_there: bool,
}

/// The view that one of them has of it.
struct Client {
    place: Arc<Place>,
    number: u8,
    late_folders: Vec<&'static str>,
}

impl Place {
    fn of(files: &Files) -> Arc<Place> {
        Arc::new(Place { files: storage_of(files), ..Place::default() })
    }

    fn client(self: &Arc<Place>, number: u8) -> Arc<Client> {
        self.client_of(number, &LATE_FOLDERS)
    }

    /// One that sees these folders late.
    fn client_of(self: &Arc<Place>, number: u8, late_folders: &[&'static str]) -> Arc<Client> {
        Arc::new(Client { place: self.clone(), number, late_folders: late_folders.to_vec() })
    }

    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }

    /// Has something happen when so many seconds have passed.
    fn after(&self, seconds: u64, what: impl FnOnce() + Send + 'static) {
        let at = self.now() + Duration::from_secs(seconds);
        self.due.lock().unwrap().push((at, Box::new(what)));
    }

    fn pass(&self, time: Duration) {
        let until = self.now() + time;
        loop {
            let mut due = self.due.lock().unwrap();
            due.sort_by_key(|(at, _)| *at);
            if due.first().is_none_or(|(at, _)| *at > until) {
                break;
            }
            let (at, what) = due.remove(0);
            drop(due);
            let at = at.max(self.now());
            *self.now.lock().unwrap() = at;
            what();
        }
        // What happened may have taken longer.
        let mut now = self.now.lock().unwrap();
        *now = until.max(*now);
    }
}

impl Client {
    fn note(&self, file: &str, was_there: bool) {
        let change = Change { at: self.place.now(), by: self.number, file: file.to_owned(), was_there };
        self.place.changes.lock().unwrap().push(change);
    }

    fn has(&self, file: &str) -> bool {
        self.place.files.files().contains_key(file)
    }
}

impl Storage for Client {
    fn put(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        if !self.has(name) {
            self.note(name, false);
        }
        self.place.files.put(name, content)
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
        self.place.files.read(name, offset, len)
    }

    fn list(&self, folder: &str) -> std::io::Result<Vec<(String, u64)>> {
        let mut listed: BTreeMap<String, u64> = self.place.files.list(folder)?.into_iter().collect();
        let now = self.place.now();
        let is_unseen = |change: &&Change| change.by != self.number && change.at + LATE > now;
        let changes = self.place.changes.lock().unwrap();
        for change in changes.iter().rev().filter(is_unseen).filter(|_| self.late_folders.contains(&folder)) {
            let Some(name) = change.file.strip_prefix(&format!("{folder}/")) else { continue };
            match change.was_there {
                true => listed.insert(name.to_owned(), 1),
                false => listed.remove(name),
            };
        }
        Ok(listed.into_iter().collect())
    }

    fn delete(&self, name: &str) -> std::io::Result<()> {
        if self.has(name) {
            self.note(name, true);
        }
        self.place.files.delete(name)
    }

    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn listing_delay(&self) -> Duration {
        DELAY
    }

    fn pause(&self, time: Duration) {
        self.place.pass(time);
    }
}

/// A prune, and a backup beside it that relies on what the prune would delete: it begins and ends so many seconds after the prune, or 5 seconds before it.
fn beside_a_late_prune(story: &Story, begins: Option<u64>, ends: u64) -> Result<Snapshot> {
    let place = Place::of(&story.after_forgetting());
    let (folder, writer) = (folder_like_forgotten(story), place.client(1));
    let editor: Arc<Mutex<Option<SnapshotEditor>>> = Arc::default();
    let (to, of) = (editor.clone(), folder.clone());
    let begin_it = move || *to.lock().unwrap() = Some(begin(&writer, &of));
    match begins {
        Some(seconds) => place.after(seconds, begin_it),
        None => {
            begin_it();
            place.pass(Duration::from_secs(5));
        }
    }
    let ended: Arc<Mutex<Option<Result<Snapshot>>>> = Arc::default();
    let (to, of) = (ended.clone(), folder.clone());
    place.after(ends, move || {
        let begun = editor.lock().unwrap().take().unwrap();
        *to.lock().unwrap() = Some(end(begun, &of));
    });
    let context = format!("begun at {begins:?}, ended at {ends}");
    let outcome = open(&place.client(2)).prune(&thorough(), &go_on);
    outcome.unwrap_or_else(|error| panic!("{context}: {error}"));
    place.pass(Duration::from_secs(9999));
    let ended = ended.lock().unwrap().take().unwrap();
    let mut kept = story.kept.clone();
    kept.extend(ended.as_ref().ok().map(|snapshot| (snapshot.clone(), folder)));
    assert_whole(&open(&place.files), &kept, &context);
    prune(&open(&place.files), &thorough());
    assert_whole(&open(&place.files), &kept, &format!("{context}, pruned once more"));
    ended
}

#[test]
fn backup_that_is_listed_late_is_kept() {
    let story = Story::new(&OPTIONS);
    for ends in [0, 1, 30, 56, 60, 62, 90, 121, 124, 300] {
        let kept = beside_a_late_prune(&story, None, ends);
        assert!(kept.is_ok(), "ended at {ends}: {:?}", kept.map(drop));
    }
}

#[test]
fn backup_that_reads_a_mark_late_is_whole_or_fails() {
    let story = Story::new(&OPTIONS);
    let (mut whole, mut failed) = (0, 0);
    for (begins, ends) in
        [(1, 2), (1, 59), (1, 61), (1, 100), (1, 123), (1, 500), (59, 60), (59, 122), (59, 124), (80, 200)]
    {
        match beside_a_late_prune(&story, Some(begins), ends) {
            Ok(_) => whole += 1,
            Err(Error::Overtaken) => failed += 1,
            Err(error) => panic!("{begins} {ends}: {error}"),
        }
    }
    assert!(whole > 5, "{whole} were whole, {failed} were not");
}

#[test]
fn prunes_that_list_each_other_late_lose_nothing() {
    let story = Story::new(&OPTIONS);
    for begins in [0, 1, 30, 59, 61, 62, 100, 121, 122] {
        let place = Place::of(&story.after_forgetting());
        let other = place.client(1);
        place.after(begins, move || match open(&other).prune(&thorough(), &go_on) {
            Ok(_) | Err(Error::Busy { .. }) => {}
            Err(error) => panic!("{error}"),
        });
        open(&place.client(2)).prune(&thorough(), &go_on).unwrap();
        place.pass(Duration::from_secs(9999));
        assert_whole(&open(&place.files), &story.kept, &format!("begun at {begins}"));
    }
}

#[test]
fn prune_waits_only_where_lists_are_late() {
    let story = Story::new(&OPTIONS);
    let place = Place::of(&story.after_forgetting());
    let told = AtomicUsize::new(0);
    let outcome = open(&place.client(1)).prune(&thorough(), &|now| {
        told.fetch_add(usize::from(now.waiting_seconds > 0), Relaxed);
        go_on(now)
    });
    assert!(outcome.unwrap().deleted_packs > 0);
    assert!(place.now() >= 2 * DELAY && place.now() < 3 * DELAY, "{:?}", place.now());
    assert!(told.into_inner() > 100);
    let before = place.now();
    assert_eq!(prune(&open(&place.client(1)), &thorough()).deleted_packs, 0);
    assert_eq!(place.now(), before, "nothing is to go");
}

#[test]
fn prune_that_waits_can_be_interrupted() {
    let story = Story::new(&OPTIONS);
    let place = Place::of(&story.after_forgetting());
    let outcome = open(&place.client(1)).prune(&thorough(), &|now| match now.waiting_seconds {
        1..30 => std::ops::ControlFlow::Break(()),
        _ => go_on(now),
    });
    assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
    let names: Vec<String> = place.files.files().keys().filter(|name| name.starts_with("sessions/")).cloned().collect();
    assert_eq!(names, [""; 0]);
    let kept: Kept = story.kept.to_vec();
    assert_whole(&open(&place.files), &kept, "interrupted");
    for (snapshot, _) in &story.forgotten {
        place.pass(DELAY);
        open(&place.client(1)).undelete(snapshot).unwrap();
    }
}

#[test]
fn late_list_of_segments_is_outwaited() {
    let story = Story::new(&OPTIONS);
    for without_key in [false, true] {
        let place = Place::of(&story.after_forgetting());
        prune(&open(&place.client(1)), &thorough());
        let (reader, before) = (place.client_of(2, &["index"]), place.now());
        if without_key {
            let found = [reader, place.client(1)].map(|client| check_packs_without_key(&*client, &go_on).unwrap());
            assert!(found[0].is_whole() && found[0].keyless == found[1].keyless, "{found:?}");
        } else {
            assert_whole(&open(&reader), &story.kept, "its list is late");
        }
        assert!(place.now() > before && place.now() <= before + DELAY, "{:?} since {before:?}", place.now());
    }
}
