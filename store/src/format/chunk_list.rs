//! Chunk lists: the chunks of a content that has more than an entry holds (SPEC §9).

use std::collections::HashSet;

use crate::{
    bytes::{Cursor, Malformed, put_varint},
    error::{Error, Result},
    format::{
        entry::{ChunkRef, Chunks, Content, INLINE_MAX_CHUNKS},
        pack::ChunkKind,
        tree::ChunkSource,
    },
    id::ChunkId,
};

const MAX_LEVELS: u8 = 4;
const MAX_ITEMS: usize = 4096;
/// Bytes that an item of a list of level 0 may stand for: no chunk is longer.
const CHUNK_MAX_LEN: u64 = 16 << 20;
/// 512 items a list on average.
const BOUNDARY_MASK: u16 = 0x1ff;

/// Stores a chunk list, and gives its id. Told are its level and its number on it.
pub(crate) type PutList<'a> = &'a mut dyn FnMut(u8, usize, &[u8]) -> Result<ChunkId>;

/// How `chunks` are kept in an entry.
pub(crate) fn chunks_of(chunks: Vec<ChunkRef>, put: PutList) -> Result<Chunks> {
    if chunks.len() <= INLINE_MAX_CHUNKS {
        return Ok(Chunks::Inline(chunks));
    }
    let mut items = chunks;
    for level in 0.. {
        items = put_lists(level, &items, put)?;
        if let [list] = items[..] {
            return Ok(Chunks::List(list.id));
        }
    }
    unreachable!("each level of lists is shorter than the one below");
}

/// Stores `items` in lists of `level`, and gives those as items.
fn put_lists(level: u8, items: &[ChunkRef], put: PutList) -> Result<Vec<ChunkRef>> {
    let mut lists = Vec::new();
    let mut rest = items;
    while !rest.is_empty() {
        let (list, tail) = rest.split_at(list_len(rest));
        let mut bytes = vec![level];
        put_varint(&mut bytes, list.len() as u64);
        list.iter().for_each(|item| item.emit(&mut bytes));
        let id = put(level, lists.len(), &bytes)?;
        lists.push(ChunkRef { id, len: list.iter().map(|item| item.len).sum() });
        rest = tail;
    }
    Ok(lists)
}

fn list_len(items: &[ChunkRef]) -> usize {
    let ends_list = |item: &ChunkRef| {
        let [low, high, ..] = *item.id.as_bytes();
        u16::from_le_bytes([low, high]) & BOUNDARY_MASK == 0
    };
    // A list of one item would make no progress towards the one list on top.
    let end = items.iter().skip(1).position(ends_list).map_or(items.len(), |at| at + 2);
    end.min(MAX_ITEMS)
}

/// Calls `each` with the data chunks of `content` in order.
pub(crate) fn for_each_chunk(
    source: &impl ChunkSource,
    content: &Content,
    each: &mut dyn FnMut(ChunkRef) -> Result<()>,
) -> Result<()> {
    match &content.chunks {
        Chunks::Inline(chunks) => chunks.iter().try_for_each(|&chunk| each(chunk)),
        Chunks::List(id) => {
            let list = ChunkRef { id: *id, len: content.plaintext_len() };
            for_each_list(source, list, &mut |_, chunks| chunks.iter().try_for_each(|&chunk| each(chunk)))
        }
    }
}

/// The same, but for chunks in lists that occur again: for one who wants to know which chunks there are, whatever a few lists claim to make of them.
pub(crate) fn for_each_chunk_once(
    source: &impl ChunkSource,
    content: &Content,
    each: &mut dyn FnMut(ChunkRef) -> Result<()>,
) -> Result<()> {
    let Chunks::List(id) = &content.chunks else { return for_each_chunk(source, content, each) };
    let list = ChunkRef { id: *id, len: content.plaintext_len() };
    let mut met = HashSet::new();
    let mut is_new = |list: &ChunkRef, level| met.insert((list.id, list.len, level));
    for_each_list_of(source, list, None, &mut is_new, &mut |_, chunks| chunks.iter().try_for_each(|&chunk| each(chunk)))
}

