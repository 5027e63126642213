//! Sessions: who is at work says so, so that nobody deletes what they rely on (SPEC §11).
//!
//! A session is announced before anything is listed. A second file beside it says which marks its owner has read before it relied on anything. So one
//! who sees no session that does not acknowledge a mark knows that nobody relies on what the mark names, unless a snapshot tells. The first file stays
//! until the end: were it replaced, one who lists at that moment might see neither, and one that others have ended would come back to life.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    bytes::random,
    error::{Error, Result},
    id::{FileHash, encode_hex},
    index::{Index, SegmentBuilder, SegmentPack, list_packs},
    mark::{Mark, read_marks},
    private,
    repository::{Core, Repository, index_cache},
    seal::FileKind,
};

pub(crate) const SESSIONS_FOLDER: &str = "sessions";
const TEMPORARY_FOLDER: &str = "tmp";
/// The name of the second file ends so.
const ACKNOWLEDGES: &str = "-acknowledges";
/// In the cache folder: which sessions were seen since when.
const SEEN_FILE: &str = "sessions";
/// No backup takes a week.
const SILENT_SECONDS: i64 = 7 * 24 * 60 * 60;
/// A session names a few marks, each in 67 bytes.
const SESSION_MAX_LEN: usize = 64 << 10;

/// Somebody at work: this process. Dropping it ends the session.
pub(crate) struct Session {
    core: Arc<Core>,
    name: String,
    announcement: Announcement,
}

/// Who is at work, by the file in `sessions/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The name of the file.
    pub id: String,
    /// When it began, by its own clock, in seconds since 1970; 0 if the file cannot be read.
    pub started: i64,
    /// The machine; empty where that is not known.
    pub host: String,
    /// The process there.
    pub pid: u32,
    /// Whether it frees room.
    pub prunes: bool,
    acknowledges: Vec<FileHash>,
    is_dead: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Announcement {
    started: i64,
    host: String,
    pid: u32,
    boot: String,
    program: String,
    prunes: bool,
    acknowledges: Vec<FileHash>,
}

impl Session {
    /// Announces one who writes. Sessions of this machine whose process is gone are ended, and if no other is left, what they
    /// had in `tmp/` is deleted.
    pub(crate) fn begin(core: &Arc<Core>) -> Result<Session> {
        Session::announce(core, Announcement::of_this_process())
    }

    /// Announces one who prunes, unless another does.
    pub(crate) fn begin_prune(core: &Arc<Core>) -> Result<Session> {
        let session = Session::announce(core, Announcement { prunes: true, ..Announcement::of_this_process() })?;
        session.refuse_prunes()?;
        Ok(session)
    }

    fn announce(core: &Arc<Core>, announcement: Announcement) -> Result<Session> {
        end_dead_sessions(core)?;
        let name = fresh_name()?;
        put(core, &name, &announcement)?;
        Ok(Session { core: core.clone(), name, announcement })
    }

    /// Says that what `marks` name was not relied on since the session began, nor will be.
    pub(crate) fn acknowledge(&mut self, marks: &[Mark]) -> Result<()> {
        if marks.is_empty() {
            return Ok(());
        }
        let acknowledges = marks.iter().map(|mark| mark.name).collect();
        put(
            &self.core,
            &format!("{}{ACKNOWLEDGES}", self.name),
            &Announcement { acknowledges, ..self.announcement.clone() },
        )
    }

    /// Announces anew one whose session others have ended. It acknowledges nothing.
    pub(crate) fn renew(&mut self) -> Result<()> {
        self.name = fresh_name()?;
        put(&self.core, &self.name, &self.announcement)
    }

    /// Whether nobody has taken this process for dead.
    pub(crate) fn is_there(&self) -> Result<bool> {
        self.core.storage.has_file(&file(&self.name))
    }

    /// Writes a segment of packs that are durable, and takes it into the index. If others have taken this process for dead, it names none that is gone
    /// or marked since.
    pub(crate) fn write_segment(
        &self,
        index: &mut Index,
        mut segment: SegmentBuilder,
        cache_dir: Option<&Path>,
    ) -> Result<()> {
        let Core { storage, sealer, .. } = &*self.core;
        if !self.is_there()? {
            let (marks, _) = read_marks(&**storage, sealer)?;
            let marked: HashSet<FileHash> = marks.into_iter().flat_map(|mark| mark.packs).collect();
            let there = list_packs(&**storage)?;
            let stays = |pack: &SegmentPack| there.contains_key(&pack.id()) && !marked.contains(&pack.name);
            segment.retain_packs(stays);
            let gone = index.packs().filter(|pack| !stays(pack)).map(|pack| pack.name).collect();
            index.drop_packs(&gone);
        }
        index.write_segment(&**storage, sealer, index_cache(cache_dir).as_deref(), segment)
    }

