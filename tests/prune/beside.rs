//! Others beside a prune: what they do happens before any one of its changes, in one process and in an order that is always the same.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use heirloom_store::{Entry, Error, Kind, Name, SnapshotWriter};

use super::*;
use crate::support::{
    beside::{Moments, beside},
    faulty_storage::{Fault, FaultyStorage, Torn},
};

/// A prune on `disk`, and `other` before its change number `at`; gives what the latter gives, or nothing if there are fewer changes.
fn beside_a_prune<T: Send + 'static>(
    disk: &Arc<MemoryStorage>,
    at: usize,
    other: impl FnOnce() -> T + Send + 'static,
) -> (Result<PruneOutcome>, Option<T>) {
    beside(disk, Moments::Changes, at, |repository| repository.prune(&thorough(), &go_on), other)
}

/// What happens at every change of a prune, each time on a disk of its own on which two snapshots are forgotten, until `each` says that there was none.
fn at_every_change(story: &Story, mut each: impl FnMut(Arc<MemoryStorage>, usize) -> bool) {
    let files = story.after_forgetting();
    let mut at = 0;
    while each(storage_of(&files), at) {
        at += 1;
    }
    // A prune that waits for somebody makes nine.
    assert!(at > 8, "{at} changes are too few to be of interest");
}

/// One more prune, for which nobody is at work: it waits for nobody, and leaves nothing but what is kept.
#[track_caller]
fn assert_whole_after_one_more(disk: &Arc<MemoryStorage>, kept: &Kept, context: &str) {
    assert_whole_but_for_spares(disk, kept, context);
    let in_folder = |folder| disk.list(folder).unwrap();
    assert_eq!(in_folder("spares"), in_folder("snapshots"), "{context}");
}

#[track_caller]
fn assert_whole_but_for_spares(disk: &Arc<MemoryStorage>, kept: &Kept, context: &str) {
    let repository = open(disk);
    assert_whole(&repository, kept, context);
    let outcome = prune(&repository, &thorough());
    assert_eq!(outcome.waiting_packs, 0, "{context}");
    assert_whole(&repository, kept, &format!("{context}, pruned once more"));
    let files = disk.files().clone();
    let is_left = |name: &&String| ["gc/", "trash/", "sessions/"].iter().any(|of| name.starts_with(of));
    assert_eq!(files.keys().find(is_left), None, "{context}");
    let (is, fresh) = (pack_bytes(&files), bytes_of_fresh(kept));
    assert!(is as f64 <= fresh as f64 * 1.15, "{context}: {is} bytes for {fresh}");
}

/// What reuses much of a snapshot that is forgotten, and has something of its own.
pub(super) fn folder_like_forgotten(story: &Story) -> Folder {
    folder_like(&story.forgotten[0].1)
}

fn folder_like(other: &Folder) -> Folder {
    let mut folder = other.clone();
    folder.extend(folder_of([("of its own".to_owned(), noise(600, 90_000), 600)]));
    folder
}

/// Begins a backup of a third device, and writes the first half of it.
pub(super) fn begin<S: Storage + 'static>(disk: &Arc<S>, folder: &Folder) -> SnapshotEditor {
    let mut editor = open(disk).edit("third", None).unwrap();
    write(&mut editor, &Folder::new(), &halves_of(folder).0).unwrap();
    editor
}

/// Writes the other half, and commits.
pub(super) fn end(mut editor: SnapshotEditor, folder: &Folder) -> Result<Snapshot> {
    write(&mut editor, &Folder::new(), &halves_of(folder).1)?;
    Ok(editor.commit(Details::new(9, Source::Device))?.0)
}

fn halves_of(folder: &Folder) -> (Folder, Folder) {
    folder.clone().into_iter().partition(|(path, _)| path.len() % 2 == 0)
}

#[test]
fn a_backup_at_any_moment_of_a_prune_is_whole() {
    let story = Story::new(&OPTIONS);
    let folder = folder_like_forgotten(&story);
    at_every_change(&story, |disk, at| {
        let (to, of) = (disk.clone(), folder.clone());
        let back_up = move || end(begin(&to, &of), &of).unwrap();
        let outcome = is_whole_if(back_up, &story, &folder, &disk, at);
        let has_freed = |outcome: &PruneOutcome| outcome.deleted_packs > 0;
        assert!(outcome.as_ref().is_none_or(has_freed), "before change {at}: {outcome:?}");
        outcome.is_some()
    });
}

