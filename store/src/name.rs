//! Names and places: the one check of every path (SPEC §9).
//!
//! A [`TreePath`] is where a file lies in a backup folder. A [`Name`] is what it is called on the phone. Both come from phones and
//! from folders that others wrote, so nothing in this library takes a path that did not pass through here.

use std::fmt;

use sha1::{Digest, Sha1};

use crate::{
    error::{Error, Result},
    id::encode_hex,
};

const DOMAIN_MAX_LEN: usize = 255;
pub(crate) const PATH_MAX_LEN: usize = 4096;
/// Of a path on the phone, whose disk takes 255 units of UTF-16, and of a place, which lies on any disk.
const PHONE_PART_MAX_LEN: usize = 1024;
const PLACE_PART_MAX_LEN: usize = 255;

/// A relative path of at least one part, none of them `.` or `..`, as in `3d/3d0d7e5f…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(String);

impl TreePath {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`Error::InvalidName`] with the rule that it breaks.
    pub fn new(text: &str) -> Result<TreePath> {
        let verdict = if text.is_empty() { Err("it is empty") } else { check_place(text) };
        verdict.map(|()| TreePath(text.to_owned())).map_err(|why| Error::InvalidName { name: text.to_owned(), why })
    }

    /// A path that is made of parts of others, and short enough.
    pub(crate) fn joined(text: String) -> TreePath {
        TreePath(text)
    }

    /// The path with `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path's parts, each neither empty nor `.` nor `..`.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The path without its last part.
    pub fn parent(&self) -> Option<TreePath> {
        self.0.rsplit_once('/').map(|(parent, _)| TreePath(parent.to_owned()))
    }
}

impl std::borrow::Borrow<str> for TreePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a thing is called: a domain, and a path in it that may be empty (the domain's root).
///
/// In the domain `""` the path is the place of a file that Manifest.db does not know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// `domain ‖ 0 ‖ path`: the tree's key, and its order.
    key: String,
    domain_len: usize,
}

impl Name {
    /// Checks and joins a domain and a path.
    ///
    /// # Errors
    /// [`Error::InvalidName`] with the rule that they break.
    pub fn new(domain: &str, path: &str) -> Result<Name> {
        let verdict = if domain.len() > DOMAIN_MAX_LEN {
            Err("its domain is longer than 255 bytes")
        } else if domain.contains('\0') {
            Err("it contains a zero byte")
        } else if domain.is_empty() && path.is_empty() {
            Err("it is empty")
        } else if domain.is_empty() {
            check_place(path)
        } else {
            check_path(path, PHONE_PART_MAX_LEN)
        };
        match verdict {
            Ok(()) => Ok(Name { key: format!("{domain}\0{path}"), domain_len: domain.len() }),
            Err(why) => Err(Error::InvalidName { name: format!("{domain}:{path}"), why }),
        }
    }

    /// The name of a file that is known by its place alone.
    pub fn of_place(place: &TreePath) -> Name {
        Name { key: format!("\0{place}"), domain_len: 0 }
    }

    /// Parses a tree's key.
    pub(crate) fn from_key(key: &[u8]) -> Result<Name> {
        let invalid = |why| Error::InvalidName { name: String::from_utf8_lossy(key).into_owned(), why };
        let key = std::str::from_utf8(key).map_err(|_| invalid("it is not UTF-8"))?;
        let (domain, path) = key.split_once('\0').ok_or_else(|| invalid("it has no domain"))?;
        Name::new(domain, path)
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.key.as_bytes()
    }

    /// `HomeDomain`, say.
    pub fn domain(&self) -> &str {
        &self.key[..self.domain_len]
    }

    /// `Library/SMS/sms.db`, say.
    pub fn path(&self) -> &str {
        &self.key[self.domain_len + 1..]
    }

    /// Where a phone puts the file of this name: the SHA-1 of domain, `-` and path, in a folder of its first two digits.
    pub fn apples_place(&self) -> TreePath {
        let mut sha1 = Sha1::new();
        sha1.update(self.domain());
        sha1.update(b"-");
        sha1.update(self.path());
        let digits = encode_hex(&sha1.finalize());
        TreePath(format!("{}/{digits}", &digits[..2]))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.domain_len == 0 { f.write_str(self.path()) } else { write!(f, "{}:{}", self.domain(), self.path()) }
    }
}

/// The rule of places; the empty one passes.
fn check_place(place: &str) -> Result<(), &'static str> {
    check_path(place, PLACE_PART_MAX_LEN)
}

/// The rule of paths, whose parts have at most so many bytes; the empty path passes.
fn check_path(path: &str, part_max_len: usize) -> Result<(), &'static str> {
    if path.len() > PATH_MAX_LEN {
        return Err("it is longer than 4096 bytes");
    }
    if path.contains('\0') {
        return Err("it contains a zero byte");
    }
    if path.is_empty() {
        return Ok(());
    }
    for part in path.split('/') {
        match part {
            "" => return Err("a part of it is empty"),
            "." | ".." => return Err("a part of it is '.' or '..'"),
            part if part.len() > part_max_len => return Err("a part of it is too long"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_paths_are_refused() {
        let long_part = "x".repeat(1025);
        let long_path = "x/".repeat(2049);
        for bad in
            ["", "/", "/a", "a/", "a//b", ".", "..", "../../etc/passwd", "a/../b", "a\0b", &long_part, &long_path]
        {
            assert!(TreePath::new(bad).is_err(), "{bad:?}");
            assert!(bad.is_empty() || Name::new("HomeDomain", bad).is_err(), "{bad:?}");
        }
        assert!(Name::new("", "").is_err());
        assert!(Name::new("a\0b", "c").is_err());
        assert!(Name::new(&"d".repeat(256), "c").is_err());
    }

    /// Apple's file system counts units of UTF-16, of which each may take three bytes.
    #[test]
    fn parts_of_phone_paths_may_be_longer_than_places() {
        let long = "語".repeat(255);
        assert!(long.len() > 255 && Name::new("HomeDomain", &long).is_ok());
        assert!(Name::new("HomeDomain", &"x".repeat(1024)).is_ok());
        assert!(Name::new("", &long).is_err() && TreePath::new(&long).is_err(), "it is a place");
        assert!(Name::new("", &"x".repeat(255)).is_ok() && TreePath::new(&"x".repeat(255)).is_ok());
        assert!(Name::new("", &"x".repeat(256)).is_err() && TreePath::new(&"x".repeat(256)).is_err());
    }

    #[test]
    fn a_name_keeps_domain_and_path_apart_and_knows_apples_place() {
        let name = Name::new("HomeDomain", "Library/SMS/sms.db").unwrap();
        assert_eq!((name.domain(), name.path()), ("HomeDomain", "Library/SMS/sms.db"));
        assert_eq!(name.apples_place().as_str(), "3d/3d0d7e5fb2ce288813306e4d4636395e047a3d28");
        assert_eq!(Name::from_key(name.key()).unwrap(), name);
        assert_eq!(name.to_string(), "HomeDomain:Library/SMS/sms.db");
        assert_eq!(Name::new("HomeDomain", "").unwrap().path(), "");
    }
}