    /// Those who are at work beside this one. Fails if this one was taken for dead.
    pub(crate) fn others(&self) -> Result<Vec<SessionInfo>> {
        let mut sessions = read_sessions(&self.core)?;
        let count = sessions.len();
        sessions.retain(|session| session.id != self.name);
        if sessions.len() == count { Err(Error::Overtaken) } else { Ok(sessions) }
    }

    /// Fails while somebody else prunes.
    pub(crate) fn refuse_prunes(&self) -> Result<()> {
        match self.others()?.into_iter().find(|session| session.prunes) {
            Some(session) => Err(Error::Busy { session: session.to_string() }),
            None => Ok(()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A session that stays behind only delays a prune.
        let _ = delete(&self.core, &self.name);
    }
}

impl SessionInfo {
    /// Whether it relies on nothing that `mark` names.
    pub(crate) fn acknowledges(&self, mark: &Mark) -> bool {
        self.acknowledges.contains(&mark.name)
    }

    /// By what its files say. One that cannot be read may be anybody's.
    fn of(id: String, announcement: Option<Announcement>, acknowledges: Vec<FileHash>) -> SessionInfo {
        let is_dead = announcement.as_ref().is_some_and(Announcement::is_dead);
        let Announcement { started, host, pid, prunes, .. } = announcement.unwrap_or_default();
        SessionInfo { id, started, host, pid, prunes, acknowledges, is_dead }
    }
}

impl std::fmt::Display for SessionInfo {
    /// `process 1234 on laptop (session 1f3a9c2e)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.id.get(..8).unwrap_or(&self.id);
        match (self.pid, self.host.as_str()) {
            (0, _) => write!(f, "somebody (session {id})"),
            (pid, "") => write!(f, "process {pid} (session {id})"),
            (pid, host) => write!(f, "process {pid} on {host} (session {id})"),
        }
    }
}

impl Repository {
    /// Who is at work in the repository now, as far as can be told.
    ///
    /// # Errors
    /// What the storage says.
    pub fn sessions(&self) -> Result<Vec<SessionInfo>> {
        let mut sessions = read_sessions(self.core())?;
        sessions.retain(|session| !session.is_dead);
        Ok(sessions)
    }

    /// Ends the session of one who is surely not at work any more: what it relied on may be deleted from now on. One who is at work all the
    /// same notices it before it is done, and fails if anything has gone.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], if none or more than one has an id that begins so, or what the storage says.
    pub fn end_session(&self, id: &str) -> Result<SessionInfo> {
        let mut sessions = self.sessions()?;
        sessions.retain(|session| !id.is_empty() && session.id.starts_with(id));
        let [session] = &sessions[..] else { return Err(Error::NoSuchSession { id: id.to_owned() }) };
        delete(self.core(), &session.id)?;
        Ok(sessions.remove(0))
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
            prunes: false,
            acknowledges: Vec::new(),
        }
    }

    /// Whether its process is surely gone: it ran on this machine, which can tell.
    fn is_dead(&self) -> bool {
        let here = self.host == host_name() && !self.boot.is_empty();
        let processes = std::path::Path::new("/proc/self").exists();
        here && (self.boot != boot_id() || processes && !std::path::Path::new(&format!("/proc/{}", self.pid)).exists())
    }
}

fn file(name: &str) -> String {
    format!("{SESSIONS_FOLDER}/{name}")
}

fn fresh_name() -> Result<String> {
    Ok(encode_hex(&random::<16>().map_err(Error::Random)?))
}

fn put(core: &Core, name: &str, announcement: &Announcement) -> Result<()> {
    core.put_json(FileKind::Session, &file(name), announcement)
}

/// Deletes both files of a session.
fn delete(core: &Core, id: &str) -> Result<()> {
    core.storage.delete_file(&file(id))?;
    core.storage.delete_file(&file(&format!("{id}{ACKNOWLEDGES}")))
}

fn read_sessions(core: &Core) -> Result<Vec<SessionInfo>> {
    let mut ids = BTreeSet::new();
    for (name, _) in core.storage.list_folder(SESSIONS_FOLDER)? {
        ids.insert(name.strip_suffix(ACKNOWLEDGES).map_or_else(|| name.clone(), str::to_owned));
    }
    let mut sessions = Vec::new();
    for id in ids {
        let first = read(core, &id);
        let second = read(core, &format!("{id}{ACKNOWLEDGES}"));
        let has_ended = |read: &Result<Announcement>| read.as_ref().is_err_and(Error::is_missing_file);
        if has_ended(&first) && has_ended(&second) {
            continue;
        }
        let acknowledges = second.as_ref().map_or_else(|_| Vec::new(), |second| second.acknowledges.clone());
        sessions.push(SessionInfo::of(id, first.or(second).ok(), acknowledges));
    }
    Ok(sessions)
}

fn read(core: &Core, name: &str) -> Result<Announcement> {
    core.read_json(FileKind::Session, &file(name), SESSION_MAX_LEN)
}

