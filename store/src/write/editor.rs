//! A backup folder that exists nowhere: a base and edits, which become the next snapshot.
//!
//! A phone expects its host to hold the previous backup as a folder that it can list, move and remove in. The editor is that
//! folder. It speaks of places; what each file is called on the phone is told to [`Naming`], once the phone has sent its
//! Manifest.db. Nothing but packs is ever written before it ends.

use std::{
    io::{Read, Write},
    num::NonZeroU32,
};

use crate::{
    bytes::{Blocks, Span},
    error::{Error, Problem, Result},
    format::{
        entry::{Content, Entry, Kind},
        phone_cipher::Sealing,
        record::Snapshot,
        tree::NumberedEntries,
    },
    id::ChunkId,
    name::{Name, PATH_MAX_LEN, TreePath},
    read::{
        chunks::ChunkReader,
        diff::Diff,
        folder::{Folder, Node, Stat},
        reader::read_content,
        snapshot_folder::{KeptFile, folder_of},
    },
    repository::Repository,
    snapshots::parked::Parked,
    write::{
        spool::{Scratch, Spool, SpoolReader},
        writer::{Base, Details, SnapshotWriter, WriteStats},
    },
};

impl Repository {
    /// Begins a snapshot of `series` as the backup folder of `base`, or an empty one, to be edited.
    ///
    /// # Errors
    /// As [`write`](Repository::write); [`Error::SnapshotGone`] if `base` was forgotten meanwhile; or what is damaged in its tree, for which
    /// [`Error::is_damage`] is true.
    pub fn edit(&self, series: &str, base: Option<&Snapshot>) -> Result<SnapshotEditor> {
        match base {
            Some(base) => {
                let writer = self.write_after(series, Base::snapshot(base))?;
                SnapshotEditor::begin(writer, Some(base.record.root))
            }
            None => SnapshotEditor::begin(self.write(series)?, None),
        }
    }

    /// Begins a snapshot as the backup folder that a run had when it was cut off, to be edited further.
    ///
    /// # Errors
    /// As [`edit`](Repository::edit).
    pub fn resume(&self, parked: &Parked) -> Result<SnapshotEditor> {
        let writer = self.write_after(&parked.record.series, Base::parked(parked))?;
        SnapshotEditor::begin(writer, Some(parked.record.root))
    }
}

/// Edits a backup folder. Sees its own edits; dropped before its end, nothing has happened.
///
/// It ends in one of three ways: [`name_files`](SnapshotEditor::name_files) and a commit, a commit under the names of the base, or
/// [`park`](SnapshotEditor::park).
pub struct SnapshotEditor {
    writer: SnapshotWriter,
    /// Those of the tree that this began with.
    base_entries: NumberedEntries,
    folder: Folder<File>,
    /// Those of files that were written.
    entries: Blocks,
    /// Contents that are held back.
    spool: Option<Spool>,
}

/// A file of the folder, in few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum File {
    /// The one that entry number `entry` of the base tells of. A name is of one file alone, so a copy has none.
    Kept { entry: u32, is_copy: bool, length: u64, mtime_ns: i64 },
    /// An entry of a tree with nothing but the file's time and content.
    New(Span),
    /// A content that waits for its key, from byte `start` of the spool on.
    Held { start: u64, length: u64, mtime_ns: i64, previous: Option<EntryNumber> },
}

/// The number of an entry of the base, and one more: it takes no room to have none.
type EntryNumber = NonZeroU32;

/// What [`SnapshotEditor::write_file`] remembers of a file.
fn parse_new(entry: &[u8]) -> (Content, i64) {
    let entry = Entry::parse(entry).expect("an entry that was emitted");
    (entry.content.expect("a file that was stored"), entry.place_mtime_ns.unwrap_or(0))
}

/// `about` as the entry of a file.
fn entry_of(content: Content, mtime_ns: i64, about: Entry) -> Entry {
    Entry { kind: Kind::File, place: None, place_mtime_ns: Some(mtime_ns), content: Some(content), ..about }
}

