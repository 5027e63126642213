//! A folder in memory: directories of files, each known by its place.
//!
//! A phone has half a million files, nearly all called by forty digits: those take twenty bytes. Directories are numbered and not nested in
//! each other, so that moving one is moving its number, and no depth of nesting is too much.

use std::collections::BTreeMap;

use crate::{
    error::Result,
    id::{decode_hex, encode_hex},
    name::TreePath,
};

/// Files of type `F` by their places, and the directories that they lie in.
#[derive(Debug, Clone)]
pub(crate) struct Folder<F> {
    /// By number; the first is the folder itself.
    directories: Vec<BTreeMap<Part, Node<F>>>,
    /// Numbers of directories that are no more.
    free: Vec<u32>,
}

const ROOT: u32 = 0;

/// What lies at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node<F> {
    /// The directory of this number.
    Directory(u32),
    File(F),
}

/// A part of a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Forty lower-case digits.
    Digits([u8; 20]),
    Text(Box<str>),
}

impl Part {
    fn of(text: &str) -> Part {
        let mut bytes = [0; 20];
        if decode_hex(text, &mut bytes) { Part::Digits(bytes) } else { Part::Text(text.into()) }
    }

    fn text(&self) -> String {
        match self {
            Part::Digits(bytes) => encode_hex(bytes),
            Part::Text(text) => text.to_string(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Part::Digits(bytes) => 2 * bytes.len(),
            Part::Text(text) => text.len(),
        }
    }
}

impl<F> Folder<F> {
    pub(crate) fn new() -> Folder<F> {
        Folder { directories: vec![BTreeMap::new()], free: Vec::new() }
    }

    pub(crate) fn get(&self, place: &TreePath) -> Option<&Node<F>> {
        let (parent, name) = split(place);
        self.directories[self.directory(parent)? as usize].get(&Part::of(name))
    }

    pub(crate) fn file(&self, place: &TreePath) -> Option<&F> {
        match self.get(place)? {
            Node::File(file) => Some(file),
            Node::Directory(_) => None,
        }
    }

    /// What lies directly in a directory, if there is one; without a place, in the folder itself.
    pub(crate) fn list(&self, place: Option<&TreePath>) -> Option<impl Iterator<Item = (String, &Node<F>)>> {
        let number = self.directory(place.map_or("", TreePath::as_str))?;
        Some(self.directories[number as usize].iter().map(|(part, node)| (part.text(), node)))
    }

    /// The file that lies above `place`, where there should be a directory.
    pub(crate) fn file_above(&self, place: &TreePath) -> Option<TreePath> {
        std::iter::successors(place.parent(), TreePath::parent).find(|parent| self.file(parent).is_some())
    }

    /// Makes a directory, and those above it; gives its number. No file may be at `place` or above it.
    pub(crate) fn create_dir(&mut self, place: &TreePath) -> u32 {
        place.parts().fold(ROOT, |above, part| {
            let part = Part::of(part);
            match self.directories[above as usize].get(&part) {
                Some(Node::Directory(number)) => *number,
                _ => {
                    let number = self.new_directory();
                    self.directories[above as usize].insert(part, Node::Directory(number));
                    number
                }
            }
        })
    }

    /// Puts what was taken or copied at `place`, and drops what was there. No file may be above it.
    pub(crate) fn insert(&mut self, place: &TreePath, node: Node<F>) {
        let number = place.parent().map_or(ROOT, |parent| self.create_dir(&parent));
        let before = self.directories[number as usize].insert(Part::of(split(place).1), node);
        before.into_iter().for_each(|before| self.drop_node(before));
    }

    /// Takes away what lies at `place`, to be inserted elsewhere.
    pub(crate) fn take(&mut self, place: &TreePath) -> Option<Node<F>> {
        let (parent, name) = split(place);
        let number = self.directory(parent)?;
        self.directories[number as usize].remove(&Part::of(name))
    }

    pub(crate) fn remove(&mut self, place: &TreePath) {
        self.take(place).into_iter().for_each(|node| self.drop_node(node));
    }

    /// How much longer than its own place the longest of the places below `node` is.
    pub(crate) fn depth_below(&self, node: &Node<F>) -> usize {
        let mut deepest = 0;
        let mut waiting = Vec::from_iter(number_of(node).map(|number| (number, 0)));
        while let Some((number, above)) = waiting.pop() {
            for (part, node) in &self.directories[number as usize] {
                let len = above + 1 + part.len();
                deepest = deepest.max(len);
                waiting.extend(number_of(node).map(|number| (number, len)));
            }
        }
        deepest
    }

    /// Calls `each` with every file, and with every directory that holds nothing, as `None`, until it fails.
    pub(crate) fn for_each(&self, mut each: impl FnMut(TreePath, Option<&F>) -> Result<()>) -> Result<()> {
        let mut waiting = vec![(ROOT, String::new())];
        while let Some((number, prefix)) = waiting.pop() {
            let directory = &self.directories[number as usize];
            if directory.is_empty() && number != ROOT {
                each(TreePath::joined(prefix.trim_end_matches('/').to_owned()), None)?;
            }
            for (part, node) in directory {
                let place = format!("{prefix}{}", part.text());
                match node {
                    Node::File(file) => each(TreePath::joined(place), Some(file))?,
                    Node::Directory(number) => waiting.push((*number, place + "/")),
                }
            }
        }
        Ok(())
    }