/// What is forgotten can be undeleted until a prune deletes it, even if it came while the prune was at work.
#[test]
fn a_backup_that_is_made_and_forgotten_at_any_moment_of_a_prune_can_be_undeleted() {
    let story = Story::new(&OPTIONS);
    let folder = folder_like_forgotten(&story);
    at_every_change(&story, |disk, at| {
        let (to, of) = (disk.clone(), folder.clone());
        let make_and_forget = move || {
            let snapshot = end(begin(&to, &of), &of).unwrap();
            open(&to).forget(std::slice::from_ref(&snapshot)).unwrap();
            snapshot
        };
        let (outcome, snapshot) = beside_a_prune(&disk, at, make_and_forget);
        let context = format!("before change {at}");
        outcome.unwrap_or_else(|error| panic!("{context}: {error}"));
        let Some(snapshot) = snapshot else { return false };
        let mut kept = story.kept.clone();
        match open(&disk).undelete(&snapshot) {
            Ok(()) => kept.push((snapshot, folder.clone())),
            Err(Error::SnapshotGone { .. }) => {}
            Err(error) => panic!("{context}: {error}"),
        }
        assert_whole_after_one_more(&disk, &kept, &context);
        true
    });
}

/// It ends after the prune, and the prune waits for it if it may rely on what goes.
#[test]
fn a_backup_that_begins_at_any_moment_of_a_prune_is_whole_when_it_ends_after_it() {
    let story = Story::new(&OPTIONS);
    let folder = folder_like_forgotten(&story);
    let (mut waited, mut deleted) = (0, 0);
    at_every_change(&story, |disk, at| {
        let (to, of) = (disk.clone(), folder.clone());
        let (outcome, editor) = beside_a_prune(&disk, at, move || begin(&to, &of));
        let context = format!("begun before change {at}");
        let outcome = outcome.unwrap_or_else(|error| panic!("{context}: {error}"));
        let Some(editor) = editor else { return false };
        assert_eq!(outcome.waiting_packs > 0, !outcome.waits_for.is_empty(), "{context}: {outcome:?}");
        waited += u32::from(outcome.waiting_packs > 0);
        deleted += u32::from(outcome.deleted_packs > 0);
        let snapshot = end(editor, &folder).unwrap_or_else(|error| panic!("{context}: {error}"));
        let kept: Kept = story.kept.iter().cloned().chain([(snapshot, folder.clone())]).collect();
        assert_whole_after_one_more(&disk, &kept, &context);
        true
    });
    assert!(waited > 3 && deleted > 10, "{waited} prunes waited, {deleted} did not");
}

#[test]
fn a_backup_that_ends_at_any_moment_of_a_prune_is_whole() {
    let story = Story::new(&OPTIONS);
    let folder = folder_like_forgotten(&story);
    at_every_change(&story, |disk, at| {
        let (editor, of) = (begin(&disk, &folder), folder.clone());
        let back_up = move || end(editor, &of).unwrap();
        is_whole_if(back_up, &story, &folder, &disk, at).is_some()
    });
}

/// A prune before whose change `at` the `folder` is backed up, if it makes so many; all is whole then.
fn is_whole_if(
    back_up: impl FnOnce() -> Snapshot + Send + 'static,
    story: &Story,
    folder: &Folder,
    disk: &Arc<MemoryStorage>,
    at: usize,
) -> Option<PruneOutcome> {
    let (outcome, snapshot) = beside_a_prune(disk, at, back_up);
    let context = format!("before change {at}");
    let outcome = outcome.unwrap_or_else(|error| panic!("{context}: {error}"));
    let kept: Kept = story.kept.iter().cloned().chain([(snapshot?, folder.clone())]).collect();
    assert_whole_after_one_more(disk, &kept, &context);
    Some(outcome)
}