impl SnapshotEditor {
    pub(crate) fn begin(mut writer: SnapshotWriter, base: Option<ChunkId>) -> Result<SnapshotEditor> {
        let (mut folder, mut base_entries) = (Folder::new(), NumberedEntries::default());
        if let Some(root) = base {
            writer.follow(root);
            (folder, base_entries) = folder_of(&writer.chunks, root, |KeptFile { entry, length, mtime_ns }| {
                File::Kept { entry, is_copy: false, length, mtime_ns }
            })?;
        }
        Ok(SnapshotEditor { writer, base_entries, folder, entries: Blocks::default(), spool: None })
    }

    /// What was damaged in the repository, but not fatal, when this began.
    pub fn problems(&self) -> &[Problem] {
        self.writer.problems()
    }

    /// What lies directly in `folder`, or in the backup folder itself, by name.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`] if there is no such directory.
    pub fn list(&self, folder: Option<&TreePath>) -> Result<Vec<(String, Stat)>> {
        let listed =
            self.folder.list(folder).map(|nodes| nodes.map(|(name, node)| (name, self.stat_of(node))).collect());
        let mut listed: Vec<_> = match (listed, folder) {
            (None, Some(folder)) => return Err(no_such(folder, "there is no such directory")),
            (listed, _) => listed.unwrap_or_default(),
        };
        listed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(listed)
    }

    /// What lies at `place`, if anything.
    pub fn stat(&self, place: &TreePath) -> Option<Stat> {
        self.folder.get(place).map(|node| self.stat_of(node))
    }

    /// Makes a directory, and those above it. One that exists is made already.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`] if a file is in the way.
    pub fn create_dir(&mut self, place: &TreePath) -> Result<()> {
        if self.folder.file(place).is_some() {
            return Err(no_such(place, "it is a file"));
        }
        self.check_parents(place)?;
        self.folder.create_dir(place);
        Ok(())
    }

    /// Writes a file, or writes it anew. What the base has at `previous`, or else at `place`, is taken for the version before it.
    ///
    /// # Errors
    /// [`Error::Source`] if `content` fails, after which everything is as before; [`Error::NoSuchEntry`] if a directory is in the
    /// way; or what fails behind.
    pub fn write_file(
        &mut self,
        place: &TreePath,
        previous: Option<&TreePath>,
        mtime_ns: i64,
        content: &mut dyn Read,
    ) -> Result<()> {
        self.check_file(place)?;
        let previous = self.kept_at(previous.unwrap_or(place));
        let content = self.writer.store_after(&mut content_of(&mut self.base_entries, previous), content)?;
        let entry = self.entries.push(&[&entry_of(content, mtime_ns, Entry::new(Kind::File)).emit()]);
        self.folder.insert(place, Node::File(File::New(entry)));
        Ok(())
    }

    /// Writes a file as [`write_file`](SnapshotEditor::write_file) does, but holds its content back until its key is told, or the folder
    /// becomes a snapshot: nothing of it is in the repository before.
    ///
    /// # Errors
    /// As there.
    pub fn hold_file(
        &mut self,
        place: &TreePath,
        previous: Option<&TreePath>,
        mtime_ns: i64,
        content: &mut dyn Read,
    ) -> Result<()> {
        self.check_file(place)?;
        let previous = self.kept_at(previous.unwrap_or(place));
        let spool = match &mut self.spool {
            Some(spool) => spool,
            none => none.insert(Spool::new(&*self.writer.chunks.core.storage)?),
        };
        let range = spool.append(content)?;
        let file = File::Held { start: range.start, length: range.end - range.start, mtime_ns, previous };
        self.folder.insert(place, Node::File(file));
        Ok(())
    }

