//! The sorted map from name to entry of one snapshot, as a prolly tree of chunks (SPEC §9).
//!
//! Where a node ends depends on keys alone, so two trees that differ in few entries share nearly all nodes, and a node that was stored before
//! costs nothing.

use std::ops::Range;

#[cfg(feature = "generate")]
mod update;

#[cfg(feature = "generate")]
pub(crate) use update::update;

use crate::{
    bytes::{Cursor, Malformed, put_varint, varint_len},
    error::{Error, Result},
    format::{entry::Entry, pack::ChunkKind},
    id::ChunkId,
    name::Name,
};

/// A writer's limit for a node; one entry may not be longer than half of it.
const NODE_MAX_LEN: usize = 256 << 10;
pub(crate) const ENTRY_MAX_LEN: usize = NODE_MAX_LEN / 2;
/// A reader's limit.
const NODE_READ_MAX_LEN: usize = 1 << 20;
/// A writer's limit for the keys of a node together, written out: short items can share long prefixes.
const NODE_KEYS_MAX_LEN: usize = 2 << 20;
/// A reader's limit.
const NODE_KEYS_READ_MAX_LEN: usize = 4 << 20;
const MAX_LEVELS: u8 = 16;
/// 64 items a node on average.
const FANOUT_BITS: u32 = 6;

/// Where a tree's nodes come from.
pub(crate) trait ChunkSource {
    /// The plaintext of a chunk, its id checked.
    fn chunk(&self, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>>;
}

impl<S: ChunkSource> ChunkSource for std::sync::Arc<S> {
    fn chunk(&self, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>> {
        self.as_ref().chunk(id, kind)
    }
}

/// Makes a tree from keys in ascending order. `put` stores a node, of which it is told level, first key and bytes, and gives its id.
pub(crate) struct TreeBuilder<P> {
    tree_key: [u8; 32],
    put: P,
    /// The node being filled at each level, leaves first.
    open: Vec<OpenNode>,
}

#[derive(Default)]
struct OpenNode {
    items: Vec<u8>,
    count: u64,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    /// Of all keys together.
    keys_len: usize,
    /// In an inner node, the child that was added last.
    last_child: Option<ChunkId>,
}

impl<P: FnMut(u8, &[u8], &[u8]) -> Result<ChunkId>> TreeBuilder<P> {
    pub(crate) fn new(tree_key: [u8; 32], put: P) -> TreeBuilder<P> {
        TreeBuilder { tree_key, put, open: vec![OpenNode::default()] }
    }

    /// Adds an entry whose key is greater than all before.
    pub(crate) fn add(&mut self, key: &[u8], entry: &[u8]) -> Result<()> {
        let mut value = Vec::with_capacity(entry.len() + 3);
        put_varint(&mut value, entry.len() as u64);
        value.extend_from_slice(entry);
        self.push(0, key, &value)
    }

    /// The root of the tree.
    pub(crate) fn finish(mut self) -> Result<ChunkId> {
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.open.len();
            match self.open[level].last_child {
                Some(child) if is_top && self.open[level].count == 1 => return Ok(child),
                _ if is_top && level == 0 => return self.put_node(0),
                // Whole nodes may have been added above.
                _ if self.open[level].count == 0 => {}
                _ => self.close(level)?,
            }
            level += 1;
        }
    }

    fn push(&mut self, level: usize, key: &[u8], value: &[u8]) -> Result<()> {
        if self.open.len() == level {
            self.open.push(OpenNode::default());
        }
        let node = &self.open[level];
        let is_full = node.len_with(key, value) > NODE_MAX_LEN || node.keys_len + key.len() > NODE_KEYS_MAX_LEN;
        if node.count > 0 && (is_full || begins_node(&self.tree_key, key, level)) {
            self.close(level)?;
        }
        self.open[level].append(key, value);
        Ok(())
    }