#[test]
fn one_who_was_there_before_a_prune_holds_up_only_what_may_be_his() {
    let story = Story::new(&OPTIONS);
    let folder = folder_like_forgotten(&story);
    let disk = storage_of(&story.after_forgetting());
    let editor = begin(&disk, &folder);
    let repository = open(&disk);
    let first = prune(&repository, &thorough());
    assert!(first.waiting_packs > 0 && first.waits_for.len() == 1 && first.deleted_packs == 0, "{first:?}");
    assert_eq!(first.trash, 0, "what he holds up can be undeleted");
    assert_whole(&repository, &story.kept, "while he works");
    // Who begins after the mark holds up nothing that it names.
    let later = open(&disk).edit("fourth", None).unwrap();
    let snapshot = end(editor, &folder).unwrap();
    let second = prune(&repository, &thorough());
    assert!(second.deleted_packs >= first.waiting_packs && second.waiting_packs == 0, "{second:?}");
    drop(later);
    let kept: Kept = story.kept.iter().cloned().chain([(snapshot, folder)]).collect();
    assert_whole_after_one_more(&disk, &kept, "when he has ended");
}

/// Whoever wrote it would have to write it anew.
#[test]
fn what_may_be_of_a_backup_at_work_is_not_marked() {
    let story = Story::new(&OPTIONS);
    let disk = storage_of(&story.after_forgetting());
    prune(&open(&disk), &thorough());
    let others = folder_of([("of its own".to_owned(), noise(600, 90_000), 600)]);
    let snapshot = back_up(&open(&disk), &Kept::new(), "third", &others, 9).unwrap();
    let record = format!("/{}", snapshot.id);
    disk.files().retain(|name, _| !name.ends_with(&record));
    let editor = begin(&disk, &others);
    let outcome = prune(&open(&disk), &thorough());
    assert_eq!((outcome.waiting_packs, outcome.deleted_packs), (0, 0), "{outcome:?}");
    drop(editor);
    assert!(prune(&open(&disk), &thorough()).deleted_packs > 0, "nobody is at work");
    assert_whole_after_one_more(&disk, &story.kept, "when it has ended");
}

#[test]
fn what_is_forgotten_or_undeleted_at_any_moment_of_a_prune_is_gone_or_whole() {
    let story = Story::new(&OPTIONS);
    for parity in [false, true] {
        let story = Story::new(&Options { parity, ..OPTIONS });
        let mut undeleted = 0;
        at_every_change(&story, |disk, at| {
            let context = format!("parity {parity}, undeleted before change {at}");
            let (to, gone) = (disk.clone(), story.forgotten[0].clone());
            let of = gone.0.clone();
            let (outcome, result) = beside_a_prune(&disk, at, move || open(&to).undelete(&of));
            outcome.unwrap_or_else(|error| panic!("{context}: {error}"));
            let Some(result) = result else { return false };
            let mut kept = story.kept.clone();
            match result {
                Ok(()) => {
                    undeleted += 1;
                    kept.push(gone);
                }
                Err(Error::Busy { .. } | Error::SnapshotGone { .. }) => {}
                Err(error) => panic!("{context}: {error}"),
            }
            assert_whole_after_one_more(&disk, &kept, &context);
            true
        });
        assert_eq!(undeleted, 1, "all but the first change are made by one who says that he prunes");
    }
    at_every_change(&story, |disk, at| {
        let to = disk.clone();
        let of = snapshots_of(&story.kept)[..1].to_vec();
        let (outcome, result) = beside_a_prune(&disk, at, move || open(&to).forget(&of).unwrap());
        outcome.unwrap_or_else(|error| panic!("forgotten before change {at}: {error}"));
        let kept: Kept = story.kept[1..].to_vec();
        if result.is_some() {
            assert_whole_after_one_more(&disk, &kept, &format!("forgotten before change {at}"));
        }
        result.is_some()
    });
}