    /// Writes the bytes of a file, of this edit or of the base, to `into`.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`], what is damaged, or [`Error::Source`] if `into` fails.
    pub fn read_file(&mut self, place: &TreePath, into: &mut dyn Write) -> Result<()> {
        let content = match self.folder.get(place) {
            None => return Err(no_such(place, "there is no such file")),
            Some(Node::Directory(_)) => return Err(no_such(place, "it is a directory")),
            Some(Node::File(File::Kept { entry, .. })) => self.base_entries.get(&self.writer.chunks, *entry)?.1.content,
            Some(&Node::File(File::Held { start, length, .. })) => {
                return std::io::copy(&mut held(&mut self.spool, start, length), into).map(drop).map_err(Error::Source);
            }
            Some(Node::File(File::New(entry))) => {
                self.writer.make_readable()?;
                Some(parse_new(self.entries.get(*entry)).0)
            }
        };
        let content = content.ok_or_else(|| Error::damaged(place.to_string(), "it has lost its content"))?;
        read_content(&self.writer.chunks, &content, into)
    }

    /// An empty place for one content, outside the folder.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub fn scratch(&self) -> Result<Scratch> {
        Scratch::new(&*self.writer.chunks.core.storage)
    }

    /// Gives a file or directory another place. What was there is replaced, as phones expect.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`] if there is nothing at `from`, or `to` lies below it; [`Error::InvalidName`] if a place would get too long.
    pub fn rename(&mut self, from: &TreePath, to: &TreePath) -> Result<()> {
        self.check_transfer(from, to)?;
        if let Some(node) = self.folder.take(from) {
            self.folder.insert(to, node);
        }
        Ok(())
    }

    /// Copies a file or directory by reference. A copy is known by its place until it is named.
    ///
    /// # Errors
    /// As [`rename`](SnapshotEditor::rename).
    pub fn copy(&mut self, from: &TreePath, to: &TreePath) -> Result<()> {
        self.check_transfer(from, to)?;
        if let Some(node) = self.folder.get(from).cloned() {
            let copy = self.folder.copy(&node, |file| match file {
                &File::Kept { entry, length, mtime_ns, .. } => File::Kept { entry, is_copy: true, length, mtime_ns },
                new => *new,
            });
            self.folder.insert(to, copy);
        }
        Ok(())
    }

    /// Removes a file, or a directory and all below it. What is not there is removed already.
    pub fn remove(&mut self, place: &TreePath) {
        self.folder.remove(place);
    }

    /// Ends the editing: from here each file is told its name, anew. What is not named is known by its place alone.
    ///
    /// # Errors
    /// What fails behind.
    pub fn name_files(mut self) -> Result<Naming> {
        self.writer.settle()?;
        // Those that hold nothing now, and not those whose files were all named.
        self.folder.for_each(|place, file| match file {
            None => self.writer.put(&Name::of_place(&place), &Entry::new(Kind::Directory)),
            Some(_) => Ok(()),
        })?;
        Ok(Naming { editor: self, scratch: None })
    }

    /// Makes the folder, as it is now, a snapshot in which each file of the base has the name that it has there, and so has everything
    /// that has no place.
    ///
    /// # Errors
    /// As [`SnapshotWriter::commit`].
    pub fn commit(self, details: Details) -> Result<(Snapshot, WriteStats)> {
        let mut naming = self.name_files()?;
        naming.keep_names()?;
        naming.commit(details)
    }

    /// Ends a run that was cut off: keeps the folder, as it is now, for the next run to
    /// [`resume`](crate::Repository::resume). It is no snapshot.
    ///
    /// # Errors
    /// As [`SnapshotWriter::commit`].
    pub fn park(self) -> Result<Parked> {
        let mut naming = self.name_files()?;
        naming.keep_names()?;
        naming.put_nameless()?;
        naming.editor.writer.park()
    }

    fn stat_of(&self, node: &Node<File>) -> Stat {
        match node {
            Node::Directory(_) => Stat::Directory,
            Node::File(file) => stat_of_file(file, &self.entries),
        }
    }

    fn check_transfer(&self, from: &TreePath, to: &TreePath) -> Result<()> {
        let Some(node) = self.folder.get(from) else { return Err(no_such(from, "there is nothing")) };
        if to.as_str().strip_prefix(from.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Err(no_such(to, "it is, or lies in, what is to be moved there"));
        }
        if to.as_str().len() + self.folder.depth_below(node) > PATH_MAX_LEN {
            return Err(Error::InvalidName {
                name: to.to_string(),
                why: "a path in it would be longer than 4096 bytes",
            });
        }
        self.check_parents(to)
    }

    /// The entry of the base whose file still lies at `place`.
    fn kept_at(&self, place: &TreePath) -> Option<EntryNumber> {
        match self.folder.file(place)? {
            File::Kept { entry, .. } => NonZeroU32::new(entry.checked_add(1)?),
            _ => None,
        }
    }

    /// A file can be written at `place`.
    fn check_file(&self, place: &TreePath) -> Result<()> {
        if let Some(Node::Directory(_)) = self.folder.get(place) {
            return Err(no_such(place, "it is a directory"));
        }
        self.check_parents(place)
    }

    fn check_parents(&self, place: &TreePath) -> Result<()> {
        self.folder.file_above(place).map_or(Ok(()), |above| Err(no_such(&above, "it is a file")))
    }
}

