//! What a tree reaches: its nodes, the chunk lists of its contents, and the data in them.

use crate::{
    chunks::ChunkReader,
    content::{for_each_chunk, read_list},
    entry::{ChunkRef, Chunks, Content, Entry},
    error::{Error, Result},
    id::ChunkId,
    pack::ChunkKind,
    tree::read_node,
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

/// Whether all that the tree `root` reaches lies in packs that are there to stay.
///
/// # Errors
/// What the storage says.
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
    is_whole(for_each_chunk(chunks, content, &mut |chunk| require(is_held(&chunk.id)?, &chunk.id).map(drop)))
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
            let Some(content) = content else { continue };
            match &content.chunks {
                Chunks::Inline(data) => meet_data(data, meet)?,
                Chunks::List(id) => {
                    walk_list(chunks, &ChunkRef { id: *id, len: content.plaintext_len() }, None, meet)?;
                }
            }
        }
    }
    Ok(())
}

fn walk_list(chunks: &ChunkReader, list: &ChunkRef, expected_level: Option<u8>, meet: Meet) -> Result<()> {
    if !meet(ChunkKind::List, &list.id)? {
        return Ok(());
    }
    let (level, items) = read_list(chunks, list, expected_level)?;
    match level.checked_sub(1) {
        None => meet_data(&items, meet),
        Some(below) => items.iter().try_for_each(|item| walk_list(chunks, item, Some(below), meet)),
    }
}

fn meet_data(data: &[ChunkRef], meet: Meet) -> Result<()> {
    data.iter().try_for_each(|chunk| meet(ChunkKind::Data, &chunk.id).map(drop))
}