/// Ends sessions that this machine has seen for seven days by its own watching, which is in the folder `cache`, and gives those. No clocks of two machines
/// are compared. `now` is in seconds since 1970.
pub(crate) fn end_long_seen(core: &Core, cache: &Path, now: i64) -> Result<Vec<SessionInfo>> {
    let path = cache.join(SEEN_FILE);
    let seen = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<BTreeMap<String, i64>>(&bytes).ok());
    let seen = seen.unwrap_or_default();
    let since = |session: &SessionInfo| seen.get(&session.id).copied().filter(|&since| since <= now).unwrap_or(now);
    let (ended, watched): (Vec<_>, Vec<_>) =
        read_sessions(core)?.into_iter().partition(|session| now - since(session) >= SILENT_SECONDS);
    ended.iter().try_for_each(|session| delete(core, &session.id))?;
    let watched: BTreeMap<&str, i64> = watched.iter().map(|session| (session.id.as_str(), since(session))).collect();
    // What is not kept is seen for the first time again.
    if let Ok(bytes) = serde_json::to_vec(&watched) {
        let _ = private::create_folder(cache).and_then(|()| private::write(&path, &bytes));
    }
    Ok(ended)
}

fn end_dead_sessions(core: &Core) -> Result<()> {
    // Before the sessions: who begins to write from now on is not taken for one who has ended.
    let leftovers = core.storage.list_folder(TEMPORARY_FOLDER)?;
    let (dead, alive): (Vec<_>, Vec<_>) = read_sessions(core)?.into_iter().partition(|session| session.is_dead);
    dead.iter().try_for_each(|session| delete(core, &session.id))?;
    if alive.is_empty() {
        for (name, _) in leftovers {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStorage, Options, Storage};

    fn new() -> (Arc<MemoryStorage>, Repository) {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        (storage, repository)
    }

    #[test]
    fn a_session_is_ended_when_it_was_seen_for_seven_days() {
        let (_, repository) = new();
        let cache = tempfile::tempdir().unwrap();
        let session = Session::begin(repository.core()).unwrap();
        let end_at = |now| end_long_seen(repository.core(), cache.path(), now).unwrap().len();
        assert_eq!([0, 5, SILENT_SECONDS - 1].map(end_at), [0; 3]);
        assert!(session.is_there().unwrap());
        // A clock that was set back begins anew.
        assert_eq!([-9, SILENT_SECONDS - 10, SILENT_SECONDS - 9].map(end_at), [0, 0, 1]);
        assert!(!session.is_there().unwrap());
    }

    #[test]
    fn only_one_prunes_at_a_time_and_who_acknowledges_a_mark_says_so() {
        let (storage, repository) = new();
        let core = repository.core();
        let mut writer = Session::begin(core).unwrap();
        let pruner = Session::begin_prune(core).unwrap();
        assert!(matches!(Session::begin_prune(core), Err(Error::Busy { .. })));
        let mark = Mark::write(core, &[FileHash([7; 32])].into()).unwrap();
        let others = || pruner.others().unwrap();
        assert!(others().len() == 1 && !others()[0].acknowledges(&mark) && !others()[0].prunes);
        writer.acknowledge(std::slice::from_ref(&mark)).unwrap();
        assert!(others().len() == 1 && others()[0].acknowledges(&mark));
        drop((writer, pruner));
        assert!(!storage.files().keys().any(|name| name.starts_with("sessions/")));
    }

    #[test]
    fn a_session_of_a_process_that_is_gone_is_ended_and_one_that_cannot_be_read_is_not() {
        let (storage, repository) = new();
        let core = repository.core();
        // No process has this number.
        let gone = Announcement { pid: u32::MAX, ..Announcement::of_this_process() };
        put(core, "gone", &gone).unwrap();
        put(core, "gone-acknowledges", &gone).unwrap();
        let elsewhere = "elsewhere".to_owned();
        put(core, &elsewhere, &Announcement { host: "elsewhere".into(), ..gone }).unwrap();
        storage.put("sessions/torn", b"").unwrap();
        storage.put("tmp/leftover", b"").unwrap();
        let session = Session::begin(core).unwrap();
        let mut others: Vec<String> = session.others().unwrap().into_iter().map(|other| other.id).collect();
        others.sort();
        let is_linux = cfg!(target_os = "linux");
        assert!(others.contains(&elsewhere) && others.contains(&"torn".to_owned()));
        assert_eq!(others.len(), if is_linux { 2 } else { 3 });
        assert!(storage.files().contains_key("tmp/leftover"), "somebody may be writing it");
        for id in [&elsewhere[..5], "torn"] {
            repository.end_session(id).unwrap();
        }
        assert!(matches!(repository.end_session(""), Err(Error::NoSuchSession { .. })));
        drop(Session::begin(core).unwrap());
        drop(session);
        drop(Session::begin(core).unwrap());
        assert!(!storage.files().contains_key("tmp/leftover"));
    }
}