/// Somebody was cut off while he forgot a snapshot: its record is in both folders.
#[test]
fn copy_left_in_the_trash_goes_and_the_record_never() {
    let story = Story::new(&OPTIONS);
    let (snapshot, _) = story.kept[0].clone();
    let [record, copy] = ["snapshots", "trash"].map(|folder| format!("{folder}/{}", snapshot.id));
    let with_copy = || {
        let disk = storage_of(&story.after_forgetting());
        let bytes = disk.files()[&record].clone();
        disk.put(&copy, &bytes).unwrap();
        disk
    };
    let disk = with_copy();
    let is_forgotten = |disk: &Arc<MemoryStorage>| open(disk).trash().unwrap().snapshots.contains(&snapshot);
    assert!(!is_forgotten(&disk), "it is a snapshot");
    assert_whole(&open(&disk), &story.kept, "with a copy in the trash");
    prune(&open(&disk), &thorough());
    assert!(!disk.files().contains_key(&copy));
    assert_whole_after_one_more(&disk, &story.kept, "pruned");

    let mut put_back = 0;
    for at in 0.. {
        let disk = with_copy();
        let (to, of) = (disk.clone(), snapshot.clone());
        let (outcome, forgotten) = beside_a_prune(&disk, at, move || open(&to).forget(&[of]));
        let Some(forgotten) = forgotten else { break };
        forgotten.unwrap();
        // One that was forgotten before the prune looked is gone with the others.
        let is_pruned = outcome.unwrap().trash as usize > story.forgotten.len();
        assert!(is_pruned != is_forgotten(&disk), "forgotten before change {at}");
        if !is_pruned {
            put_back += 1;
            open(&disk).undelete(&snapshot).unwrap();
            assert_whole_after_one_more(&disk, &story.kept, &format!("forgotten before change {at}"));
        }
    }
    assert!(put_back > 5, "{put_back}");
}

#[test]
fn of_two_prunes_the_second_is_told_that_the_first_is_at_work() {
    let story = Story::new(&OPTIONS);
    let mut busy = 0;
    at_every_change(&story, |disk, at| {
        let to = disk.clone();
        let (outcome, second) = beside_a_prune(&disk, at, move || open(&to).prune(&thorough(), &go_on));
        outcome.unwrap();
        match &second {
            Some(Err(Error::Busy { session })) => {
                assert!(session.contains(&std::process::id().to_string()), "{session}");
                busy += 1;
            }
            // Before the first has announced itself, or when it is done.
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("before change {at}: {error}"),
            None => {}
        }
        assert_whole_after_one_more(&disk, &story.kept, &format!("before change {at}"));
        second.is_some()
    });
    assert!(busy > 20, "{busy}");
}

/// Stopped between two changes, as by a key: the session ends, and nothing else is done.
#[test]
fn after_a_prune_that_was_interrupted_anywhere_what_it_had_not_deleted_can_be_undeleted() {
    let (mut behind_mark, mut told) = (0, 0);
    for parity in [false, true] {
        let story = Story::new(&Options { parity, ..OPTIONS });
        for stop in 0.. {
            let disk = storage_of(&story.after_forgetting());
            let events = AtomicUsize::new(0);
            let outcome = open(&disk).prune(&thorough(), &|progress| {
                if events.fetch_add(1, Relaxed) == stop { std::ops::ControlFlow::Break(()) } else { go_on(progress) }
            });
            match outcome {
                Ok(_) => break,
                Err(Error::Interrupted) => told += 1,
                Err(error) => panic!("{error}"),
            }
            let context = format!("interrupted at event {stop}, parity {parity}");
            assert!(!disk.files().keys().any(|name| name.starts_with("sessions/")), "{context}");
            assert_whole(&open(&disk), &story.kept, &context);
            let mut kept = story.kept.clone();
            for (snapshot, folder) in &story.forgotten {
                if open(&disk).undelete(snapshot).is_ok() {
                    kept.push((snapshot.clone(), folder.clone()));
                }
            }
            behind_mark += u32::from(disk.files().keys().any(|name| name.starts_with("gc/")));
            assert_whole_after_one_more(&disk, &kept, &context);
        }
    }
    assert!(told > 10 && behind_mark > 1, "{told} interrupted, {behind_mark} behind the mark");
}