/// Calls `each` with the lowest lists below `list` and the data chunks in each, in order.
pub(crate) fn for_each_list(
    source: &impl ChunkSource,
    list: ChunkRef,
    each: &mut dyn FnMut(ChunkId, &[ChunkRef]) -> Result<()>,
) -> Result<()> {
    for_each_list_of(source, list, None, &mut |_, _| true, each)
}

fn for_each_list_of(
    source: &impl ChunkSource,
    list: ChunkRef,
    expected_level: Option<u8>,
    is_wanted: &mut dyn FnMut(&ChunkRef, Option<u8>) -> bool,
    each: &mut dyn FnMut(ChunkId, &[ChunkRef]) -> Result<()>,
) -> Result<()> {
    if !is_wanted(&list, expected_level) {
        return Ok(());
    }
    let (level, items) = read_list(source, &list, expected_level)?;
    match level.checked_sub(1) {
        None => each(list.id, &items),
        Some(below) => {
            items.into_iter().try_for_each(|item| for_each_list_of(source, item, Some(below), is_wanted, each))
        }
    }
}

/// The level and the items of a list, which must be at `expected_level` if that is known from above.
pub(crate) fn read_list(
    source: &impl ChunkSource,
    list: &ChunkRef,
    expected_level: Option<u8>,
) -> Result<(u8, Vec<ChunkRef>)> {
    let damaged = |what| Error::damaged(format!("chunk list {}", list.id), what);
    let (level, items) = parse_list(&source.chunk(&list.id, ChunkKind::List)?).map_err(damaged)?;
    let sum = items.iter().try_fold(0u64, |sum, item| sum.checked_add(item.len));
    if expected_level.is_some_and(|expected| expected != level) || sum != Some(list.len) {
        return Err(damaged("it is not the list that was named"));
    }
    Ok((level, items))
}

/// The data chunks of a content in order, each list read when it is reached. After an error nothing comes.
pub(crate) struct ChunkRefs<'s, S> {
    source: &'s S,
    /// The list on top, until it is read.
    top: Option<ChunkRef>,
    /// What is left of each list on the way down, with its level.
    rest: Vec<(u8, std::vec::IntoIter<ChunkRef>)>,
}

impl<'s, S: ChunkSource> ChunkRefs<'s, S> {
    pub(crate) fn of(source: &'s S, content: &Content) -> ChunkRefs<'s, S> {
        match &content.chunks {
            Chunks::Inline(chunks) => ChunkRefs { source, top: None, rest: vec![(0, chunks.clone().into_iter())] },
            Chunks::List(id) => {
                let top = Some(ChunkRef { id: *id, len: content.plaintext_len() });
                ChunkRefs { source, top, rest: Vec::new() }
            }
        }
    }

    fn enter(&mut self, list: ChunkRef, expected_level: Option<u8>) -> Result<()> {
        let (level, items) = read_list(self.source, &list, expected_level)?;
        self.rest.push((level, items.into_iter()));
        Ok(())
    }
}

impl<S: ChunkSource> Iterator for ChunkRefs<'_, S> {
    type Item = Result<ChunkRef>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut entered = self.top.take().map_or(Ok(()), |top| self.enter(top, None));
        loop {
            if let Err(error) = entered {
                self.rest.clear();
                return Some(Err(error));
            }
            let (level, items) = self.rest.last_mut()?;
            let level = *level;
            entered = match (items.next(), level.checked_sub(1)) {
                (Some(chunk), None) => return Some(Ok(chunk)),
                (Some(list), Some(below)) => self.enter(list, Some(below)),
                (None, _) => {
                    self.rest.pop();
                    Ok(())
                }
            };
        }
    }
}