/// The files of an edited folder being told their names.
pub struct Naming {
    editor: SnapshotEditor,
    /// For one content at a time.
    scratch: Option<Spool>,
}

impl Naming {
    /// Says what the file at `place` is called on the phone, and what is known of it: an entry without place, time and content. Without
    /// a place, it is a directory or a link of the phone, or a file that the phone did not send.
    ///
    /// Returns false if there is no file at `place`, or it has its name already; the entry is then kept without content. A name of
    /// the domain `""`, which is the folder's own, is not kept at all. Fastest in the order of names.
    ///
    /// # Errors
    /// [`Error::InvalidName`] if the entry is too long to be kept, after which everything is as before; what is damaged in the base.
    pub fn describe(&mut self, name: &Name, place: Option<&TreePath>, about: Entry) -> Result<bool> {
        if name.domain().is_empty() {
            return Ok(false);
        }
        let file = place.and_then(|place| Some((place, *self.editor.folder.file(place)?)));
        match file {
            Some((place, file)) => self.put(name, place, file, about).map(|()| true),
            None => {
                let entry = Entry { place: None, place_mtime_ns: None, content: None, ..about };
                self.editor.writer.put(name, &entry).map(|()| place.is_none())
            }
        }
    }

    /// Keeps the file at `place`, if it is held back or of the base and kept as ciphertext there, as the plaintext of what `key` encrypted. A content
    /// that plaintext does not give back is kept as it is.
    ///
    /// # Errors
    /// What fails behind.
    pub fn unseal(&mut self, place: &TreePath, key: &[u8; 32]) -> Result<()> {
        let SnapshotEditor { writer, base_entries, folder, entries, spool } = &mut self.editor;
        let Some(&file) = folder.file(place) else { return Ok(()) };
        if !matches!(stat_of_file(&file, entries), Stat::File { length, .. } if Sealing::is_possible(length)) {
            return Ok(());
        }
        let (stored, mtime_ns) = match file {
            File::New(_) => return Ok(()),
            File::Held { start, length, mtime_ns, previous } => {
                let mut previous = content_of(base_entries, previous);
                (writer.store_sealed_after(&mut previous, &mut held(spool, start, length), key), mtime_ns)
            }
            File::Kept { entry, mtime_ns, .. } => {
                let content = base_entries.get(&writer.chunks, entry)?.1.content;
                let Some(content) = content.filter(|content| !content.is_sealed()) else { return Ok(()) };
                let scratch = match &mut self.scratch {
                    Some(scratch) => scratch,
                    none => none.insert(Spool::new(&*writer.chunks.core.storage)?),
                };
                scratch.clear()?;
                read_content(&writer.chunks, &content, scratch)?;
                (writer.store_sealed(None, &mut scratch.read_all(), key), mtime_ns)
            }
        };
        let content = match stored {
            Err(Error::Source(error)) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(()),
            stored => stored?,
        };
        let entry = entries.push(&[&entry_of(content, mtime_ns, Entry::new(Kind::File)).emit()]);
        folder.insert(place, Node::File(File::New(entry)));
        Ok(())
    }