/// The storage fails at each change and for good, and the session is ended by hand.
#[test]
fn after_a_prune_that_died_behind_its_mark_what_only_marked_packs_hold_is_copied_by_an_undelete() {
    let story = Story::new(&OPTIONS);
    let (mut undeleted, mut copied) = (0, 0);
    for at in 0.. {
        let disk = Arc::new(FaultyStorage::new(&story.after_forgetting(), Fault::Stop { at, torn: Torn::Nothing }));
        let _ = open(&disk).prune(&thorough(), &go_on);
        if !disk.has_stopped() {
            break;
        }
        let disk = storage_of(&disk.files());
        let repository = open(&disk);
        let (snapshot, folder) = story.forgotten[0].clone();
        let sessions = repository.sessions().unwrap();
        if let Some(session) = sessions.iter().find(|session| session.prunes) {
            assert!(matches!(repository.undelete(&snapshot), Err(Error::Busy { .. })), "at {at}");
            repository.end_session(&session.id).unwrap();
        }
        let before = pack_bytes(&disk.files());
        let mut kept = story.kept.clone();
        if repository.undelete(&snapshot).is_ok() {
            undeleted += 1;
            copied += u32::from(pack_bytes(&disk.files()) > before);
            kept.push((snapshot, folder));
        }
        assert_whole_after_one_more(&disk, &kept, &format!("died at {at}"));
    }
    assert!(undeleted > 5 && copied > 0, "{undeleted} undeleted, of {copied} something was copied");
}

/// Somebody relies on what a prune has marked. The next prune moves that, and stops anywhere: then the one after it may find a marked copy that a segment
/// names, and a new one that none does.
#[test]
fn what_a_prune_that_was_cut_off_has_moved_is_named_by_the_next() {
    for parity in [false, true] {
        let story = Story::new(&Options { parity, ..OPTIONS });
        let disk = storage_of(&story.files);
        let folder = folder_of([("of its own".to_owned(), noise(600, 90_000), 600)]);
        let alike = back_up(&open(&disk), &Kept::new(), "alike", &folder, 8).unwrap();
        let editor = begin(&disk, &folder);
        open(&disk).forget(&[alike]).unwrap();
        let waits = prune(&open(&disk), &thorough());
        assert!(waits.waiting_packs > 0, "{waits:?}");
        let snapshot = end(editor, &folder).unwrap();
        let all = story.kept.iter().chain(&story.forgotten).cloned();
        let kept: Kept = all.chain([(snapshot, folder)]).collect();
        let files = disk.files().clone();
        for at in 0.. {
            let disk = Arc::new(FaultyStorage::new(&files, Fault::Stop { at, torn: Torn::Nothing }));
            let _ = open(&disk).prune(&thorough(), &go_on);
            if !disk.has_stopped() {
                assert!(at > 15, "{at} changes are too few to be of interest");
                break;
            }
            let disk = storage_of(&disk.files());
            let repository = open(&disk);
            end_sessions(&repository);
            prune(&repository, &thorough());
            assert_whole_after_one_more(&disk, &kept, &format!("parity {parity}, stopped at {at}"));
        }
    }
}

/// Snapshots are forgotten, and a prune goes as far as it may, between any two reads of a check.
#[test]
fn a_check_beside_a_prune_finds_no_damage() {
    let story = Story::new(&OPTIONS);
    for stop in 0.. {
        let pruned =
            Arc::new(FaultyStorage::new(&story.after_forgetting(), Fault::Stop { at: stop, torn: Torn::Nothing }));
        let _ = open(&pruned).prune(&thorough(), &go_on);
        for at in 0.. {
            let disk = storage_of(&story.files);
            let (to, then) = (disk.clone(), pruned.files());
            let check = |repository: &Repository| check_all(repository, Depth::Structure).unwrap();
            let (report, came) = beside(&disk, Moments::Reads, at, check, move || *to.files() = then);
            assert!(report.is_whole(), "pruned up to change {stop} before read {at}: {report:?}");
            if came.is_none() {
                break;
            }
        }
        if !pruned.has_stopped() {
            break;
        }
    }
}

