//! The walk over trees: which files of a snapshot have lost what.

use std::collections::{HashMap, HashSet};

use super::{
    LostFile, LostPart,
    packs::Unreadable,
    reads::{READ_DIFFERENTLY, refresh_chunk, thrice},
};
use crate::{
    error::{Error, Problem, Result},
    format::{
        chunk_list::read_list,
        entry::{ChunkRef, Chunks, Content, Entry, Kind},
        tree::{Above, parse_item, read_node},
    },
    id::ChunkId,
    name::Name,
    read::{chunks::ChunkReader, diff::Walk},
};

/// Losses of one snapshot beyond this are only counted.
const NAMED_MAX: usize = 100;

/// Walks trees, nodes that are shared by snapshots once.
pub(super) struct Trees<'a> {
    pub(super) chunks: &'a ChunkReader,
    pub(super) unreadable: &'a Unreadable,
    /// Nodes below which nothing is wrong.
    pub(super) whole: &'a mut HashSet<ChunkId>,
    /// What is lacking below the lists that were read, by what was said of them: a few of them can name endlessly many.
    pub(super) lists: HashMap<(ChunkId, u64, Option<u8>), Lack>,
    /// What is wrong with files of the repository, met on the way.
    pub(super) problems: &'a mut Vec<Problem>,
}

/// What a tree has lost: as [`Affected`](super::Affected) has it.
#[derive(Debug, Default)]
pub(super) struct Losses {
    pub(super) files: Vec<LostFile>,
    pub(super) lost_parts: Vec<LostPart>,
    pub(super) more: u64,
    /// The first thing in it that only a newer program knows, by where it is and what it is. It is not lost.
    pub(super) newer: Option<(String, String)>,
}

/// What cannot be read of a content.
#[derive(Debug, Clone, Default)]
pub(super) struct Lack {
    lost_bytes: u64,
    /// As [`Losses::newer`].
    newer: Option<(String, String)>,
}

impl Lack {
    fn and(self, other: Lack) -> Lack {
        let lost_bytes = self.lost_bytes.saturating_add(other.lost_bytes);
        Lack { lost_bytes, newer: self.newer.or(other.newer) }
    }
}

/// One tree on the way.
struct Tree<'b> {
    /// A place in a tree that is whole.
    beside: Walk,
    losses: &'b mut Losses,
}