    /// Stores the node of `level` and adds it to the level above.
    fn close(&mut self, level: usize) -> Result<()> {
        let id = self.put_node(level)?;
        let node = std::mem::take(&mut self.open[level]);
        self.push(level + 1, &node.first_key, id.as_bytes())?;
        self.open[level + 1].last_child = Some(id);
        Ok(())
    }

    fn put_node(&mut self, level: usize) -> Result<ChunkId> {
        let node = &self.open[level];
        let mut bytes = Vec::with_capacity(node.items.len() + 4);
        bytes.push(level as u8);
        put_varint(&mut bytes, node.count);
        bytes.extend_from_slice(&node.items);
        (self.put)(level as u8, &node.first_key, &bytes)
    }
}

impl OpenNode {
    fn shared_with_last(&self, key: &[u8]) -> usize {
        if self.count == 0 { 0 } else { self.last_key.iter().zip(key).take_while(|(a, b)| a == b).count() }
    }

    /// The node's length if `key` and `value` were appended.
    fn len_with(&self, key: &[u8], value: &[u8]) -> usize {
        let shared = self.shared_with_last(key);
        let rest = key.len() - shared;
        let item = varint_len(shared as u64) + varint_len(rest as u64) + rest + value.len();
        1 + varint_len(self.count + 1) + self.items.len() + item
    }

    fn append(&mut self, key: &[u8], value: &[u8]) {
        let shared = self.shared_with_last(key);
        if self.count == 0 {
            self.first_key = key.to_vec();
        }
        put_varint(&mut self.items, shared as u64);
        put_varint(&mut self.items, (key.len() - shared) as u64);
        self.items.extend_from_slice(&key[shared..]);
        self.items.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.keys_len += key.len();
        self.count += 1;
    }
}

/// Whether an item with `key` begins a new node at `level`.
pub(crate) fn begins_node(tree_key: &[u8; 32], key: &[u8], level: usize) -> bool {
    let hash = blake3::keyed_hash(tree_key, key);
    let number = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash is longer than eight bytes"));
    number.trailing_zeros() >= FANOUT_BITS * (level as u32 + 1)
}

/// A node as it was read.
pub(crate) struct Node {
    pub(crate) level: u8,
    bytes: Vec<u8>,
    /// All keys, one after another.
    keys: Vec<u8>,
    items: Vec<Item>,
}

/// Where a key lies among a node's keys, and its value among the node's bytes.
struct Item {
    key: Range<u32>,
    value: Range<u32>,
}

/// The bytes of a range. Neither a node nor its keys are so long that 32 bits would not do.
fn at<'b>(bytes: &'b [u8], range: &Range<u32>) -> &'b [u8] {
    &bytes[range.start as usize..range.end as usize]
}

/// A node as the nodes above describe it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Above<'k> {
    pub(crate) level: u8,
    pub(crate) first_key: &'k [u8],
    /// The key that follows the node, before which all of its own must lie, so that nobody meets one twice; `None` where none follows.
    pub(crate) end: Option<&'k [u8]>,
}

impl Node {
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Node, &'static str> {
        if bytes.len() > NODE_READ_MAX_LEN {
            return Err("a node is too long");
        }
        let short = |_: Malformed| "a node ends too early";
        let mut cursor = Cursor(&bytes);
        let level = cursor.u8().map_err(short)?;
        if level >= MAX_LEVELS {
            return Err("a tree is too high");
        }
        let (mut keys, mut items) = (Vec::new(), Vec::<Item>::new());
        for _ in 0..cursor.length().map_err(short)? {
            let shared = cursor.varint().map_err(short)?;
            let rest = cursor.bytes().map_err(short)?;
            let previous = items.last().map_or(0..0, |item| item.key.start as usize..item.key.end as usize);
            let shared = usize::try_from(shared).ok().filter(|&shared| shared <= previous.len());
            let shared = shared.ok_or("a node's key shares more than there is")?;
            let start = keys.len();
            if start + shared + rest.len() > NODE_KEYS_READ_MAX_LEN {
                return Err("a node's keys are too long");
            }
            keys.extend_from_within(previous.start..previous.start + shared);
            keys.extend_from_slice(rest);
            if !items.is_empty() && keys[start..] <= keys[previous] {
                return Err("a node's keys do not ascend");
            }
            let value = if level == 0 { cursor.bytes() } else { cursor.take(16) }.map_err(short)?;
            let end = (bytes.len() - cursor.0.len()) as u32;
            items.push(Item { key: start as u32..keys.len() as u32, value: end - value.len() as u32..end });
        }
        if !cursor.is_empty() || (level > 0 && items.is_empty()) {
            return Err("a node is longer than its items, or has none");
        }
        Ok(Node { level, bytes, keys, items })
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn key(&self, at: usize) -> &[u8] {
        self::at(&self.keys, &self.items[at].key)
    }

