//! A backup folder that exists nowhere: a base snapshot and edits, which become the next snapshot.
//!
//! A phone expects its host to hold the previous backup as a folder that it can list, move and remove in. The editor is that
//! folder. It speaks of places; what each file is called on the phone is told by [`describe`](SnapshotEditor::describe), once
//! the phone has sent its Manifest.db. Nothing but packs is ever written.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    ops::Bound,
};

use crate::{
    entry::{Content, Entry, Kind},
    error::{Error, Result},
    name::{Name, TreePath},
    reader::read_content,
    snapshot::Snapshot,
    tree::{TreeIter, parse_item},
    writer::{Details, SnapshotWriter, WriteStats},
};

/// Edits a backup folder. Sees its own edits; dropped without [`commit`](SnapshotEditor::commit), nothing has happened.
pub struct SnapshotEditor {
    writer: SnapshotWriter,
    base: Option<Snapshot>,
    /// Every file and empty directory by its place.
    places: BTreeMap<TreePath, Item>,
    /// What has no place: directories and links of the phone, and files that were missing.
    elsewhere: BTreeMap<Name, Entry>,
}

/// What lies at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    /// As the base has it.
    Kept(Kept),
    File(Box<File>),
    Directory,
}

/// What a listing needs of a file of the base, and the name under which the rest is found there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    name: Name,
    length: u64,
    mtime_ns: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    content: Content,
    mtime_ns: i64,
    /// What is known of it: its name, and an entry without place, time and content.
    described: Option<(Name, Entry)>,
}

/// What [`SnapshotEditor::list`] says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stat {
    /// A file of so many bytes, modified so many nanoseconds after 1970.
    File {
        /// Bytes.
        length: u64,
        /// Nanoseconds since 1970.
        mtime_ns: i64,
    },
    /// A directory.
    Directory,
}

impl Item {
    fn stat(&self) -> Stat {
        match self {
            Item::Directory => Stat::Directory,
            Item::Kept(kept) => Stat::File { length: kept.length, mtime_ns: kept.mtime_ns },
            Item::File(file) => Stat::File { length: file.content.length, mtime_ns: file.mtime_ns },
        }
    }
}

impl SnapshotEditor {
    pub(crate) fn begin(writer: SnapshotWriter, base: Option<&Snapshot>) -> Result<SnapshotEditor> {
        let (mut places, mut elsewhere) = (BTreeMap::new(), BTreeMap::new());
        if let Some(base) = base {
            for item in TreeIter::new(&writer.chunks, base.record.root, b"") {
                let (key, entry) = item?;
                let (name, entry) = parse_item(&key, &entry)?;
                match (entry.place_for(&name), &entry.content) {
                    (Some(place), Some(content)) => {
                        let (length, mtime_ns) = (content.length, entry.place_mtime_ns.unwrap_or(0));
                        places.insert(place, Item::Kept(Kept { name, length, mtime_ns }));
                    }
                    (Some(place), None) => drop(places.insert(place, Item::Directory)),
                    (None, _) => drop(elsewhere.insert(name, entry)),
                }
            }
        }
        Ok(SnapshotEditor { writer, base: base.cloned(), places, elsewhere })
    }

    /// What lies directly in `folder`, or in the backup folder itself.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`] if there is no such directory.
    pub fn list(&self, folder: Option<&TreePath>) -> Result<Vec<(String, Stat)>> {
        let prefix = folder.map_or_else(String::new, |folder| format!("{folder}/"));
        let mut found: BTreeMap<String, Stat> = BTreeMap::new();
        for (place, item) in self.below(folder) {
            let rest = &place.as_str()[prefix.len()..];
            match rest.split_once('/') {
                Some((directory, _)) => drop(found.insert(directory.to_owned(), Stat::Directory)),
                None => drop(found.insert(rest.to_owned(), item.stat())),
            }
        }
        match folder {
            Some(folder) if found.is_empty() && self.places.get(folder) != Some(&Item::Directory) => {
                Err(no_such(folder, "there is no such directory"))
            }
            _ => Ok(found.into_iter().collect()),
        }
    }

    /// What lies at `place`, if anything.
    pub fn stat(&self, place: &TreePath) -> Option<Stat> {
        let item = self.places.get(place).map(Item::stat);
        item.or_else(|| self.below(Some(place)).next().map(|_| Stat::Directory))
    }