pub(crate) fn parse_list(bytes: &[u8]) -> Result<(u8, Vec<ChunkRef>), &'static str> {
    let short = |_: Malformed| "it ends too early";
    let mut cursor = Cursor(bytes);
    let level = cursor.u8().map_err(short)?;
    let count = cursor.length().map_err(short)?;
    if level >= MAX_LEVELS || count > MAX_ITEMS {
        return Err("it is too high or too long");
    }
    let items = (0..count).map(|_| ChunkRef::parse(&mut cursor)).collect::<Result<Vec<_>, _>>().map_err(short)?;
    let item_max_len = CHUNK_MAX_LEN * (MAX_ITEMS as u64).pow(level.into());
    if items.iter().any(|item| item.len > item_max_len) {
        return Err("an item stands for more than it can hold");
    }
    if cursor.is_empty() { Ok((level, items)) } else { Err("something follows its items") }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::HashMap};

    use proptest::prelude::*;

    use super::*;
    use crate::format::pack::chunk_id;

    struct Lists(RefCell<HashMap<ChunkId, Vec<u8>>>);

    impl ChunkSource for Lists {
        fn chunk(&self, id: &ChunkId, _: ChunkKind) -> Result<Vec<u8>> {
            self.0.borrow().get(id).cloned().ok_or(Error::ChunkMissing { id: *id })
        }
    }

    #[test]
    fn lists_of_every_length_go_round() {
        for count in [0, 1, 32, 33, 600, 5000, 200_000u32] {
            let lists = Lists(RefCell::default());
            let chunks: Vec<_> = (0..count)
                .map(|n| ChunkRef { id: chunk_id(&[0; 32], ChunkKind::Data, &n.to_le_bytes()), len: u64::from(n) + 1 })
                .collect();
            let mut put = |_, _, bytes: &[u8]| {
                let id = chunk_id(&[0; 32], ChunkKind::List, bytes);
                lists.0.borrow_mut().insert(id, bytes.to_vec());
                Ok(id)
            };
            let kept = chunks_of(chunks.clone(), &mut put).unwrap();
            let length = chunks.iter().map(|chunk| chunk.len).sum();
            let content = Content { hash: [0; 32], length, sealing: None, rule: 1, chunks: kept };
            let mut read = Vec::new();
            for_each_chunk(&lists, &content, &mut |chunk| {
                read.push(chunk);
                Ok(())
            })
            .unwrap();
            assert_eq!(read, chunks);
            assert_eq!(ChunkRefs::of(&lists, &content).collect::<Result<Vec<_>>>().unwrap(), chunks);
            if count > 32 {
                let longer = Content { length: length + 1, ..content };
                assert!(for_each_chunk(&lists, &longer, &mut |_| Ok(())).is_err());
                assert_eq!(ChunkRefs::of(&lists, &longer).filter(Result::is_err).count(), 1);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = parse_list(&bytes);
        }
    }

    /// Lists of lists of one list, which would be read 4096 times 4096 times.
    #[test]
    fn lists_that_occur_again_are_read_once() {
        struct Counted(Lists, std::cell::Cell<u32>);
        impl ChunkSource for Counted {
            fn chunk(&self, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>> {
                self.1.set(self.1.get() + 1);
                self.0.chunk(id, kind)
            }
        }
        let lists = Counted(Lists(RefCell::default()), std::cell::Cell::default());
        let mut item = ChunkRef { id: ChunkId([7; 16]), len: 4096 };
        for level in 0..4 {
            let mut bytes = vec![level];
            put_varint(&mut bytes, MAX_ITEMS as u64);
            (0..MAX_ITEMS).for_each(|_| item.emit(&mut bytes));
            let id = chunk_id(&[0; 32], ChunkKind::List, &bytes);
            lists.0.0.borrow_mut().insert(id, bytes);
            item = ChunkRef { id, len: item.len * MAX_ITEMS as u64 };
        }
        let content =
            Content { hash: [0; 32], length: item.len, sealing: None, rule: 1, chunks: Chunks::List(item.id) };
        let mut met = 0;
        for_each_chunk_once(&lists, &content, &mut |_| {
            met += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!((met, lists.1.get()), (MAX_ITEMS, 4));
    }

    #[test]
    fn items_that_claim_too_much_are_refused() {
        let list = |level: u8, len| {
            let mut bytes = vec![level, 1];
            ChunkRef { id: ChunkId([1; 16]), len }.emit(&mut bytes);
            parse_list(&bytes).map(drop)
        };
        for level in 0..MAX_LEVELS {
            let most = CHUNK_MAX_LEN << (12 * level);
            assert_eq!(list(level, most), Ok(()));
            assert_eq!(list(level, most + 1), Err("an item stands for more than it can hold"));
        }
    }
}