    pub(crate) fn value(&self, at: usize) -> &[u8] {
        self::at(&self.bytes, &self.items[at].value)
    }

    /// In an inner node, the child at `at`.
    pub(crate) fn child(&self, at: usize) -> ChunkId {
        ChunkId(self.value(at).try_into().expect("an inner node's values are ids"))
    }

    /// In an inner node, what it says of the child at `at`, if `end` is the key that follows the node itself.
    pub(crate) fn above_child<'k>(&'k self, at: usize, end: Option<&'k [u8]>) -> Above<'k> {
        let next = (at + 1 < self.len()).then(|| self.key(at + 1));
        Above { level: self.level - 1, first_key: self.key(at), end: next.or(end) }
    }

    /// The item whose key is `key`.
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        let at = self.lower_bound(key);
        (at < self.len() && self.key(at) == key).then_some(at)
    }

    /// In an inner node, the child below which `key` would lie.
    pub(crate) fn child_for(&self, key: &[u8]) -> Option<ChunkId> {
        let after = self.items.partition_point(|item| self::at(&self.keys, &item.key) <= key);
        after.checked_sub(1).map(|at| self.child(at))
    }

    /// The first item whose key is `key` or greater.
    fn lower_bound(&self, key: &[u8]) -> usize {
        self.items.partition_point(|item| self::at(&self.keys, &item.key) < key)
    }
}

/// Reads the node `id`, which must be what the nodes above say of it, if there are any.
pub(crate) fn read_node(source: &impl ChunkSource, id: &ChunkId, above: Option<Above>) -> Result<Node> {
    let damaged = |what| Error::damaged(format!("tree node {id}"), what);
    let node = Node::parse(source.chunk(id, ChunkKind::Node)?).map_err(damaged)?;
    let is_named = above.is_none_or(|Above { level, first_key, end }| {
        let last = node.len().checked_sub(1).map(|last| node.key(last));
        node.level == level && last.is_some_and(|last| node.key(0) == first_key && end.is_none_or(|end| last < end))
    });
    if is_named { Ok(node) } else { Err(damaged("it is not the node that the one above it names")) }
}

/// The entries of a tree from a key on, in order. A node that cannot be read is an error in its place, and what follows it is
/// read all the same.
pub(crate) struct TreeIter<'a, S> {
    source: &'a S,
    /// The leaf that was read last.
    leaf: Option<ChunkId>,
    /// The path from the root to the leaf being read, with the next item of each.
    stack: Vec<(Node, usize)>,
    root: Option<ChunkId>,
    start: Vec<u8>,
}

