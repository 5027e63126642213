//! Whether a storage does what the format needs of it (SPEC §2), tried out.

use std::io;

use super::Storage;
use crate::{bytes::random, id::FileHash};

/// What was tried, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was tried, in a word or two.
    pub what: &'static str,
    /// Whether a repository can live with it.
    pub fitness: Fitness,
    /// What was seen, and what it means.
    pub detail: String,
}

/// How well something fits, in ascending order of gravity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// As it should be.
    Fit,
    /// A repository works, but something should be known.
    Note,
    /// A repository would not be safe.
    Unfit,
}

impl Finding {
    /// What is as it should be.
    pub fn fit(what: &'static str, detail: impl Into<String>) -> Finding {
        Finding { what, fitness: Fitness::Fit, detail: detail.into() }
    }

    /// What a person should know.
    pub fn note(what: &'static str, detail: impl Into<String>) -> Finding {
        Finding { what, fitness: Fitness::Note, detail: detail.into() }
    }

    /// What no repository can live with.
    pub fn unfit(what: &'static str, detail: impl Into<String>) -> Finding {
        Finding { what, fitness: Fitness::Unfit, detail: detail.into() }
    }
}

/// Files of a repository are of any length; one of several reads is enough here.
const CONTENT_LEN: usize = 100_000;

/// Does everything with a storage that a repository does, in folders that a repository has. What it writes it deletes, if it can.
pub fn try_out(storage: &dyn Storage) -> Vec<Finding> {
    let trial = match Trial::new(storage) {
        Ok(trial) => trial,
        Err(error) => return vec![Finding::unfit("write", format!("the system gives no random numbers: {error}"))],
    };
    let steps: [Step<'_>; 7] = [
        ("write", Trial::write, "a file under a long name, two folders deep"),
        ("read back", Trial::read_back, "what was written"),
        ("read a part", Trial::read_parts, "from any place in a file"),
        ("list", Trial::list, "shows at once what was written"),
        ("replace", Trial::replace, "a damaged file by a whole one"),
        ("delete", Trial::delete, "and the list knows at once"),
        ("sync", Trial::sync, "what was written is on the disk, or the file system says that it cannot tell"),
    ];
    let mut findings = Vec::new();
    for (what, step, meaning) in steps {
        match step(&trial) {
            Ok(true) => findings.push(Finding::fit(what, meaning)),
            Ok(false) => findings.push(Finding::unfit(what, "what came out is not what went in")),
            Err(error) => findings.push(Finding::unfit(what, error.to_string())),
        }
        // Nothing that follows would say more than the first failure.
        if findings.last().is_some_and(|finding| finding.fitness == Fitness::Unfit) {
            break;
        }
    }
    let _ = storage.delete(&trial.name);
    findings
}

type Step<'s> = (&'static str, fn(&Trial<'s>) -> io::Result<bool>, &'static str);

struct Trial<'s> {
    storage: &'s dyn Storage,
    content: Vec<u8>,
    other: Vec<u8>,
    /// Without its folder.
    listed: String,
    name: String,
}

impl<'s> Trial<'s> {
    fn new(storage: &'s dyn Storage) -> io::Result<Trial<'s>> {
        let mut content = vec![0; CONTENT_LEN];
        blake3::Hasher::new_keyed(&random()?).finalize_xof().fill(&mut content);
        let other = content.iter().map(|byte| !byte).collect();
        let name = FileHash::of(&content).to_string();
        let listed = format!("{}/{name}", &name[..2]);
        Ok(Trial { storage, content, other, name: format!("packs/{listed}"), listed })
    }

    fn write(&self) -> io::Result<bool> {
        self.storage.put(&self.name, &self.content).map(|()| true)
    }

    fn read_back(&self) -> io::Result<bool> {
        Ok(self.storage.read(&self.name, 0, CONTENT_LEN + 1)? == self.content)
    }

    fn read_parts(&self) -> io::Result<bool> {
        for (at, len) in [(0, 1), (4095, 4099), (70_001, 20_000), (CONTENT_LEN - 9, 9)] {
            if self.storage.read(&self.name, at as u64, len)? != self.content[at..at + len] {
                return Ok(false);
            }
        }
        Ok(self.storage.read(&self.name, CONTENT_LEN as u64 - 9, 100)? == self.content[CONTENT_LEN - 9..])
    }

    fn list(&self) -> io::Result<bool> {
        let is_this = |(listed, len): &(String, u64)| *listed == self.listed && *len == CONTENT_LEN as u64;
        Ok(self.storage.list("packs")?.iter().any(is_this))
    }

    fn replace(&self) -> io::Result<bool> {
        self.storage.put(&self.name, &self.other)?;
        Ok(self.storage.read(&self.name, 0, CONTENT_LEN + 1)? == self.other)
    }

    fn delete(&self) -> io::Result<bool> {
        self.storage.delete(&self.name)?;
        Ok(!self.list()?)
    }

    fn sync(&self) -> io::Result<bool> {
        self.storage.sync().map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{LocalStorage, MemoryStorage};

    #[test]
    fn what_works_is_found_fit_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let memory = MemoryStorage::default();
        for storage in [&memory as &dyn Storage, &LocalStorage::new(dir.path())] {
            let findings = try_out(storage);
            assert!(
                findings.len() == 7 && findings.iter().all(|finding| finding.fitness == Fitness::Fit),
                "{findings:?}"
            );
            assert_eq!(storage.list("").unwrap(), []);
        }
    }

    /// Lies in one thing.
    struct Lies(MemoryStorage, &'static str);

    impl Storage for Lies {
        fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
            match self.1 {
                "write" => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
                "read back" => self.0.put(name, &content[..content.len() / 2]),
                "replace" if self.0.list("packs")?.len() == 1 => Ok(()),
                _ => self.0.put(name, content),
            }
        }

        fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
            let offset = if self.1 == "read a part" && offset > 4096 { offset / 4096 * 4096 } else { offset };
            self.0.read(name, offset, len)
        }

        fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
            let mut listed = self.0.list(folder)?;
            if self.1 == "list" {
                listed.clear();
            }
            Ok(listed)
        }

        fn delete(&self, name: &str) -> io::Result<()> {
            if self.1 == "delete" { Ok(()) } else { self.0.delete(name) }
        }

        fn sync(&self) -> io::Result<()> {
            if self.1 == "sync" { Err(io::Error::other("input/output error")) } else { Ok(()) }
        }
    }

    #[test]
    fn each_lie_is_found_where_it_is() {
        for lie in ["write", "read back", "read a part", "list", "replace", "delete", "sync"] {
            let findings = try_out(&Lies(MemoryStorage::default(), lie));
            let last = findings.last().unwrap();
            assert_eq!((last.what, last.fitness), (lie, Fitness::Unfit), "{findings:?}");
        }
    }
}