    /// Makes everything durable, and then the snapshot.
    ///
    /// # Errors
    /// As [`SnapshotWriter::commit`].
    pub fn commit(mut self, details: Details) -> Result<(Snapshot, WriteStats)> {
        self.put_nameless()?;
        self.editor.writer.commit(details)
    }

    /// As [`commit`](Naming::commit), but makes no snapshot if all that the phone holds is as in `base`. The names that `passes_over` may differ.
    ///
    /// # Errors
    /// As [`SnapshotWriter::commit`].
    pub fn commit_if_new(
        mut self,
        details: Details,
        base: &Snapshot,
        passes_over: &dyn Fn(&Name) -> bool,
    ) -> Result<(Snapshot, WriteStats)> {
        self.put_nameless()?;
        self.editor.writer.commit_unless(details, &mut |chunks, root| {
            for change in Diff::new(chunks.clone(), base.record.root, *root) {
                match change {
                    Ok(change) if change.is_news() && !passes_over(&change.name) => return Ok(None),
                    Ok(_) => {}
                    // What cannot be read of the base is kept once more.
                    Err(error) if error.is_unreadable() => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            Ok(Some(base.clone()))
        })
    }

    /// Puts the file at `place` into the snapshot, and takes it out of the folder.
    fn put(&mut self, name: &Name, place: &TreePath, file: File, about: Entry) -> Result<()> {
        let SnapshotEditor { writer, base_entries, folder, entries, spool } = &mut self.editor;
        let (content, mtime_ns) = match file {
            File::New(entry) => parse_new(entries.get(entry)),
            File::Held { start, length, mtime_ns, previous } => {
                let mut previous = content_of(base_entries, previous);
                (writer.store_after(&mut previous, &mut held(spool, start, length))?, mtime_ns)
            }
            File::Kept { entry, mtime_ns, .. } => {
                let content = base_entries.get(&writer.chunks, entry)?.1.content;
                (content.ok_or_else(|| Error::damaged(place.to_string(), "it has lost its content"))?, mtime_ns)
            }
        };
        let mut entry = entry_of(content, mtime_ns, about);
        if entry.place_for(name).as_ref() != Some(place) {
            entry.place = Some(place.clone());
        }
        writer.put(name, &entry)?;
        folder.remove(place);
        Ok(())
    }

    /// Puts everything that is still as the base has it, and the files that only have another place.
    fn keep_names(&mut self) -> Result<()> {
        let SnapshotEditor { writer, base_entries, folder, .. } = &mut self.editor;
        for number in 0..base_entries.len() {
            let (name, entry) = base_entries.get(&writer.chunks, number)?;
            match entry.place_for(&name) {
                None => writer.put(&name, &entry)?,
                Some(place) => match folder.file(&place) {
                    Some(File::Kept { entry: kept, is_copy: false, .. }) if *kept == number => {
                        writer.put(&name, &entry)?;
                        folder.remove(&place);
                    }
                    _ => {}
                },
            }
        }
        for (place, file) in self.old_files()? {
            let File::Kept { entry, is_copy: false, .. } = file else { continue };
            let (name, about) = self.editor.base_entries.get(&self.editor.writer.chunks, entry)?;
            if !name.domain().is_empty() {
                self.put(&name, &place, file, about)?;
            }
        }
        Ok(())
    }

    /// Puts every file that is left under the name of its place.
    fn put_nameless(&mut self) -> Result<()> {
        for (place, file) in self.old_files()? {
            self.put(&Name::of_place(&place), &place, file, Entry::new(Kind::File))?;
        }
        let SnapshotEditor { writer, folder, entries, .. } = &mut self.editor;
        folder.for_each(|place, file| match file {
            Some(File::New(entry)) => {
                let (content, mtime_ns) = parse_new(entries.get(*entry));
                writer.put(&Name::of_place(&place), &entry_of(content, mtime_ns, Entry::new(Kind::File)))
            }
            _ => Ok(()),
        })
    }

    /// The files that are left of the base, in its order, and those that are held back, in that of the spool.
    fn old_files(&self) -> Result<Vec<(TreePath, File)>> {
        let mut kept = Vec::new();
        self.editor.folder.for_each(|place, file| {
            kept.extend(file.filter(|file| !matches!(file, File::New(_))).map(|file| (place, *file)));
            Ok(())
        })?;
        kept.sort_unstable_by_key(|(_, file)| match file {
            File::Kept { entry, .. } => (0, u64::from(*entry)),
            File::Held { start, .. } => (1, *start),
            File::New(_) => (2, 0),
        });
        Ok(kept)
    }
}

/// Finds the content of an entry of the base.
fn content_of(
    entries: &mut NumberedEntries,
    number: Option<EntryNumber>,
) -> impl FnMut(&ChunkReader) -> Option<Content> {
    move |chunks| entries.get(chunks, number?.get() - 1).ok()?.1.content
}

/// Reads a content that is held back.
fn held(spool: &mut Option<Spool>, start: u64, length: u64) -> SpoolReader<'_> {
    spool.as_mut().expect("what is held is in the spool").read(start..start + length)
}

fn stat_of_file(file: &File, entries: &Blocks) -> Stat {
    match *file {
        File::Kept { length, mtime_ns, .. } | File::Held { length, mtime_ns, .. } => Stat::File { length, mtime_ns },
        File::New(entry) => {
            let (content, mtime_ns) = parse_new(entries.get(entry));
            Stat::File { length: content.length, mtime_ns }
        }
    }
}

fn no_such(place: &TreePath, what: &'static str) -> Error {
    Error::NoSuchEntry { name: place.to_string(), what }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Depth, MemoryStorage, Options, Outcome, Prefix, Repository, Source, check};

