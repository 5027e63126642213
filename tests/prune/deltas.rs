//! Chains of deltas of which links are forgotten.

use super::*;

/// A database in which a row changes from day to day.
fn database(day: i64) -> Folder {
    let mut bytes = [b"SQLite format 3\0".as_slice(), &noise(3, 2 * BLOCK - 16)].concat();
    for earlier in 0..=day {
        let at = 1000 + 300 * (earlier as usize % 200);
        bytes[at..at + 50].copy_from_slice(&noise(10 + earlier as u64, 50));
    }
    folder_of([("sms.db".to_owned(), bytes, day)])
}

#[test]
fn chains_stay_readable_when_what_lies_between_is_pruned() {
    for keep_each in [2, 5, 7] {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
        let mut kept = Kept::new();
        for day in 0..50 {
            let folder = database(day);
            kept.push((back_up(&repository, &kept, SERIES[0], &folder, day).unwrap(), folder));
            if day % 9 == 8 {
                let newest = kept.last().unwrap().0.record.time;
                let is_kept = |(snapshot, _): &(Snapshot, Folder)| {
                    snapshot.record.time % keep_each == 0 || snapshot.record.time == newest
                };
                let (stay, go): (Kept, Kept) = kept.into_iter().partition(is_kept);
                kept = stay;
                repository.forget(&snapshots_of(&go)).unwrap();
                prune(&repository, &thorough());
                assert_whole(&repository, &kept, &format!("each {keep_each}th of {day}"));
            }
        }
        let bytes = pack_bytes(&storage.files());
        let alone = kept.len() as u64 * 2 * BLOCK as u64;
        assert!(bytes < alone / 2, "{bytes} bytes are no deltas of {alone}");
    }
}

/// Deltas that nothing needs may stay in packs that stay when their bases go.
#[test]
fn what_was_forgotten_and_comes_again_is_whole() {
    for max_unused in [0.0, 0.3, 5.0] {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
        let mut kept = Kept::new();
        for day in 0..12 {
            // Something that stays lies in the packs of each day.
            let mut folder = database(day);
            folder.extend((0..=day).flat_map(|of| folder_of([(format!("{of}"), noise(700 + of as u64, 40_000), of)])));
            kept.push((back_up(&repository, &kept, SERIES[0], &folder, day).unwrap(), folder));
        }
        let go: Kept = kept.drain(..11).collect();
        // The newest is one of its own, so that no chain leads to the first.
        repository.forget(&snapshots_of(&go)).unwrap();
        let mut other = kept.pop().unwrap();
        other.1.remove("sms.db");
        let last = back_up(&repository, &Kept::new(), SERIES[1], &other.1, 12).unwrap();
        repository.forget(&[other.0]).unwrap();
        kept.push((last, other.1));
        prune(&repository, &PruneOptions { max_unused, ..PruneOptions::default() });
        assert_whole(&repository, &kept, &format!("{max_unused}"));
        for (n, (_, folder)) in go.iter().enumerate().rev() {
            kept.push((back_up(&repository, &kept, SERIES[0], folder, 20 + n as i64).unwrap(), folder.clone()));
            assert_whole(&repository, &kept, &format!("{max_unused}, day {n} again"));
        }
    }
}
