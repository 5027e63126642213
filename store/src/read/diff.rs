//! What differs between two snapshots, read from the nodes that they do not share.
//!
//! Both trees are walked side by side in the order of keys. Where both are at the beginning of the same node, it is passed over unread: where nodes
//! end depends on keys alone, so two trees meet again soon after each difference.

use std::sync::Arc;

use crate::{
    error::Result,
    format::{
        entry::Entry,
        record::Snapshot,
        tree::{ChunkSource, Node, parse_item, read_node},
    },
    id::ChunkId,
    name::Name,
    read::chunks::ChunkReader,
    repository::Repository,
};

impl Repository {
    /// What differs between two snapshots, of one series or of two. It costs what differs.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub fn diff(&self, before: &Snapshot, after: &Snapshot) -> Result<Diff> {
        Ok(Diff::new(Arc::new(self.chunks()?.0), before.record.root, after.record.root))
    }
}

/// A name that two snapshots do not agree about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is about.
    pub name: Name,
    /// Its entry in the first snapshot; `None` if it was added.
    pub before: Option<Entry>,
    /// Its entry in the second; `None` if it was removed.
    pub after: Option<Entry>,
}

impl Change {
    /// Whether the phone's own thing differs, and not merely the time of its copy, or the ciphertext of the same plaintext.
    pub fn is_news(&self) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => !is_same(before, after),
            _ => true,
        }
    }
}

fn is_same(before: &Entry, after: &Entry) -> bool {
    let content = |entry: &Entry| entry.content.as_ref().map(|content| (content.is_sealed(), content.plaintext_len()));
    let chunks = |entry: &Entry| entry.content.as_ref().map(|content| content.chunks.clone());
    let Entry { kind, place, target, phone, .. } = before;
    (kind, place, target, phone) == (&after.kind, &after.place, &after.target, &after.phone)
        && content(before) == content(after)
        && chunks(before) == chunks(after)
}

/// The differences between two snapshots by domain and path. What cannot be read of either is an error in its place; what the other holds
/// there is left out.
pub struct Diff(TreeDiff<Arc<ChunkReader>>);

impl Diff {
    pub(crate) fn new(chunks: Arc<ChunkReader>, before: ChunkId, after: ChunkId) -> Diff {
        Diff(TreeDiff::new(chunks, before, after))
    }
}

impl Iterator for Diff {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        let change = self.0.next()?.and_then(|KeyChange { key, before, after }| {
            let name = Name::from_key(&key).map_err(|error| crate::Error::damaged("a tree", error.to_string()))?;
            let entry = |bytes: Option<Vec<u8>>| {
                bytes.map(|bytes| parse_item(&key, &bytes)).transpose().map(|item| item.map(|(_, entry)| entry))
            };
            Ok(Change { before: entry(before)?, after: entry(after)?, name })
        });
        Some(change)
    }
}

/// A [`Change`] in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyChange {
    key: Vec<u8>,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

struct TreeDiff<S> {
    source: S,
    /// Until they have been read.
    roots: Option<(ChunkId, ChunkId)>,
    before: Walk,
    after: Walk,
}

impl<S: ChunkSource> TreeDiff<S> {
    fn new(source: S, before: ChunkId, after: ChunkId) -> TreeDiff<S> {
        TreeDiff { source, roots: Some((before, after)), before: Walk::default(), after: Walk::default() }
    }

    fn read_roots(&mut self) -> Result<()> {
        if let Some((before, after)) = self.roots.take().filter(|(before, after)| before != after) {
            let roots = (read_node(&self.source, &before, None)?, read_node(&self.source, &after, None)?);
            self.before.push(roots.0);
            self.after.push(roots.1);
        }
        Ok(())
    }

    /// Goes on until a difference is found.
    fn step(&mut self) -> Result<Option<KeyChange>> {
        self.read_roots()?;
        let TreeDiff { source, before, after, .. } = self;
        loop {
            let (one, other) = (before.here(), after.here());
            let order = match (one, other) {
                (None, None) => return Ok(None),
                // What has come to its end is behind everything.
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(one), Some(other)) => one.key.cmp(other.key),
            };
            if order.is_eq() && one == other {
                before.pass();
                after.pass();
                continue;
            }
            // Of two that begin with the same key, the higher one is entered, or both.
            let heights = (one.map_or(0, |here| here.height), other.map_or(0, |here| here.height));
            let enters_before = heights.0 > 0 && (order.is_lt() || order.is_eq() && heights.0 >= heights.1);
            let enters_after = heights.1 > 0 && (order.is_gt() || order.is_eq() && heights.1 >= heights.0);
            if enters_before && let Err(error) = before.enter(source) {
                pass_lost(source, before, after);
                return Err(error);
            }
            if enters_after && let Err(error) = after.enter(source) {
                pass_lost(source, after, before);
                return Err(error);
            }
            if !enters_before && !enters_after {
                let key = if order.is_le() { before.key() } else { after.key() };
                let key = key.expect("one of them is at an entry").to_vec();
                let before = order.is_le().then(|| before.take());
                return Ok(Some(KeyChange { key, before, after: order.is_ge().then(|| after.take()) }));
            }
        }
    }
}

