//! Others at work beside one: what they do happens before any one of its moments, in one process and in an order that is always the same.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use heirloom_store::{MemoryStorage, Repository, Storage, Unlock};

/// What `one` does to a repository, and `other` before its moment number `at`.
pub fn beside<O, T: Send + 'static>(
    disk: &Arc<MemoryStorage>,
    moments: Moments,
    at: usize,
    one: impl FnOnce(&Repository) -> O,
    other: impl FnOnce() -> T + Send + 'static,
) -> (O, Option<T>) {
    let came_out = Arc::new(Mutex::new(None));
    let to = came_out.clone();
    let other: Box<dyn FnOnce() + Send> = Box::new(move || *to.lock().unwrap() = Some(other()));
    let (disk, passed, other) = (disk.clone(), AtomicUsize::new(0), Mutex::new(Some(other)));
    let storage = Interposed { disk, moments, at, passed, other };
    let outcome = one(&Repository::open(Arc::new(storage), Unlock::Open, None).unwrap());
    let came_out = came_out.lock().unwrap().take();
    (outcome, came_out)
}

/// The disk of one at whose n-th change, read or list, something else happens first.
struct Interposed {
    disk: Arc<MemoryStorage>,
    moments: Moments,
    at: usize,
    passed: AtomicUsize,
    other: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moments {
    Changes,
    Reads,
}

impl Interposed {
    fn pass(&self, moments: Moments) {
        if moments == self.moments && self.passed.fetch_add(1, Relaxed) == self.at {
            let other = self.other.lock().unwrap().take();
            other.expect("it happens once")();
        }
    }
}

impl Storage for Interposed {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.pass(Moments::Changes);
        self.disk.put(name, content)
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.pass(Moments::Reads);
        self.disk.read(name, offset, len)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.pass(Moments::Reads);
        self.disk.list(folder)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.pass(Moments::Changes);
        self.disk.delete(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.pass(Moments::Changes);
        Ok(())
    }
}