    #[test]
    fn a_name_that_is_refused_takes_nothing_from_the_file() {
        let (repository, _) =
            Repository::create(Arc::new(MemoryStorage::default()), None, &Options::default()).unwrap();
        let place = TreePath::new("3d/notes").unwrap();
        let name = |path| Name::new("HomeDomain", path).unwrap();
        let mut editor = repository.edit("phone", None).unwrap();
        editor.write_file(&place, None, 5, &mut "hello".as_bytes()).unwrap();
        let mut naming = editor.name_files().unwrap();
        let long = Entry { target: Some("x".repeat(200_000)), ..Entry::new(Kind::File) };
        assert!(matches!(naming.describe(&name("long"), Some(&place), long), Err(Error::InvalidName { .. })));
        assert!(!naming.describe(&Name::of_place(&place), Some(&place), Entry::new(Kind::File)).unwrap());
        assert!(naming.describe(&name("first"), Some(&place), Entry::new(Kind::File)).unwrap());
        assert!(!naming.describe(&name("second"), Some(&place), Entry::new(Kind::File)).unwrap());
        assert!(naming.describe(&name("directory"), None, Entry::new(Kind::Directory)).unwrap());
        let (snapshot, _) = naming.commit(Details::new(1, Source::Device)).unwrap();
        let reader = repository.read(&snapshot).unwrap();
        let entries: Vec<_> = reader
            .entries(&Prefix::all())
            .map(|item| item.map(|(name, entry)| (name.path().to_owned(), entry.content.is_some())).unwrap())
            .collect();
        assert_eq!(entries, [("directory".into(), false), ("first".into(), true), ("second".into(), false)]);
    }