    /// Makes a directory, and those above it. One that exists is made already.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`] if a file is in the way.
    pub fn create_dir(&mut self, place: &TreePath) -> Result<()> {
        match self.stat(place) {
            Some(Stat::Directory) => Ok(()),
            Some(Stat::File { .. }) => Err(no_such(place, "it is a file")),
            None => self.insert(place, Item::Directory),
        }
    }

    /// Writes a file, or writes it anew.
    ///
    /// # Errors
    /// [`Error::Source`] if `content` fails, after which everything is as before; [`Error::NoSuchEntry`] if a directory is in the
    /// way; or what fails behind.
    pub fn write_file(&mut self, place: &TreePath, mtime_ns: i64, content: &mut dyn Read) -> Result<()> {
        if self.stat(place) == Some(Stat::Directory) {
            return Err(no_such(place, "it is a directory"));
        }
        self.check_parents(place)?;
        let content = self.writer.store(content)?;
        self.insert(place, Item::File(Box::new(File { content, mtime_ns, described: None })))
    }

    /// Writes the bytes of a file, of this edit or of the base, to `into`.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`], what is damaged, or [`Error::Source`] if `into` fails.
    pub fn read_file(&mut self, place: &TreePath, into: &mut dyn Write) -> Result<()> {
        let file = match self.places.get(place) {
            Some(Item::Directory) => return Err(no_such(place, "it is a directory")),
            Some(item) => self.file_of(item)?,
            None => return Err(no_such(place, "there is no such file")),
        };
        self.writer.flush()?;
        read_content(&self.writer.chunks, &file.content, into)
    }

    /// Gives a file or directory another place. What was there is replaced, as phones expect.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`] if there is nothing at `from`, or `to` lies below it.
    pub fn rename(&mut self, from: &TreePath, to: &TreePath) -> Result<()> {
        self.transfer(from, to, true)
    }

    /// Copies a file or directory by reference. The copy is known by its place until it is described.
    ///
    /// # Errors
    /// As [`rename`](SnapshotEditor::rename).
    pub fn copy(&mut self, from: &TreePath, to: &TreePath) -> Result<()> {
        self.transfer(from, to, false)
    }

    /// Removes a file, or a directory and all below it. What is not there is removed already.
    pub fn remove(&mut self, place: &TreePath) {
        let parent = place.parent();
        if self.take(place).is_empty() {
            return;
        }
        // A directory does not vanish with the last thing in it.
        if let Some(parent) = parent
            && self.below(Some(&parent)).next().is_none()
        {
            self.places.insert(parent, Item::Directory);
        }
    }

    /// Says what the file at `place` is called on the phone, and what is known of it. Without a place, it is a directory or a link
    /// of the phone, or a file that the phone did not send.
    ///
    /// # Errors
    /// [`Error::NoSuchEntry`] if there is no file at `place`.
    pub fn describe(&mut self, name: Name, place: Option<&TreePath>, about: Entry) -> Result<()> {
        let Some(place) = place else {
            self.elsewhere.insert(name, Entry { place: None, place_mtime_ns: None, content: None, ..about });
            return Ok(());
        };
        let mut file = match self.places.get(place) {
            None | Some(Item::Directory) => return Err(no_such(place, "there is no such file")),
            Some(item) => self.file_of(item)?,
        };
        file.described = Some((name, about));
        self.insert(place, Item::File(Box::new(file)))
    }

    /// Forgets every name: what is not described from then on is known by its place alone.
    ///
    /// # Errors
    /// What is damaged in the base.
    pub fn forget_names(&mut self) -> Result<()> {
        let nameless = |(place, item): (&TreePath, &Item)| Ok((place.clone(), self.nameless(item)?));
        self.places = self.places.iter().map(nameless).collect::<Result<_>>()?;
        self.elsewhere.clear();
        Ok(())
    }

    /// Makes the folder, as it is now, a snapshot.
    ///
    /// # Errors
    /// As [`SnapshotWriter::commit`].
    pub fn commit(mut self, details: Details) -> Result<(Snapshot, WriteStats)> {
        for (place, item) in std::mem::take(&mut self.places) {
            let (name, entry) = match &item {
                Item::Directory => (Name::of_place(&place), Entry::new(Kind::Directory)),
                item => self.entry_of(&place, item)?,
            };
            self.writer.put(&name, &entry)?;
        }
        for (name, entry) in &self.elsewhere {
            self.writer.put(name, entry)?;
        }
        self.writer.commit(details)
    }

