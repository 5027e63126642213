//! What a tree reaches: its nodes, the chunk lists of its contents, and the data in them.

use crate::{
    chunks::ChunkReader,
    content::parse_list,
    entry::{ChunkRef, Chunks, Entry},
    error::{Error, Result},
    id::ChunkId,
    pack::ChunkKind,
    tree::{ChunkSource, read_node},
};

/// What is called for each chunk that a tree reaches, in the order of names. Of a node or a list it says whether what is below it is to be met, too.
pub(crate) type Meet<'a> = &'a mut dyn FnMut(ChunkKind, &ChunkId) -> Result<bool>;

/// Meets everything that the tree `root` reaches.
///
/// # Errors
/// What `meet` says, or why a node or list cannot be read: then nobody knows what is below it.
pub(crate) fn walk(chunks: &ChunkReader, root: &ChunkId, meet: Meet) -> Result<()> {
    walk_node(chunks, root, None, meet)
}

fn walk_node(chunks: &ChunkReader, id: &ChunkId, above: Option<(u8, &[u8])>, meet: Meet) -> Result<()> {
    if !meet(ChunkKind::Node, id)? {
        return Ok(());
    }
    let node = read_node(chunks, id, above)?;
    for at in 0..node.len() {
        if node.level > 0 {
            walk_node(chunks, &node.child(at), Some((node.level - 1, node.key(at))), meet)?;
        } else {
            let content =
                Entry::parse(node.value(at)).map_err(|what| Error::damaged(format!("tree node {id}"), what))?.content;
            match content.map(|content| content.chunks) {
                None => {}
                Some(Chunks::Inline(data)) => meet_data(&data, meet)?,
                Some(Chunks::List(list)) => walk_list(chunks, &list, None, meet)?,
            }
        }
    }
    Ok(())
}

fn walk_list(chunks: &ChunkReader, id: &ChunkId, level: Option<u8>, meet: Meet) -> Result<()> {
    if !meet(ChunkKind::List, id)? {
        return Ok(());
    }
    let damaged = |what| Error::damaged(format!("chunk list {id}"), what);
    let (found, items) = parse_list(&chunks.chunk(id, ChunkKind::List)?).map_err(damaged)?;
    if level.is_some_and(|level| level != found) {
        return Err(damaged("it is not the list that was named"));
    }
    match found.checked_sub(1) {
        None => meet_data(&items, meet),
        Some(below) => items.iter().try_for_each(|list| walk_list(chunks, &list.id, Some(below), meet)),
    }
}

fn meet_data(data: &[ChunkRef], meet: Meet) -> Result<()> {
    data.iter().try_for_each(|chunk| meet(ChunkKind::Data, &chunk.id).map(drop))
}