/// What waits for an undelete is pruned at each read of it.
#[test]
fn an_undelete_that_a_prune_overtakes_says_that_the_snapshot_is_gone() {
    let story = Story::new(&OPTIONS);
    // The first prune died when it had written its mark.
    let marked = (0..).find_map(|at| {
        let disk = FaultyStorage::new(&story.after_forgetting(), Fault::Stop { at, torn: Torn::Nothing });
        let disk = Arc::new(disk);
        let _ = open(&disk).prune(&thorough(), &go_on);
        let mut files = disk.files();
        files.retain(|name, _| !name.starts_with("sessions/"));
        files.keys().any(|name| name.starts_with("gc/")).then_some(files)
    });
    let marked = marked.expect("it writes one");
    let (mut undeleted, mut gone) = (0, 0);
    for at in 0.. {
        let disk = storage_of(&marked);
        let (snapshot, folder) = story.forgotten[0].clone();
        let other = open(&disk);
        let undelete = |repository: &Repository| repository.undelete(&snapshot);
        let (outcome, pruned) =
            beside(&disk, Moments::Reads, at, undelete, move || other.prune(&thorough(), &go_on).map(drop));
        let mut kept = story.kept.clone();
        match outcome {
            Ok(()) => {
                undeleted += 1;
                kept.push((snapshot, folder));
            }
            Err(Error::SnapshotGone { .. }) => gone += 1,
            Err(error) => panic!("pruned before read {at}: {error}"),
        }
        let Some(pruned) = pruned else { break };
        pruned.unwrap();
        assert_whole_after_one_more(&disk, &kept, &format!("pruned before read {at}"));
    }
    assert!(undeleted > 0 && gone > 1, "{undeleted} undeleted, {gone} gone");
}

/// The user says at some moment of a prune that one who is at work is not.
#[test]
fn one_whose_session_others_ended_commits_what_is_whole_or_nothing() {
    let story = Story::new(&OPTIONS);
    let like_kept = folder_like(&story.kept[0].1);
    for (folder, relies_on_what_goes) in [(folder_like_forgotten(&story), true), (like_kept, false)] {
        let (mut whole, mut overtaken) = (0, 0);
        at_every_change(&story, |disk, at| {
            let editor = begin(&disk, &folder);
            let user = open(&disk);
            let writer = user.sessions().unwrap().remove(0);
            let context = format!("relies {relies_on_what_goes}, ended before change {at}");
            let (outcome, happened) = beside_a_prune(&disk, at, move || drop(user.end_session(&writer.id).unwrap()));
            outcome.unwrap_or_else(|error| panic!("{context}: {error}"));
            let mut kept = story.kept.clone();
            match end(editor, &folder) {
                Ok(snapshot) => {
                    whole += u32::from(happened.is_some());
                    kept.push((snapshot, folder.clone()));
                }
                Err(Error::Overtaken) => overtaken += 1,
                Err(error) => panic!("{context}: {error}"),
            }
            assert_whole_after_one_more(&disk, &kept, &context);
            happened.is_some()
        });
        let expected = if relies_on_what_goes { overtaken } else { whole };
        assert!(expected > 3, "relies {relies_on_what_goes}: {whole} were whole, {overtaken} were not");
    }
}

/// At some moment the user takes a prune for dead, undeletes a snapshot and backs up; then it goes on.
#[test]
fn a_prune_that_was_taken_for_dead_does_no_harm_when_it_goes_on() {
    let story = Story::new(&OPTIONS);
    let folder = folder_like_forgotten(&story);
    let (mut stopped, mut undeleted) = (0, 0);
    at_every_change(&story, |disk, at| {
        let user = open(&disk);
        let (to, of, gone) = (disk.clone(), folder.clone(), story.forgotten[0].0.clone());
        let (outcome, happened) = beside_a_prune(&disk, at, move || {
            end_sessions(&user);
            (user.undelete(&gone).is_ok(), end(begin(&to, &of), &of).unwrap())
        });
        let context = format!("ended before change {at}");
        match outcome {
            Ok(_) => {}
            Err(Error::Overtaken) => stopped += 1,
            Err(error) => panic!("{context}: {error}"),
        }
        let Some((is_back, snapshot)) = happened else { return false };
        let mut kept: Kept = story.kept.iter().cloned().chain([(snapshot, folder.clone())]).collect();
        if is_back {
            undeleted += 1;
            kept.push(story.forgotten[0].clone());
        }
        // It may delete the spare of what is undeleted just then.
        assert_whole_but_for_spares(&disk, &kept, &context);
        true
    });
    assert!(stopped > 3 && undeleted > 3, "{stopped} stopped, {undeleted} undeleted");
}