impl<S: ChunkSource> Iterator for TreeDiff<S> {
    type Item = Result<KeyChange>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// Goes on to where nothing is lost, once `one` is behind a node that could not be read and began before `other`.
fn pass_lost<'w>(source: &impl ChunkSource, mut one: &'w mut Walk, mut other: &'w mut Walk) {
    while other.pass_before(source, one.key()) {
        std::mem::swap(&mut one, &mut other);
    }
}

/// A place in a tree: before an entry, or before a node that has not been entered.
#[derive(Default)]
pub(crate) struct Walk {
    /// The path from the root, with the item of each node at which, or in which, the walk is. No item is past its node's end.
    path: Vec<(Node, usize)>,
}

/// What lies next in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Here<'w> {
    key: &'w [u8],
    /// 0 for an entry, else one more than the level of the node.
    height: u8,
    /// The entry, or the node's id.
    value: &'w [u8],
}

impl Walk {
    /// Before all of the tree of `root`; behind it, if that cannot be read.
    pub(crate) fn new(source: &impl ChunkSource, root: &ChunkId) -> Walk {
        let mut walk = Walk::default();
        if let Ok(root) = read_node(source, root, None) {
            walk.push(root);
        }
        walk
    }

    /// Whether the tree has the node `id` of `level` where its first key is `key`. Keys are to be asked for in order.
    pub(crate) fn shares(&mut self, source: &impl ChunkSource, level: u8, key: &[u8], id: &ChunkId) -> bool {
        self.pass_before(source, Some(key));
        while let Some(here) = self.here().filter(|here| here.key == key && here.height > level) {
            if here.height == level + 1 && here.value == id.as_bytes() {
                return true;
            }
            if here.height == level + 1 || self.enter(source).is_err() {
                break;
            }
        }
        false
    }

