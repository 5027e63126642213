//! What a tree reaches: its nodes, the chunk lists of its contents, and the data in them.

use std::collections::HashSet;

use crate::{
    error::{Error, Result},
    format::{
        chunk_list::{for_each_chunk_once, read_list},
        entry::{ChunkRef, Chunks, Content, Entry},
        pack::ChunkKind,
        tree::{Above, read_node},
    },
    id::ChunkId,
    read::chunks::ChunkReader,
};

/// The function that is called for each chunk that a tree reaches, in the order of names, but no more for chunks below a
/// list that was met. Of a node or a list it says whether chunks below are to be met, too.
pub(crate) type Meet<'a> = &'a mut dyn FnMut(ChunkKind, &ChunkId) -> Result<bool>;

/// Meets everything that the tree `root` reaches.
///
/// # Errors
/// What `meet` says, or why a node or list cannot be read: then nobody knows what is below it.
pub(crate) fn walk(chunks: &ChunkReader, root: &ChunkId, meet: Meet) -> Result<()> {
    Walker { chunks, lists: HashSet::new(), meet }.walk_node(root, None)
}

/// A walk on its way.
struct Walker<'a> {
    chunks: &'a ChunkReader,
    /// The lists that were met, by what was said of them: a few of them can name endlessly many.
    lists: HashSet<(ChunkId, u64, Option<u8>)>,
    meet: Meet<'a>,
}

/// Whether all that the tree `root` reaches lies in packs that are there to stay.
///
/// # Errors
/// Any failure of the storage.
pub(crate) fn is_tree_held(chunks: &ChunkReader, root: &ChunkId) -> Result<bool> {
    is_whole(walk(chunks, root, &mut |_, id| require(chunks.holds(id)?, id)))
}

/// Whether `is_held` says so of each chunk of `content`.
///
/// # Errors
/// What `is_held` or the storage says.
pub(crate) fn is_content_held(
    chunks: &ChunkReader,
    content: &Content,
    is_held: impl Fn(&ChunkId) -> Result<bool>,
) -> Result<bool> {
    is_whole(for_each_chunk_once(chunks, content, &mut |chunk| require(is_held(&chunk.id)?, &chunk.id).map(drop)))
}

fn require(is_held: bool, id: &ChunkId) -> Result<bool> {
    if is_held { Ok(true) } else { Err(Error::ChunkMissing { id: *id }) }
}

/// Damage is an answer.
fn is_whole(walked: Result<()>) -> Result<bool> {
    match walked {
        Ok(()) => Ok(true),
        Err(error) if error.is_damage() => Ok(false),
        Err(error) => Err(error),
    }
}

impl Walker<'_> {
    fn walk_node(&mut self, id: &ChunkId, above: Option<Above>) -> Result<()> {
        if !(self.meet)(ChunkKind::Node, id)? {
            return Ok(());
        }
        let node = read_node(self.chunks, id, above)?;
        for at in 0..node.len() {
            if node.level > 0 {
                let above = node.above_child(at, above.and_then(|above| above.end));
                self.walk_node(&node.child(at), Some(above))?;
            } else {
                let entry = Entry::parse(node.value(at));
                let entry = entry.map_err(|refused| refused.in_file(format!("tree node {id}")))?;
                entry.content.map_or(Ok(()), |content| self.walk_content(&content))?;
            }
        }
        Ok(())
    }

    fn walk_content(&mut self, content: &Content) -> Result<()> {
        match &content.chunks {
            Chunks::Inline(data) => self.meet_data(data),
            Chunks::List(id) => self.walk_list(&ChunkRef { id: *id, len: content.plaintext_len() }, None),
        }
    }

    fn walk_list(&mut self, list: &ChunkRef, expected_level: Option<u8>) -> Result<()> {
        if !(self.meet)(ChunkKind::List, &list.id)? || !self.lists.insert((list.id, list.len, expected_level)) {
            return Ok(());
        }
        let (level, items) = read_list(self.chunks, list, expected_level)?;
        match level.checked_sub(1) {
            None => self.meet_data(&items),
            Some(below) => items.iter().try_for_each(|item| self.walk_list(item, Some(below))),
        }
    }

    fn meet_data(&mut self, data: &[ChunkRef]) -> Result<()> {
        data.iter().try_for_each(|chunk| (self.meet)(ChunkKind::Data, &chunk.id).map(drop))
    }
}