/// The other way around: a whole prune before any one change of one who undeletes.
#[test]
fn a_prune_at_any_moment_of_an_undelete_leaves_what_is_brought_back_whole() {
    for (parity, is_marked) in [(false, false), (true, false), (false, true), (true, true)] {
        let story = Story::new(&Options { parity, ..OPTIONS });
        let (snapshot, folder) = story.forgotten[0].clone();
        let start = storage_of(&story.after_forgetting());
        if is_marked {
            // Somebody has held up a prune.
            let somebody = begin(&start, &story.forgotten[0].1);
            assert!(prune(&open(&start), &thorough()).waiting_packs > 0);
            drop(somebody);
        }
        let mut undeleted = 0;
        for at in 0.. {
            let disk = storage_of(&start.files());
            let (to, of) = (disk.clone(), snapshot.clone());
            let undelete = |repository: &Repository| repository.undelete(&of);
            let (result, pruned) =
                beside(&disk, Moments::Changes, at, undelete, move || open(&to).prune(&thorough(), &go_on));
            let context = format!("parity {parity}, marked {is_marked}, before change {at}");
            let Some(pruned) = pruned else { break };
            pruned.unwrap_or_else(|error| panic!("{context}: {error}"));
            let mut kept = story.kept.clone();
            if result.is_ok() {
                undeleted += 1;
                kept.push((snapshot.clone(), folder.clone()));
            }
            assert_whole_after_one_more(&disk, &kept, &context);
        }
        assert!(undeleted > 1, "parity {parity}, marked {is_marked}: {undeleted}");
    }
}

#[test]
fn what_a_run_is_to_go_on_with_is_told_to_be_gone() {
    let story = Story::new(&OPTIONS);
    let disk = storage_of(&story.after_forgetting());
    let repository = open(&disk);
    let gone = &story.forgotten[0].0;
    let refused = |context: &str| match repository.edit(SERIES[0], Some(gone)).map(drop) {
        Err(Error::SnapshotGone { id }) if id == gone.id => {}
        other => panic!("{context}: {other:?}"),
    };
    refused("forgotten");
    prune(&repository, &thorough());
    refused("pruned");
    assert!(!disk.files().keys().any(|name| name.starts_with("sessions/")));
}

/// One reads the marks, and so holds up nothing that they name: nor may what it writes be a delta against that.
#[test]
fn nothing_new_is_a_delta_against_what_a_mark_names() {
    let disk = Arc::new(MemoryStorage::default());
    let (repository, _) = Repository::create(disk.clone(), None, &OPTIONS).unwrap();
    let database = |seed: u64| {
        let mut bytes = [b"SQLite format 3\0".as_slice(), &noise(3, 2 * BLOCK - 16)].concat();
        bytes[2000..2050].copy_from_slice(&noise(seed, 50));
        folder_of([("sms.db".to_owned(), bytes, 1)])
    };
    let name = Name::new("HomeDomain", "sms.db").unwrap();
    let begin = |folder: &Folder| {
        let mut writer = repository.write("phone").unwrap();
        let Thing::File(file) = &folder["sms.db"] else { unreachable!() };
        let content = Some(writer.store(Some(&name), &mut file.bytes.as_slice()).unwrap());
        let place = Some(place("sms.db"));
        let entry = Entry { content, place, place_mtime_ns: Some(1), ..Entry::new(Kind::File) };
        writer.put(&name, &entry).unwrap();
        writer
    };
    let commit = |writer: SnapshotWriter| writer.commit(Details::new(1, Source::Device)).unwrap().0;
    let first = commit(begin(&database(1)));
    // He relies on what the first has stored, and the prune waits for him.
    let relying = begin(&database(1));
    repository.forget(&[first]).unwrap();
    let waits = prune(&repository, &thorough());
    assert!(waits.waiting_packs > 0, "{waits:?}");
    let second = commit(relying);
    // Of the series' newest snapshot all lies in packs that are marked.
    let third = begin(&database(2));
    repository.forget(&[second]).unwrap();
    // Meanwhile the other cores have encoded what they were given.
    assert_whole(&repository, &Kept::new(), "while the third is made");
    let swept = prune(&repository, &thorough());
    assert!(swept.deleted_packs > 0, "who acknowledges the mark holds up nothing: {swept:?}");
    let kept = vec![(commit(third), database(2))];
    assert_whole_after_one_more(&disk, &kept, "when what was marked is gone");
}