impl<'a, S: ChunkSource> TreeIter<'a, S> {
    pub(crate) fn new(source: &'a S, root: ChunkId, start: &[u8]) -> TreeIter<'a, S> {
        TreeIter { source, leaf: None, stack: Vec::new(), root: Some(root), start: start.to_vec() }
    }

    /// Pushes a node, positioned at the start key.
    fn descend(&mut self, id: &ChunkId, above: Option<Above>) -> Result<()> {
        let node = read_node(self.source, id, above)?;
        if node.level == 0 {
            self.leaf = Some(*id);
        }
        let at = node.lower_bound(&self.start);
        let at =
            if node.level > 0 && (at == node.len() || node.key(at) != self.start) { at.saturating_sub(1) } else { at };
        self.stack.push((node, at));
        Ok(())
    }

    /// The key of the item after the one that was taken last.
    fn next_key(&self) -> Option<&[u8]> {
        self.stack.iter().rev().find(|(node, next)| *next < node.len()).map(|(node, next)| node.key(*next))
    }
}

impl<S: ChunkSource> Iterator for TreeIter<'_, S> {
    /// A key and the entry's bytes.
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(root) = self.root.take()
            && let Err(error) = self.descend(&root, None)
        {
            return Some(Err(error));
        }
        loop {
            let (node, next) = self.stack.last_mut()?;
            if *next == node.len() {
                self.stack.pop();
                // Only the first path down is cut short by the start key.
                self.start.clear();
                continue;
            }
            let at = *next;
            *next += 1;
            if node.level == 0 {
                return Some(Ok((node.key(at).to_vec(), node.value(at).to_vec())));
            }
            let (child, level, first_key) = (node.child(at), node.level - 1, node.key(at).to_vec());
            let end = self.next_key().map(<[u8]>::to_vec);
            let above = Above { level, first_key: &first_key, end: end.as_deref() };
            if let Err(error) = self.descend(&child, Some(above)) {
                return Some(Err(error));
            }
        }
    }
}

/// The entries of a tree by number, from 0 in the order of keys, for one who has read all of them and remembers four bytes of each.
#[derive(Default)]
pub(crate) struct NumberedEntries {
    /// The number of the first entry of each leaf, and the leaf.
    leaves: Vec<(u32, ChunkId)>,
    len: u32,
    /// The leaf that was looked into last, by its place among the leaves.
    last: Option<(usize, Node)>,
}