impl Trees<'_> {
    /// What the tree of `root` has lost. Nodes that it shares with the tree of `beside`, which is whole, are not read.
    pub(super) fn check(&mut self, root: &ChunkId, beside: Option<&ChunkId>) -> Result<Losses> {
        let mut losses = Losses::default();
        if self.whole.contains(root) {
            return Ok(losses);
        }
        let beside = beside.map_or_else(Walk::default, |beside| Walk::new(self.chunks, beside));
        self.check_node(root, None, &mut Tree { beside, losses: &mut losses })?;
        Ok(losses)
    }

    /// Whether all below the node is whole.
    fn check_node(&mut self, id: &ChunkId, above: Option<Above>, tree: &mut Tree) -> Result<bool> {
        let is_shared = |above: Above| tree.beside.shares(self.chunks, above.level, above.first_key, id);
        if self.whole.contains(id) || above.is_some_and(is_shared) {
            return Ok(true);
        }
        let chunks = self.chunks;
        let node = match thrice(|| read_node(chunks, id, above), || refresh_chunk(chunks, id)) {
            Ok((node, is_unsteady)) => {
                if is_unsteady {
                    self.problems.extend(self.read_differently(id)?);
                }
                node
            }
            Err(error) if !error.is_damage() => {
                tree.losses.add_newer(error)?;
                return Ok(false);
            }
            Err(error) => {
                let from = above.and_then(|above| Name::from_key(above.first_key).ok());
                tree.losses.add_part(from, error.to_string());
                return Ok(false);
            }
        };
        let mut whole = true;
        for at in 0..node.len() {
            whole &= if node.level > 0 {
                let above = node.above_child(at, above.and_then(|above| above.end));
                self.check_node(&node.child(at), Some(above), tree)?
            } else {
                self.check_entry(node.key(at), node.value(at), tree.losses)?
            };
        }
        if whole {
            self.whole.insert(*id);
        }
        Ok(whole)
    }

    fn check_entry(&mut self, key: &[u8], value: &[u8], losses: &mut Losses) -> Result<bool> {
        let (name, entry) = match parse_item(key, value) {
            Ok(item) => item,
            Err(error) if error.is_newer() => {
                losses.add_newer(error)?;
                return Ok(false);
            }
            Err(error) => {
                losses.add_part(Name::from_key(key).ok(), error.to_string());
                return Ok(false);
            }
        };
        let Entry { kind: Kind::File, content: Some(content), .. } = &entry else { return Ok(true) };
        let Lack { lost_bytes, newer } = self.lack_of(content)?;
        let is_whole = lost_bytes == 0 && newer.is_none();
        if lost_bytes > 0 {
            losses.add_file(LostFile { name, lost_bytes, length: content.length });
        }
        losses.newer = losses.newer.take().or(newer);
        Ok(is_whole)
    }

    /// What of a content lies in no pack that can be read.
    fn lack_of(&mut self, content: &Content) -> Result<Lack> {
        match &content.chunks {
            Chunks::Inline(chunks) => self.lack_of_chunks(chunks),
            Chunks::List(id) => self.lack_in_list(&ChunkRef { id: *id, len: content.plaintext_len() }, None),
        }
    }

    /// The same of what is below a list. Of a list that is lost itself, all is.
    fn lack_in_list(&mut self, list: &ChunkRef, level: Option<u8>) -> Result<Lack> {
        let what = (list.id, list.len, level);
        if let Some(lack) = self.lists.get(&what) {
            return Ok(lack.clone());
        }
        let read = thrice(|| read_list(self.chunks, list, level), || refresh_chunk(self.chunks, &list.id));
        let lack = match read {
            Ok(((0, items), _)) => self.lack_of_chunks(&items)?,
            Ok(((above, items), _)) => items.iter().try_fold(Lack::default(), |lack, item| {
                Ok::<_, Error>(lack.and(self.lack_in_list(item, Some(above - 1))?))
            })?,
            Err(Error::Unsupported { file, what }) => Lack { lost_bytes: 0, newer: Some((file, what)) },
            Err(error) if error.is_damage() => Lack { lost_bytes: list.len.max(1), newer: None },
            Err(error) => return Err(error),
        };
        self.lists.insert(what, lack.clone());
        Ok(lack)
    }

    fn lack_of_chunks(&self, chunks: &[ChunkRef]) -> Result<Lack> {
        let mut lack = Lack::default();
        for chunk in chunks {
            if !self.unreadable.is_readable(self.chunks, &chunk.id)? {
                lack.lost_bytes += chunk.len;
            } else if lack.newer.is_none() {
                lack.newer = self.unreadable.newer_of(self.chunks, &chunk.id)?;
            }
        }
        Ok(lack)
    }

    /// The problem of the pack that holds a chunk that came out right when it was read again.
    fn read_differently(&self, id: &ChunkId) -> Result<Option<Problem>> {
        let place = self.chunks.places(id)?.first().copied();
        Ok(place.map(|place| Problem::new(place.pack.file(), READ_DIFFERENTLY)))
    }
}

impl Losses {
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    pub(super) fn count(&self) -> u64 {
        (self.files.len() + self.lost_parts.len()) as u64 + self.more
    }

    fn add_file(&mut self, file: LostFile) {
        if self.has_room() { self.files.push(file) } else { self.more += 1 }
    }

    fn add_part(&mut self, from: Option<Name>, what: String) {
        if self.has_room() { self.lost_parts.push(LostPart { from, what }) } else { self.more += 1 }
    }

    /// Notes what only a newer program knows; any other error is given back.
    fn add_newer(&mut self, error: Error) -> Result<()> {
        let Error::Unsupported { file, what } = error else { return Err(error) };
        self.newer.get_or_insert((file, what));
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.files.len() + self.lost_parts.len() < NAMED_MAX
    }
}
