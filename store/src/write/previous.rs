//! What a series held before, by name: where the bases of deltas are found.
//!
//! Nothing here is needed to be right. What cannot be read is as good as absent, and costs bytes alone.

use std::ops::Range;

use crate::{
    error::Error,
    format::{
        chunk_list::for_each_list,
        entry::{ChunkRef, Chunks, Content, Entry},
        tree::{ChunkSource, Node, read_node},
    },
    id::ChunkId,
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

    /// The node of `level` whose first key this is; the root, whatever its first key is.
    pub(crate) fn node(&mut self, source: &impl ChunkSource, level: u8, first_key: &[u8]) -> Option<ChunkId> {
        if let Some(above) = self.descend(source, level + 1, first_key) {
            return above.find(first_key).map(|at| above.child(at));
        }
        self.root.filter(|_| self.path.first().is_some_and(|(_, root)| root.level == level))
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

/// Chunks of an earlier content that are remembered: those of 256 GiB of a database.
const PREVIOUS_MAX: usize = 4 << 20;
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
                    // A few lists can name endlessly many.
                    if chunks.len() + items.len() > PREVIOUS_MAX {
                        return Err(Error::damaged("a chunk list", "it names more chunks than are looked at"));
                    }
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

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap};

    use super::*;
    use crate::{
        Error, Kind, Result,
        format::{entry::ChunkRef, pack::ChunkKind, tree::TreeBuilder},
    };

    #[derive(Default)]
    struct Nodes(RefCell<BTreeMap<ChunkId, Vec<u8>>>);

    impl ChunkSource for Nodes {
        fn chunk(&self, id: &ChunkId, _: ChunkKind) -> Result<Vec<u8>> {
            self.0.borrow().get(id).cloned().ok_or(Error::ChunkMissing { id: *id })
        }
    }

    fn id(number: u64) -> ChunkId {
        ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes().first_chunk().unwrap())
    }

    fn key(number: u64) -> Vec<u8> {
        format!("HomeDomain\0file {number:06}").into_bytes()
    }

    fn content(number: u64) -> Content {
        let chunks = Chunks::Inline(vec![ChunkRef { id: id(number), len: 1 + number }]);
        Content { hash: [7; 32], length: 1 + number, sealing: None, rule: 1, chunks }
    }

    type ByPlace = BTreeMap<(u8, Vec<u8>), ChunkId>;

    /// A tree of so many files, and its nodes by level and first key.
    fn tree(files: u64) -> (Nodes, ChunkId, ByPlace) {
        let (nodes, mut put) = (Nodes::default(), BTreeMap::new());
        let mut builder = TreeBuilder::new([3; 32], |level, first_key: &[u8], node: &[u8]| {
            let node_id = crate::format::pack::chunk_id(&[1; 32], ChunkKind::Node, node);
            nodes.0.borrow_mut().insert(node_id, node.to_vec());
            put.insert((level, first_key.to_vec()), node_id);
            Ok(node_id)
        });
        for number in 0..files {
            let entry = Entry { content: Some(content(number)), ..Entry::new(Kind::File) };
            builder.add(&key(2 * number), &entry.emit()).unwrap();
        }
        let root = builder.finish().unwrap();
        (nodes, root, put)
    }

    #[test]
    fn every_content_and_node_is_found_in_any_order_and_nothing_else() {
        for files in [0, 1, 40, 6000] {
            let (nodes, root, put) = tree(files);
            let mut previous = PreviousTree::new(Some(root));
            for number in (0..files).chain((0..files).rev().step_by(7)) {
                assert_eq!(previous.content(&nodes, &key(2 * number)), Some(content(number)));
                assert_eq!(previous.content(&nodes, &key(2 * number + 1)), None);
            }
            for ((level, first_key), node) in &put {
                assert_eq!(previous.node(&nodes, *level, first_key), Some(*node), "{files} {level}");
            }
            let top = put.keys().map(|(level, _)| *level).max().unwrap();
            assert_eq!(previous.node(&nodes, top, b"another first key"), Some(root));
            assert_eq!(previous.node(&nodes, top + 1, &key(0)), None);
        }
        assert_eq!(PreviousTree::new(None).content(&tree(3).0, &key(0)), None);
    }

    #[test]
    fn a_lost_node_hides_what_is_below_it_alone() {
        let (nodes, root, put) = tree(6000);
        let (lost, first) = put.iter().find(|((level, key), _)| *level == 0 && !key.ends_with(b"000000")).unwrap();
        nodes.0.borrow_mut().remove(first);
        let mut previous = PreviousTree::new(Some(root));
        assert_eq!(previous.content(&nodes, &lost.1), None);
        assert_eq!(previous.content(&nodes, &key(0)), Some(content(0)));
    }

    #[test]
    fn a_chunk_stands_for_the_one_at_its_place_and_what_moved_is_followed() {
        let chunks = |numbers: &[u64]| numbers.iter().map(|&number| id(number)).collect::<Vec<_>>();
        let previous = || PreviousChunks { chunks: chunks(&[0, 1, 2, 3, 4]), ..PreviousChunks::default() };
        let bases = |later: &[u64]| {
            let mut previous = previous();
            later.iter().map(|&number| previous.advance(&id(number))).collect::<Vec<_>>()
        };
        let replaced = |numbers: [Option<u64>; 5]| numbers.map(|number| number.map(id)).to_vec();
        assert_eq!(bases(&[0, 91, 2, 93, 4]), replaced([Some(0), Some(1), Some(2), Some(3), Some(4)]));
        assert_eq!(bases(&[91, 92, 0, 1, 93])[4], Some(id(2)), "two were put before all");
        assert_eq!(bases(&[3, 91])[1], Some(id(4)), "three are gone");
        assert_eq!(bases(&[0, 1, 2, 3, 4, 95, 96])[5..], [None, None], "it grew");
        assert_eq!(PreviousChunks::default().advance(&id(1)), None);
    }
}