impl NumberedEntries {
    /// Reads a tree, and gives `each` the number, key and bytes of every entry.
    pub(crate) fn read(
        source: &impl ChunkSource,
        root: ChunkId,
        mut each: impl FnMut(u32, &[u8], &[u8]) -> Result<()>,
    ) -> Result<NumberedEntries> {
        let mut leaves: Vec<(u32, ChunkId)> = Vec::new();
        let mut entries = TreeIter::new(source, root, b"");
        let mut len = 0u32;
        while let Some(item) = entries.next() {
            let (key, entry) = item?;
            let number = len;
            len = len.checked_add(1).ok_or_else(|| Error::damaged("a tree", "it has too many entries"))?;
            let leaf = entries.leaf.expect("an entry lies in a leaf");
            if leaves.last().is_none_or(|(_, last)| *last != leaf) {
                leaves.push((number, leaf));
            }
            each(number, &key, &entry)?;
        }
        Ok(NumberedEntries { leaves, len, last: None })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The entry of a number that [`read`](NumberedEntries::read) gave. Those of one leaf are found at once, one after another.
    pub(crate) fn get(&mut self, source: &impl ChunkSource, number: u32) -> Result<(Name, Entry)> {
        let at = self.leaves.partition_point(|(first, _)| *first <= number) - 1;
        let (first, leaf) = self.leaves[at];
        let node = match self.last.take() {
            Some((last, node)) if last == at => node,
            _ => read_node(source, &leaf, None)?,
        };
        let inside = (number - first) as usize;
        let found = parse_item(node.key(inside), node.value(inside));
        self.last = Some((at, node));
        found
    }
}

/// A key and an entry's bytes as what they mean.
pub(crate) fn parse_item(key: &[u8], entry: &[u8]) -> Result<(Name, Entry)> {
    let name = Name::from_key(key).map_err(|error| Error::damaged("a tree", error.to_string()))?;
    let entry = Entry::parse(entry).map_err(|refused| refused.in_file(format!("the entry of {name}")))?;
    Ok((name, entry))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{cell::RefCell, collections::BTreeMap};

    use proptest::prelude::*;

    use super::*;
    use crate::format::pack::chunk_id;

    /// Trees in memory.
    #[derive(Default)]
    pub(crate) struct Nodes(RefCell<BTreeMap<ChunkId, Vec<u8>>>);

    impl ChunkSource for Nodes {
        fn chunk(&self, id: &ChunkId, _: ChunkKind) -> Result<Vec<u8>> {
            self.0.borrow().get(id).cloned().ok_or(Error::ChunkMissing { id: *id })
        }
    }

    impl Nodes {
        pub(crate) fn build(&self, map: &BTreeMap<Vec<u8>, Vec<u8>>) -> ChunkId {
            let mut builder = TreeBuilder::new([3; 32], |_, _, node: &[u8]| Ok(self.put(node)));
            map.iter().for_each(|(key, value)| builder.add(key, value).unwrap());
            builder.finish().unwrap()
        }

        pub(crate) fn put(&self, node: &[u8]) -> ChunkId {
            let id = chunk_id(&[1; 32], ChunkKind::Node, node);
            self.0.borrow_mut().insert(id, node.to_vec());
            id
        }

        pub(crate) fn ids(&self) -> Vec<ChunkId> {
            self.0.borrow().keys().copied().collect()
        }

        pub(crate) fn lose(&self, id: &ChunkId) -> Node {
            Node::parse(self.0.borrow_mut().remove(id).unwrap()).unwrap()
        }
    }

    pub(crate) fn numbered(count: u32) -> BTreeMap<Vec<u8>, Vec<u8>> {
        (0..count).map(|n| (format!("Domain\0path/{n:06}").into_bytes(), vec![n as u8; 200])).collect()
    }

    proptest! {
        #[test]
        fn maps_come_out_as_they_went_in_from_any_key_on(
            map in prop::collection::btree_map(prop::collection::vec(0u8..3, 0..9), prop::collection::vec(any::<u8>(), 0..40), 0..700),
            start in prop::collection::vec(0u8..3, 0..9),
        ) {
            let nodes = Nodes::default();
            let root = nodes.build(&map);
            let read: Vec<_> = TreeIter::new(&nodes, root, &start).map(Result::unwrap).collect();
            let expected: Vec<_> = map.range(start..).map(|(k, v)| (k.clone(), v.clone())).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_bytes_as_a_node_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Node::parse(bytes);
        }
    }

    #[test]
    fn entries_are_found_by_number_in_any_order() {
        let nodes = Nodes::default();
        let entry = Entry::new(crate::Kind::Directory).emit();
        let map: BTreeMap<_, _> = numbered(2000).into_keys().map(|key| (key, entry.clone())).collect();
        let (mut keys, root) = (Vec::new(), nodes.build(&map));
        let mut entries = NumberedEntries::read(&nodes, root, |number, key, _| {
            assert_eq!(number as usize, keys.len());
            keys.push(key.to_vec());
            Ok(())
        })
        .unwrap();
        assert!(keys.iter().eq(map.keys()) && entries.leaves.len() > 10);
        for number in (0..2000).chain((0..2000).rev()).chain((0..2000).map(|n| n * 7 % 2000)) {
            assert_eq!(entries.get(&nodes, number).unwrap().0.key(), keys[number as usize]);
        }
    }

    #[test]
    fn a_change_costs_the_nodes_above_it() {
        let nodes = Nodes::default();
        let mut map = numbered(20_000);
        nodes.build(&map);
        let before = nodes.0.borrow().len();
        assert!((200..600).contains(&before), "{before} nodes");
        map.insert(b"Domain\0path/010000".to_vec(), b"changed".to_vec());
        nodes.build(&map);
        assert!(nodes.0.borrow().len() - before <= 4);
        map.remove(b"Domain\0path/005000".as_slice());
        map.insert(b"Domain\0path/0050005".to_vec(), b"new".to_vec());
        nodes.build(&map);
        assert!(nodes.0.borrow().len() - before <= 9);
    }

    #[test]
    fn long_entries_do_not_make_long_nodes() {
        let nodes = Nodes::default();
        let map: BTreeMap<_, _> = (0..40u8).map(|n| (vec![b'a', n], vec![n; ENTRY_MAX_LEN])).collect();
        let root = nodes.build(&map);
        assert!(nodes.0.borrow().values().all(|node| node.len() <= NODE_MAX_LEN));
        assert_eq!(TreeIter::new(&nodes, root, b"").count(), 40);
    }

    #[test]
    fn a_lost_node_is_an_error_in_its_place() {
        let nodes = Nodes::default();
        let root = nodes.build(&numbered(2000));
        let leaf = *nodes.0.borrow().iter().find(|(id, node)| node[0] == 0 && **id != root).unwrap().0;
        let lost = nodes.lose(&leaf).len();
        let (read, errors): (Vec<_>, Vec<_>) = TreeIter::new(&nodes, root, b"").partition(Result::is_ok);
        assert_eq!((read.len(), errors.len()), (2000 - lost, 1));
    }

    /// A node of these keys, which share as much as they can, with values of `value_len` bytes.
    fn node_of(level: u8, items: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut bytes = vec![level];
        put_varint(&mut bytes, items.len() as u64);
        let mut previous: &[u8] = b"";
        for (key, value) in items {
            let shared = previous.iter().zip(*key).take_while(|(one, other)| one == other).count();
            put_varint(&mut bytes, shared as u64);
            put_varint(&mut bytes, (key.len() - shared) as u64);
            bytes.extend_from_slice(&key[shared..]);
            bytes.extend_from_slice(value);
            previous = key;
        }
        bytes
    }

    #[test]
    fn long_shared_prefixes_are_refused() {
        let prefix = vec![b'x'; 4096];
        let keys: Vec<Vec<u8>> = (0..2_000u32).map(|n| [&prefix[..], &n.to_be_bytes()].concat()).collect();
        let items: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &[0][..])).collect();
        let bytes = node_of(0, &items);
        assert!(bytes.len() < 80_000, "{}", bytes.len());
        assert_eq!(Node::parse(bytes).err(), Some("a node's keys are too long"));
        let fit = NODE_KEYS_READ_MAX_LEN / 4100;
        assert_eq!(Node::parse(node_of(0, &items[..fit])).ok().map(|node| node.len()), Some(fit));
        // A writer ends its nodes before.
        let nodes = Nodes::default();
        let mut builder = TreeBuilder::new([3; 32], |_, _, node: &[u8]| Ok(nodes.put(node)));
        keys.iter().for_each(|key| builder.add(key, b"").unwrap());
        let root = builder.finish().unwrap();
        let read: Vec<_> = TreeIter::new(&nodes, root, b"").map(|item| item.unwrap().0).collect();
        assert!(read == keys);
    }

    /// Each node of a level has all nodes below it that begin later, so that there are more paths than anybody could walk.
    #[test]
    fn nodes_that_overlap_are_met_once() {
        let nodes = Nodes::default();
        let key = |n: u8| vec![b'k', n];
        let mut below: Vec<ChunkId> = (0..60).map(|n| nodes.put(&node_of(0, &[(&key(n), &[0])]))).collect();
        for level in 1..12 {
            let node = |from: usize| {
                let keys: Vec<Vec<u8>> = (from..60).map(|n| key(n as u8)).collect();
                let items: Vec<(&[u8], &[u8])> =
                    keys.iter().zip(&below[from..]).map(|(key, id)| (&key[..], &id.as_bytes()[..])).collect();
                nodes.put(&node_of(level, &items))
            };
            below = (0..60).map(node).collect();
        }
        let (found, lost): (Vec<_>, Vec<_>) = TreeIter::new(&nodes, below[0], b"").partition(Result::is_ok);
        assert!(found.len() <= 60 && lost.len() <= 12 * 60, "{} and {}", found.len(), lost.len());
        assert!(!lost.is_empty());
    }
}