    fn here(&self) -> Option<Here<'_>> {
        self.path.last().map(|(node, at)| Here { key: node.key(*at), height: node.level, value: node.value(*at) })
    }

    fn key(&self) -> Option<&[u8]> {
        self.here().map(|here| here.key)
    }

    fn push(&mut self, node: Node) {
        if node.len() > 0 {
            self.path.push((node, 0));
        }
    }

    /// Goes behind what lies next.
    fn pass(&mut self) {
        while let Some((node, at)) = self.path.last_mut() {
            *at += 1;
            if *at < node.len() {
                return;
            }
            self.path.pop();
        }
    }

    /// Goes behind an entry, and gives its bytes.
    fn take(&mut self) -> Vec<u8> {
        let entry = self.here().map_or(Vec::new(), |here| here.value.to_vec());
        self.pass();
        entry
    }

    /// Goes to the first item of the node that lies next; behind it, if it cannot be read.
    fn enter(&mut self, source: &impl ChunkSource) -> Result<()> {
        let Some((above, at)) = self.path.last() else { return Ok(()) };
        let read = read_node(source, &above.child(*at), Some(above.above_child(*at, self.next_key())));
        match read {
            Ok(node) => self.push(node),
            Err(error) => {
                self.pass();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Goes behind all keys that are less than `end`, or behind all. Gives whether it lost a node on the way, so that it may be further.
    fn pass_before(&mut self, source: &impl ChunkSource, end: Option<&[u8]>) -> bool {
        let Some(end) = end else {
            self.path.clear();
            return false;
        };
        let mut has_lost = false;
        while let Some(here) = self.here().filter(|here| here.key < end) {
            if here.height > 0 && self.next_key().is_none_or(|next| next > end) {
                has_lost |= self.enter(source).is_err();
            } else {
                self.pass();
            }
        }
        has_lost
    }

    /// The key behind what lies next.
    fn next_key(&self) -> Option<&[u8]> {
        let behind = self.path.iter().rev().find(|(node, at)| at + 1 < node.len());
        behind.map(|(node, at)| node.key(at + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeMap};

    use proptest::prelude::*;

    use super::*;
    use crate::format::{
        pack::ChunkKind,
        tree::tests::{Nodes, numbered},
    };

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    /// The same by looking at every key.
    fn differences(before: &Map, after: &Map) -> Vec<KeyChange> {
        let keys: std::collections::BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
        let change = |key: &Vec<u8>| KeyChange {
            key: key.clone(),
            before: before.get(key).cloned(),
            after: after.get(key).cloned(),
        };
        keys.into_iter().map(change).filter(|change| change.before != change.after).collect()
    }

    fn diff<'n>(nodes: &'n Nodes, before: &Map, after: &Map) -> TreeDiff<Counting<'n>> {
        let (before, after) = (nodes.build(before), nodes.build(after));
        TreeDiff::new(Counting { nodes, read: Cell::new(0) }, before, after)
    }

    /// Counts the nodes that are read.
    struct Counting<'n> {
        nodes: &'n Nodes,
        read: Cell<usize>,
    }

    impl ChunkSource for Counting<'_> {
        fn chunk(&self, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>> {
            self.read.set(self.read.get() + 1);
            self.nodes.chunk(id, kind)
        }
    }

    fn maps() -> impl Strategy<Value = (Map, Map)> {
        let key = || prop::collection::vec(0u8..3, 0..9);
        let map = prop::collection::btree_map(key(), prop::collection::vec(any::<u8>(), 0..40), 0..700);
        let edits = prop::collection::btree_map(key(), prop::option::of(prop::collection::vec(0u8..2, 0..2)), 0..40);
        (map, edits).prop_map(|(before, edits)| {
            let mut after = before.clone();
            edits.into_iter().for_each(|(key, entry)| match entry {
                Some(entry) => drop(after.insert(key, entry)),
                None => drop(after.remove(&key)),
            });
            (before, after)
        })
    }

    proptest! {
        #[test]
        fn trees_differ_as_their_maps_do((before, after) in maps(), (other, _) in maps()) {
            for (one, two) in [(&before, &after), (&after, &before), (&before, &other), (&before, &Map::new())] {
                let nodes = Nodes::default();
                let found: Vec<_> = diff(&nodes, one, two).map(Result::unwrap).collect();
                prop_assert_eq!(found, differences(one, two));
            }
        }

        #[test]
        fn with_a_lost_node_it_tells_an_error_and_all_that_lies_elsewhere((before, after) in maps(), lost: prop::sample::Index) {
            let nodes = Nodes::default();
            let diff = diff(&nodes, &before, &after);
            let ids = nodes.ids();
            let lost = ids[lost.index(ids.len())];
            let is_root = diff.roots.is_some_and(|(before, after)| lost == before || lost == after);
            let node = nodes.lose(&lost);
            let (found, errors): (Vec<_>, Vec<_>) = diff.partition(Result::is_ok);
            let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
            let all = differences(&before, &after);
            prop_assert!(found.iter().all(|change| all.contains(change)));
            prop_assert!(found.is_sorted_by(|one, two| one.key < two.key));
            if errors.is_empty() {
                prop_assert_eq!(found, all);
            } else if is_root {
                prop_assert_eq!(found, []);
            } else if node.level == 0 {
                // What is told beside the keys of the leaf is as much as there is.
                let (first, last) = (node.key(0), node.key(node.len() - 1));
                let before_it = |change: &&KeyChange| change.key.as_slice() < first;
                prop_assert!(all.iter().filter(before_it).eq(found.iter().filter(before_it)));
                let end = |map: &Map| map.keys().find(|key| key.as_slice() > last && begins(key)).cloned();
                let ends = [end(&before), end(&after)];
                let behind = |change: &&KeyChange| ends.iter().all(|end| end.as_ref().is_some_and(|end| change.key >= *end));
                prop_assert!(all.iter().filter(behind).eq(found.iter().filter(behind)));
            }
        }
    }

    fn begins(key: &[u8]) -> bool {
        crate::format::tree::begins_node(&[3; 32], key, 0)
    }

    #[test]
    fn what_is_shared_is_not_read() {
        let nodes = Nodes::default();
        let before = numbered(20_000);
        let mut after = before.clone();
        after.insert(b"Domain\0path/010000".to_vec(), b"changed".to_vec());
        after.remove(b"Domain\0path/005000".as_slice());
        after.insert(b"Domain\0path/0050005".to_vec(), b"new".to_vec());
        let mut diff = diff(&nodes, &before, &after);
        assert_eq!(diff.by_ref().count(), 3);
        assert!(diff.source.read.get() <= 20, "{} nodes", diff.source.read.get());
        let mut same = self::diff(&nodes, &before, &before);
        assert!(same.next().is_none() && same.source.read.get() == 0);
    }
}