    #[test]
    fn an_editor_tells_what_is_damaged() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        repository.edit("phone", None).unwrap().commit(Details::new(1, Source::Device)).unwrap();
        assert_eq!(repository.edit("phone", None).unwrap().problems(), []);
        let snapshot = storage.files().keys().find(|name| name.starts_with("snapshots/")).unwrap().clone();
        storage.files().get_mut(&snapshot).unwrap().clear();
        let editor = repository.edit("phone", None).unwrap();
        assert_eq!(editor.problems().iter().map(|problem| &problem.file).collect::<Vec<_>>(), [&snapshot]);
    }

    /// Backs up a phone whose file holds `content`, and which tells `status` of itself, onto `base`.
    fn back_up(
        repository: &Repository,
        base: Option<&Snapshot>,
        content: &[u8],
        status: &[u8],
    ) -> (Snapshot, WriteStats) {
        let [file, told] = ["3d/notes", "Status.plist"].map(|place| TreePath::new(place).unwrap());
        let mut editor = repository.edit("phone", base).unwrap();
        for (place, content) in [(&file, content), (&told, status)] {
            editor.write_file(place, None, 5, &mut &*content).unwrap();
            let mut read = Vec::new();
            editor.read_file(place, &mut read).unwrap();
            assert!(read == content, "what has just arrived is read");
        }
        let mut naming = editor.name_files().unwrap();
        let name = Name::new("HomeDomain", "notes").unwrap();
        assert!(naming.describe(&name, Some(&file), Entry::new(Kind::File)).unwrap());
        let details = Details::new(1, Source::Device);
        match base {
            Some(base) => naming.commit_if_new(details, base, &|name| name.path() == "Status.plist").unwrap(),
            None => naming.commit(details).unwrap(),
        }
    }

    #[test]
    fn nothing_new_leaves_nothing() {
        for pack_bytes in [Options::default().pack_bytes, 4096] {
            let storage = Arc::new(MemoryStorage::default());
            let options = Options { pack_bytes, ..Options::default() };
            let (repository, _) = Repository::create(storage.clone(), None, &options).unwrap();
            let (base, _) = back_up(&repository, None, b"hello", b"at noon");
            let files = storage.files().clone();
            let (same, stats) = back_up(&repository, Some(&base), b"hello", b"at one");
            assert_eq!((same.id, stats.outcome, stats.added_bytes), (base.id, Outcome::Unchanged, 0));
            assert!(*storage.files() == files, "{:?}", storage.files().keys());
            // More than is kept in memory is written before it is known that nothing is new, and is whole.
            let mut long = vec![0; 9 << 20];
            blake3::Hasher::new().finalize_xof().fill(&mut long);
            assert_eq!(back_up(&repository, Some(&base), b"hello", &long).1.outcome, Outcome::Unchanged);
            let (other, stats) = back_up(&repository, Some(&base), b"goodbye", b"at two");
            assert!(other.id != base.id && stats.outcome == Outcome::New);
            let found = check(&repository, Depth::ReadData, &|_| std::ops::ControlFlow::Continue(())).unwrap();
            assert!(found.is_whole(), "{:?}", found.problems);
        }
    }

    #[test]
    fn lost_chunk_that_comes_again_is_kept_though_nothing_is_new() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        let (base, _) = back_up(&repository, None, b"hello", b"at noon");
        storage.files().retain(|name, _| !name.starts_with("packs/"));
        assert_eq!(back_up(&repository, Some(&base), b"hello", b"at one").1.outcome, Outcome::Unchanged);
        let (place, mut read) = (TreePath::new("3d/notes").unwrap(), Vec::new());
        repository.edit("phone", Some(&base)).unwrap().read_file(&place, &mut read).unwrap();
        assert_eq!(read, b"hello");
    }
}
