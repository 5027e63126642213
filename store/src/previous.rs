//! What a series held before, by name: where the bases of deltas are found.
//!
//! Nothing here is needed to be right. What cannot be read is as good as absent, and costs bytes alone.

use std::ops::Range;

use crate::{
    content::for_each_list,
    entry::{ChunkRef, Chunks, Content, Entry},
    id::ChunkId,
    tree::{ChunkSource, Node, read_node},
};

/// The tree of an earlier snapshot, or none. Fastest when it is asked in the order of keys.
#[derive(Default)]
pub(crate) struct PreviousTree {
    root: Option<ChunkId>,
    /// The nodes on the way to what was asked for last.
    path: Vec<(ChunkId, Node)>,
}

impl PreviousTree {
    pub(crate) fn new(root: Option<ChunkId>) -> PreviousTree {
        PreviousTree { root, path: Vec::new() }
    }

    /// The content of the file with this key.
    pub(crate) fn content(&mut self, source: &impl ChunkSource, key: &[u8]) -> Option<Content> {
        let leaf = self.descend(source, 0, key)?;
        let at = leaf.find(key)?;
        Entry::parse(leaf.value(at)).ok()?.content
    }

    /// The node of `level` whose first key this is.
    pub(crate) fn node(&mut self, source: &impl ChunkSource, level: u8, first_key: &[u8]) -> Option<ChunkId> {
        let above = self.descend(source, level + 1, first_key)?;
        let at = above.find(first_key)?;
        Some(above.child(at))
    }

    /// The node of `level` in which `key` lies, if anywhere.
    fn descend(&mut self, source: &impl ChunkSource, level: u8, key: &[u8]) -> Option<&Node> {
        let mut id = self.root?;
        for depth in 0.. {
            if self.path.get(depth).is_none_or(|(known, _)| *known != id) {
                self.path.truncate(depth);
                self.path.push((id, read_node(source, &id, None).ok()?));
            }
            let node = &self.path[depth].1;
            if node.level <= level {
                return (node.level == level).then_some(&self.path[depth].1);
            }
            // A level that does not fall would be a circle.
            if depth > 0 && node.level >= self.path[depth - 1].1.level {
                return None;
            }
            id = node.child_for(key)?;
        }
        None
    }
}

/// How far, in chunks, something is looked for before and behind its place.
const NEAR: usize = 64;

/// The chunks of an earlier content, followed along a later one.
#[derive(Default)]
pub(crate) struct PreviousChunks {
    chunks: Vec<ChunkId>,
    /// Its lowest chunk lists.
    lists: Vec<ChunkId>,
    /// The chunk that stands where the later content is.
    at: usize,
}

impl PreviousChunks {
    pub(crate) fn of(source: &impl ChunkSource, content: &Content) -> PreviousChunks {
        let mut previous = PreviousChunks::default();
        match &content.chunks {
            Chunks::Inline(chunks) => previous.chunks.extend(chunks.iter().map(|chunk| chunk.id)),
            Chunks::List(id) => {
                let lists = &mut previous.lists;
                let chunks = &mut previous.chunks;
                let list = ChunkRef { id: *id, len: content.plaintext_len() };
                let _ = for_each_list(source, list, &mut |list, items| {
                    lists.push(list);
                    chunks.extend(items.iter().map(|item| item.id));
                    Ok(())
                });
            }
        }
        previous
    }

    /// Goes past `id`, the next chunk of the later content, and gives what stood in its place before.
    pub(crate) fn advance(&mut self, id: &ChunkId) -> Option<ChunkId> {
        let near = |range: Range<usize>| {
            let chunks = self.chunks.get(range.clone()).unwrap_or_default();
            chunks.iter().position(|known| known == id).map(|inside| range.start + inside)
        };
        let end = self.chunks.len();
        let here = self.at.min(end);
        let moved = near(here..end.min(here + NEAR)).or_else(|| near(here.saturating_sub(NEAR)..here));
        let replaced = self.chunks.get(here).copied();
        self.at = moved.unwrap_or(self.at) + 1;
        replaced
    }

    /// The chunk list that stood at this number among the lowest.
    pub(crate) fn list(&self, number: usize) -> Option<ChunkId> {
        self.lists.get(number).copied()
    }
}
