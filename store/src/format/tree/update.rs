//! A tree out of another and changes, by the nodes on changed paths alone.
//!
//! The generator makes thousands of trees with it. A backup has no use for it: phones and folders name every file each time, and reading the
//! old tree to leave nodes as they are costs more than making them again.

use super::{ChunkSource, Node, OpenNode, TreeBuilder, begins_node, read_node};
use crate::{error::Result, id::ChunkId};

/// A key with its new entry; `None` removes it.
pub(crate) type KeyEdit = (Vec<u8>, Option<Vec<u8>>);

/// The root of the tree that `root` becomes by `edits`, whose keys ascend. It is the root of the tree built anew.
pub(crate) fn update(
    source: &impl ChunkSource,
    root: ChunkId,
    edits: &[KeyEdit],
    tree_key: [u8; 32],
    put: impl FnMut(u8, &[u8], &[u8]) -> Result<ChunkId>,
) -> Result<ChunkId> {
    let mut builder = TreeBuilder::new(tree_key, put);
    add_edited(source, &mut builder, &read_node(source, &root, None)?, edits, None)?;
    builder.finish()
}

/// Adds what a node becomes by `edits`, which lie before the key `end` that follows the node.
fn add_edited<P: FnMut(u8, &[u8], &[u8]) -> Result<ChunkId>>(
    source: &impl ChunkSource,
    builder: &mut TreeBuilder<P>,
    node: &Node,
    mut edits: &[KeyEdit],
    end: Option<(&[u8], bool)>,
) -> Result<()> {
    for at in 0..node.len() {
        let next = (at + 1 < node.len()).then(|| node.key(at + 1));
        let next_edit = next.map_or(edits.len(), |next| edits.partition_point(|(key, _)| key.as_slice() < next));
        let (inside, behind) = edits.split_at(next_edit);
        if node.level == 0 {
            add_entry(builder, node.key(at), node.value(at), inside)?;
        } else {
            let is_kept = behind.first().is_none_or(|(key, entry)| Some(key.as_slice()) != next || entry.is_some());
            let end = next.map(|next| (next, is_kept)).or(end);
            let level = node.level - 1;
            if !(inside.is_empty() && builder.add_node(level.into(), node.key(at), node.child(at), end)?) {
                let child = read_node(source, &node.child(at), Some(node.above_child(at, end.map(|(key, _)| key))))?;
                add_edited(source, builder, &child, inside, end)?;
            }
        }
        edits = behind;
    }
    edits.iter().try_for_each(|(key, entry)| entry.as_ref().map_or(Ok(()), |entry| builder.add(key, entry)))
}

/// Adds an entry and the edits up to the next: those before it, itself or what replaces it, and those behind it.
fn add_entry<P: FnMut(u8, &[u8], &[u8]) -> Result<ChunkId>>(
    builder: &mut TreeBuilder<P>,
    key: &[u8],
    entry: &[u8],
    edits: &[KeyEdit],
) -> Result<()> {
    let (before, rest) = edits.split_at(edits.partition_point(|(edit, _)| edit.as_slice() < key));
    let is_edited = rest.first().is_some_and(|(edit, _)| edit == key);
    let put = |builder: &mut TreeBuilder<P>, edits: &[KeyEdit]| {
        edits.iter().try_for_each(|(key, entry)| entry.as_ref().map_or(Ok(()), |entry| builder.add(key, entry)))
    };
    put(builder, before)?;
    if !is_edited {
        builder.add(key, entry)?;
    }
    put(builder, rest)
}

impl<P: FnMut(u8, &[u8], &[u8]) -> Result<ChunkId>> TreeBuilder<P> {
    /// Adds a node of another tree with the same tree key, if it would come out as it is here. It begins with `first_key`; `end` is the
    /// key that follows it there, and whether it will here too. Gives false where its items must be added one by one.
    fn add_node(&mut self, level: usize, first_key: &[u8], id: ChunkId, end: Option<(&[u8], bool)>) -> Result<bool> {
        let ends = end.is_none_or(|(key, is_kept)| is_kept && begins_node(&self.tree_key, key, level));
        let is_first = self.open.iter().all(|node| node.count == 0);
        let begins = is_first || begins_node(&self.tree_key, first_key, level);
        // A node that is alone is not the root if it has one child alone.
        if !begins || !ends || is_first && end.is_none() {
            return Ok(false);
        }
        for below in 0..=level {
            if self.open.len() == below {
                self.open.push(OpenNode::default());
            }
            if self.open[below].count > 0 {
                self.close(below)?;
            }
        }
        self.push(level + 1, first_key, id.as_bytes())?;
        self.open[level + 1].last_child = Some(id);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::format::tree::tests::{Nodes, numbered};

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    /// The root after the edits, and how many nodes were made.
    fn updated(nodes: &Nodes, map: &Map, edits: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> (ChunkId, usize) {
        let (root, mut made) = (nodes.build(map), 0);
        let edits: Vec<KeyEdit> = edits.clone().into_iter().collect();
        let put = |_, _: &[u8], node: &[u8]| {
            made += 1;
            Ok(nodes.put(node))
        };
        (update(nodes, root, &edits, [3; 32], put).unwrap(), made)
    }

    fn edited(map: &Map, edits: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Map {
        let mut map = map.clone();
        edits.clone().into_iter().for_each(|(key, entry)| match entry {
            Some(entry) => drop(map.insert(key, entry)),
            None => drop(map.remove(&key)),
        });
        map
    }

    proptest! {
        #[test]
        fn it_is_the_tree_built_anew(
            map in prop::collection::btree_map(prop::collection::vec(0u8..3, 0..9), prop::collection::vec(any::<u8>(), 0..40), 0..700),
            edits in prop::collection::btree_map(prop::collection::vec(0u8..3, 0..9), prop::option::of(prop::collection::vec(0u8..3, 0..9)), 0..60),
        ) {
            let nodes = Nodes::default();
            prop_assert_eq!(updated(&nodes, &map, &edits).0, nodes.build(&edited(&map, &edits)));
            let all_gone = map.keys().map(|key| (key.clone(), None)).collect();
            prop_assert_eq!(updated(&nodes, &map, &all_gone).0, nodes.build(&Map::new()));
        }
    }

    #[test]
    fn it_makes_the_nodes_on_changed_paths() {
        let nodes = Nodes::default();
        let map = numbered(20_000);
        let edits = [
            (b"Domain\0path/010000".to_vec(), Some(b"changed".to_vec())),
            (b"Domain\0path/0050005".to_vec(), Some(b"new".to_vec())),
        ];
        let (root, made) = updated(&nodes, &map, &edits.clone().into());
        assert_eq!(root, nodes.build(&edited(&map, &edits.into())));
        assert!(made <= 9, "{made} nodes");
    }
}