    /// The number of the directory at `place`, `""` being the folder itself.
    fn directory(&self, place: &str) -> Option<u32> {
        let mut parts = place.split('/').filter(|part| !part.is_empty());
        parts.try_fold(ROOT, |above, part| number_of(self.directories[above as usize].get(&Part::of(part))?))
    }

    fn new_directory(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.directories.push(BTreeMap::new());
            (self.directories.len() - 1) as u32
        })
    }

    fn drop_node(&mut self, node: Node<F>) {
        let mut waiting = Vec::from_iter(number_of(&node));
        while let Some(number) = waiting.pop() {
            let directory = std::mem::take(&mut self.directories[number as usize]);
            waiting.extend(directory.values().filter_map(number_of));
            self.free.push(number);
        }
    }
}

impl<F: Clone> Folder<F> {
    /// A copy of `node`, each of its files as `copied` makes it, to be inserted elsewhere.
    pub(crate) fn copy(&mut self, node: &Node<F>, copied: impl Fn(&F) -> F) -> Node<F> {
        let number = match node {
            Node::File(file) => return Node::File(copied(file)),
            Node::Directory(number) => *number,
        };
        let top = self.new_directory();
        let mut waiting = vec![(number, top)];
        while let Some((from, to)) = waiting.pop() {
            let mut copy = BTreeMap::new();
            for (part, node) in self.directories[from as usize].clone() {
                let node = match node {
                    Node::File(file) => Node::File(copied(&file)),
                    Node::Directory(below) => {
                        let number = self.new_directory();
                        waiting.push((below, number));
                        Node::Directory(number)
                    }
                };
                copy.insert(part, node);
            }
            self.directories[to as usize] = copy;
        }
        Node::Directory(top)
    }
}

fn number_of<F>(node: &Node<F>) -> Option<u32> {
    match node {
        Node::Directory(number) => Some(*number),
        Node::File(_) => None,
    }
}

/// The directory of a place, which may be `""`, and the name in it.
fn split(place: &TreePath) -> (&str, &str) {
    place.as_str().rsplit_once('/').unwrap_or(("", place.as_str()))
}

/// A file or a folder in a listing, or looked up by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stat {
    /// A file of so many bytes, modified so many nanoseconds after 1970.
    File {
        /// Bytes.
        length: u64,
        /// Nanoseconds since 1970.
        mtime_ns: i64,
    },
    /// A directory.
    Directory,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn all(folder: &Folder<u8>) -> Vec<(String, Option<u8>)> {
        let mut all = Vec::new();
        let push = |place: TreePath, file: Option<&u8>| {
            all.push((place.to_string(), file.copied()));
            Ok(())
        };
        folder.for_each(push).unwrap();
        all.sort();
        all
    }

    #[test]
    fn digits_are_names_like_any_other() {
        let digits = "3d0d7e5fb2ce288813306e4d4636395e047a3d28";
        let names = [digits.to_owned(), digits.to_uppercase(), digits[..39].to_owned(), format!("{digits}00")];
        let mut folder = Folder::new();
        for (n, name) in (0..).zip(&names) {
            folder.insert(&place(&format!("3d/{name}")), Node::File(n));
        }
        let mut expected: Vec<_> = names.iter().map(|name| format!("3d/{name}")).zip((0..).map(Some)).collect();
        expected.sort();
        assert_eq!(all(&folder), expected);
        assert_eq!(folder.list(Some(&place("3d"))).unwrap().count(), 4);
        assert_eq!(folder.file(&place(&format!("3d/{}", names[1]))), Some(&1));
    }

    #[test]
    fn what_is_removed_leaves_room_for_what_comes() {
        let mut folder = Folder::new();
        for _ in 0..100 {
            folder.insert(&place("a/b/c/d"), Node::File(1));
            let copy = folder.copy(&folder.get(&place("a")).unwrap().clone(), |file| file + 1);
            folder.insert(&place("e"), copy);
            assert_eq!(all(&folder), [("a/b/c/d".into(), Some(1)), ("e/b/c/d".into(), Some(2))]);
            folder.remove(&place("a/b"));
            folder.remove(&place("e"));
            assert_eq!(all(&folder), [("a".into(), None)]);
        }
        assert!(folder.directories.len() < 10, "{}", folder.directories.len());
    }

    #[test]
    fn no_depth_is_too_much() {
        let mut folder = Folder::new();
        let deep = place(&["d"; 2048].join("/"));
        folder.insert(&deep, Node::File(1));
        let top = folder.take(&place("d")).unwrap();
        assert_eq!(folder.depth_below(&top), 2 * 2047);
        let copy = folder.copy(&top, |&file| file);
        folder.insert(&place("e"), top);
        folder.insert(&place("f"), copy);
        assert_eq!(all(&folder).len(), 2);
        folder.remove(&place("e"));
        assert_eq!(all(&folder).len(), 1);
    }
}
