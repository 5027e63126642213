//! Sessions: a writer says that it is at work, so that nobody deletes what it relies on (SPEC §11).

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    bytes::random,
    error::{Error, Result},
    id::encode_hex,
    repository::Core,
    seal::FileKind,
};

const SESSIONS_FOLDER: &str = "sessions";
const TEMPORARY_FOLDER: &str = "tmp";
const SESSION_MAX_LEN: usize = 4096;

/// A writer at work. Dropping it ends the session.
pub(crate) struct Session {
    core: Arc<Core>,
    file: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Announcement {
    started: i64,
    host: String,
    pid: u32,
    boot: String,
    program: String,
}

impl Session {
    /// Announces a writer. Sessions of this machine whose process is gone are ended, and if no other is left, what they
    /// had in `tmp/` is deleted.
    pub(crate) fn begin(core: &Arc<Core>) -> Result<Session> {
        end_dead_sessions(core)?;
        let file = format!("{SESSIONS_FOLDER}/{}", encode_hex(&random::<16>().map_err(Error::Random)?));
        let payload = serde_json::to_vec(&Announcement::of_this_process()).expect("an announcement is plain JSON");
        core.storage.put_file(&file, &core.sealer.seal_payload(FileKind::Session, &payload)?)?;
        Ok(Session { core: core.clone(), file })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A session that stays behind only delays a prune.
        let _ = self.core.storage.delete(&self.file);
    }
}

impl Announcement {
    fn of_this_process() -> Announcement {
        Announcement {
            started: unix_seconds(),
            host: host_name(),
            pid: std::process::id(),
            boot: boot_id(),
            program: crate::PROGRAM.to_owned(),
        }
    }

    /// Whether its process is surely gone: it ran on this machine, which can tell.
    fn is_dead(&self) -> bool {
        let here = self.host == host_name() && !self.boot.is_empty();
        let processes = std::path::Path::new("/proc/self").exists();
        here && (self.boot != boot_id() || processes && !std::path::Path::new(&format!("/proc/{}", self.pid)).exists())
    }
}

fn end_dead_sessions(core: &Core) -> Result<()> {
    let mut alive = 0;
    for (name, _) in core.storage.list_folder(SESSIONS_FOLDER)? {
        let file = format!("{SESSIONS_FOLDER}/{name}");
        let announcement = core
            .storage
            .read_whole(&file, SESSION_MAX_LEN)
            .and_then(|bytes| core.sealer.open_payload(FileKind::Session, &bytes, &file))
            .ok()
            .and_then(|payload| serde_json::from_slice::<Announcement>(&payload).ok());
        if announcement.is_some_and(|announcement| announcement.is_dead()) {
            core.storage.delete_file(&file)?;
        } else {
            alive += 1;
        }
    }
    if alive == 0 {
        for (name, _) in core.storage.list_folder(TEMPORARY_FOLDER)? {
            core.storage.delete_file(&format!("{TEMPORARY_FOLDER}/{name}"))?;
        }
    }
    Ok(())
}

/// Now, in seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Linux tells both in files; elsewhere a session is never presumed dead.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| String::new(), |name| name.trim().to_owned())
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| String::new(), |id| id.trim().to_owned())
}