    fn entry_of(&self, place: &TreePath, item: &Item) -> Result<(Name, Entry)> {
        let file = self.file_of(item)?;
        let (name, about) = file.described.unwrap_or_else(|| (Name::of_place(place), Entry::new(Kind::File)));
        let mut entry = Entry {
            place: None,
            place_mtime_ns: Some(file.mtime_ns),
            content: Some(file.content),
            kind: Kind::File,
            ..about
        };
        if entry.place_for(&name).as_ref() != Some(place) {
            entry.place = Some(place.clone());
        }
        Ok((name, entry))
    }

    /// The file that `item` is, read from the base if it is kept.
    fn file_of(&self, item: &Item) -> Result<File> {
        let name = match item {
            Item::File(file) => return Ok(File::clone(file)),
            Item::Directory => return Err(Error::NoSuchEntry { name: String::new(), what: "it is a directory" }),
            Item::Kept(kept) => &kept.name,
        };
        let root = self.base.as_ref().expect("what is kept has a base").record.root;
        let (key, entry) = TreeIter::new(&self.writer.chunks, root, name.key())
            .next()
            .unwrap_or(Err(Error::NoSuchEntry { name: name.to_string(), what: "the base has lost it" }))?;
        let (name, mut entry) = parse_item(&key, &entry)?;
        let content =
            entry.content.take().ok_or_else(|| Error::damaged(name.to_string(), "it has lost its content"))?;
        let mtime_ns = entry.place_mtime_ns.take().unwrap_or(0);
        let described = (!name.domain().is_empty()).then_some((name, entry));
        Ok(File { content, mtime_ns, described })
    }

    /// What lies below `folder`, at any depth.
    fn below<'s>(&'s self, folder: Option<&TreePath>) -> impl Iterator<Item = (&'s TreePath, &'s Item)> + use<'s> {
        let prefix = folder.map_or_else(String::new, |folder| format!("{folder}/"));
        let run = self.places.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        run.take_while(move |(place, _)| place.as_str().starts_with(&prefix))
    }

    /// Removes and returns what lies at and below `place`.
    fn take(&mut self, place: &TreePath) -> Vec<(TreePath, Item)> {
        let mut taken: Vec<_> = self.below(Some(place)).map(|(below, item)| (below.clone(), item.clone())).collect();
        taken.extend(self.places.get(place).map(|item| (place.clone(), item.clone())));
        taken.iter().for_each(|(taken, _)| drop(self.places.remove(taken)));
        taken
    }

    fn transfer(&mut self, from: &TreePath, to: &TreePath, is_move: bool) -> Result<()> {
        if self.stat(from).is_none() {
            return Err(no_such(from, "there is nothing"));
        }
        if to.as_str().strip_prefix(from.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Err(no_such(to, "it is, or lies in, what is to be moved there"));
        }
        self.check_parents(to)?;
        let mut moved = Vec::new();
        for (place, item) in self.places.get_key_value(from).into_iter().chain(self.below(Some(from))) {
            let target = TreePath::new(&format!("{to}{}", &place.as_str()[from.as_str().len()..]))?;
            moved.push((target, if is_move { item.clone() } else { self.nameless(item)? }));
        }
        if is_move {
            self.remove(from);
        }
        self.take(to);
        moved.into_iter().try_for_each(|(target, item)| self.insert(&target, item))
    }

    /// A copy of `item`: a name is of one file alone.
    fn nameless(&self, item: &Item) -> Result<Item> {
        match item {
            Item::Directory => Ok(Item::Directory),
            item => Ok(Item::File(Box::new(File { described: None, ..self.file_of(item)? }))),
        }
    }

    fn insert(&mut self, place: &TreePath, item: Item) -> Result<()> {
        self.check_parents(place)?;
        // A directory that holds something follows from what it holds.
        let mut above = place.parent();
        while let Some(parent) = above {
            self.places.remove(&parent);
            above = parent.parent();
        }
        self.places.insert(place.clone(), item);
        Ok(())
    }

    fn check_parents(&self, place: &TreePath) -> Result<()> {
        let mut above = place.parent();
        while let Some(parent) = above {
            if self.places.get(&parent).is_some_and(|item| *item != Item::Directory) {
                return Err(no_such(&parent, "it is a file"));
            }
            above = parent.parent();
        }
        Ok(())
    }
}

fn no_such(place: &TreePath, what: &'static str) -> Error {
    Error::NoSuchEntry { name: place.to_string(), what }
}
