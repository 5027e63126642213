//! A snapshot as the backup folder that it is, to be looked through and read by places.

use std::io::Write;

use crate::{
    error::{Error, Result},
    format::{
        record::Snapshot,
        tree::{NumberedEntries, parse_item},
    },
    id::{ChunkId, SnapshotId},
    name::TreePath,
    read::{
        chunks::ChunkReader,
        folder::{Folder, Node, Stat},
        reader::read_content,
    },
    repository::Repository,
};

impl Repository {
    /// Reads a snapshot by places, as the backup folder that it is.
    ///
    /// # Errors
    /// What the storage says, what is damaged in its tree, or [`Error::SnapshotGone`] if it was forgotten and pruned meanwhile.
    pub fn folder(&self, snapshot: &Snapshot) -> Result<SnapshotFolder> {
        SnapshotFolder::read(self.chunks()?.0, snapshot)
    }
}

/// Reads the folder of one snapshot.
pub struct SnapshotFolder {
    chunks: ChunkReader,
    snapshot: SnapshotId,
    entries: NumberedEntries,
    folder: Folder<KeptFile>,
}

/// What a listing needs of a file of a tree, and the number of its entry there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptFile {
    pub(crate) entry: u32,
    pub(crate) length: u64,
    pub(crate) mtime_ns: i64,
}

/// The folder that the entries of a tree make, with files of type `F` in it.
pub(crate) fn folder_of<F>(
    chunks: &ChunkReader,
    root: ChunkId,
    file: impl Fn(KeptFile) -> F,
) -> Result<(Folder<F>, NumberedEntries)> {
    let mut folder = Folder::new();
    let entries = NumberedEntries::read(chunks, root, |number, key, entry| {
        let (name, entry) = parse_item(key, entry)?;
        let Some(place) = entry.place_for(&name) else { return Ok(()) };
        if let Some(above) = folder.file_above(&place) {
            return Err(Error::damaged("a tree", format!("{above} is a file, and {place} lies in it")));
        }
        if folder.get(&place).is_some_and(|node| matches!(node, Node::Directory(_)) == entry.content.is_some()) {
            return Err(Error::damaged("a tree", format!("{place} is both a file and a directory")));
        }
        let Some(content) = &entry.content else {
            folder.create_dir(&place);
            return Ok(());
        };
        let (length, mtime_ns) = (content.length, entry.place_mtime_ns.unwrap_or(0));
        folder.insert(&place, Node::File(file(KeptFile { entry: number, length, mtime_ns })));
        Ok(())
    })?;
    Ok((folder, entries))
}

impl SnapshotFolder {
    pub(crate) fn read(chunks: ChunkReader, snapshot: &Snapshot) -> Result<SnapshotFolder> {
        let read = folder_of(&chunks, snapshot.record.root, |file| file);
        let (folder, entries) = read.map_err(|error| chunks.core.explain(&snapshot.id, error))?;
        Ok(SnapshotFolder { chunks, snapshot: snapshot.id, entries, folder })
    }

    /// What lies directly in `folder`, or in the backup folder itself, by name; nothing if there is no such directory.
    pub fn list(&self, folder: Option<&TreePath>) -> Vec<(String, Stat)> {
        let mut listed: Vec<(String, Stat)> =
            self.folder.list(folder).into_iter().flatten().map(|(name, node)| (name, stat_of(node))).collect();
        listed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        listed
    }

    /// What lies at `place`, if anything.
    pub fn stat(&self, place: &TreePath) -> Option<Stat> {
        self.folder.get(place).map(stat_of)
    }

    /// Writes the bytes of the file at `place` to `into`, checked.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`]; what is damaged, after some bytes may have been written; [`Error::SnapshotGone`] if the snapshot was
    /// forgotten and pruned meanwhile; or [`Error::Source`] if `into` fails.
    pub fn read_file(&mut self, place: &TreePath, into: &mut dyn Write) -> Result<()> {
        self.write_file(place, into).map_err(|error| self.chunks.core.explain(&self.snapshot, error))
    }

    fn write_file(&mut self, place: &TreePath, into: &mut dyn Write) -> Result<()> {
        let file = self.folder.file(place).copied();
        let file = file.ok_or_else(|| Error::NoSuchEntry { name: place.to_string(), what: "there is no such file" })?;
        let content = self.entries.get(&self.chunks, file.entry)?.1.content;
        let content = content.ok_or_else(|| Error::damaged(place.to_string(), "it has lost its content"))?;
        read_content(&self.chunks, &content, into)
    }
}

fn stat_of(node: &Node<KeptFile>) -> Stat {
    match *node {
        Node::Directory(_) => Stat::Directory,
        Node::File(KeptFile { length, mtime_ns, .. }) => Stat::File { length, mtime_ns },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Details, MemoryStorage, Options, Repository, Source};

    #[test]
    fn a_snapshot_is_a_folder_of_what_was_put_into_it() {
        let (repository, _) =
            Repository::create(Arc::new(MemoryStorage::default()), None, &Options::default()).unwrap();
        let place = |text| TreePath::new(text).unwrap();
        let mut editor = repository.edit("phone", None).unwrap();
        for (file, content) in [("ab/one", "1"), ("ab/two", "22"), ("Info.plist", "")] {
            editor.write_file(&place(file), None, 7, &mut content.as_bytes()).unwrap();
        }
        editor.create_dir(&place("empty")).unwrap();
        let (snapshot, _) = editor.commit(Details::new(1, Source::Device)).unwrap();

        let mut folder = repository.folder(&snapshot).unwrap();
        let file = |length| Stat::File { length, mtime_ns: 7 };
        let root = folder.list(None);
        let expected = [("Info.plist", file(0)), ("ab", Stat::Directory), ("empty", Stat::Directory)];
        assert!(root.iter().map(|(name, stat)| (name.as_str(), *stat)).eq(expected), "{root:?}");
        assert_eq!(folder.list(Some(&place("ab"))), [("one".into(), file(1)), ("two".into(), file(2))]);
        assert_eq!(folder.list(Some(&place("ab/one"))), []);
        assert_eq!((folder.stat(&place("ab/two")), folder.stat(&place("ab/x"))), (Some(file(2)), None));
        let mut bytes = Vec::new();
        folder.read_file(&place("ab/two"), &mut bytes).unwrap();
        assert_eq!(bytes, b"22");
        assert!(folder.read_file(&place("ab"), &mut bytes).is_err());
    }
}
