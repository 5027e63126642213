//! Sessions: who is at work says so, so that nobody deletes what they rely on (SPEC §11).
//!
//! A session is announced before anything is listed. A second file beside it says which marks its owner has read before it relied on anything. So one
//! who sees no session that does not acknowledge a mark knows that nobody relies on what the mark names, unless a snapshot tells. The first file stays
//! until the end: were it replaced, one who lists at that moment might see neither, and one that others have ended would come back to life.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
};

mod seen;

use serde::{Deserialize, Serialize};

use crate::{
    bytes::random,
    clock::unix_seconds,
    error::{Error, Result},
    format::{
        mark::{Mark, read_marks},
        pack::{SegmentPack, list_packs},
        seal::FileKind,
    },
    id::{FileHash, decode_hex, encode_hex},
    index::{Index, SegmentBuilder},
    repository::{
        Repository,
        core::{Core, index_cache},
        machine::{self, Process},
    },
    storage::{
        Storage,
        layout::{SESSIONS_FOLDER, TEMPORARY_FOLDER},
    },
};

pub(crate) use seen::{Moment, end_long_seen};

/// The name of the second file ends so.
const ACKNOWLEDGES: &str = "-acknowledges";
/// Bytes that the name of the first file is the digits of.
const ID_LEN: usize = 16;
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
    may_be_elsewhere: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Announcement {
    started: i64,
    #[serde(flatten)]
    process: Process,
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

    /// Announces anew one whose session others have ended, and tells whether they had. It acknowledges nothing.
    pub(crate) fn renew(&mut self) -> Result<bool> {
        if self.is_there()? {
            return Ok(false);
        }
        self.name = fresh_name()?;
        put(&self.core, &self.name, &self.announcement)?;
        Ok(true)
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

    /// Those who are at work beside this one. Fails if this one was taken for dead, which no list tells, as that may be late.
    pub(crate) fn others(&self) -> Result<Vec<SessionInfo>> {
        self.core.storage.forget_listing(SESSIONS_FOLDER);
        let mut sessions = read_sessions(&self.core)?;
        sessions.retain(|session| session.id != self.name);
        if self.is_there()? { Ok(sessions) } else { Err(Error::Overtaken) }
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
    /// Whether it may run on another computer than this one.
    pub(crate) fn may_be_elsewhere(&self) -> bool {
        self.may_be_elsewhere
    }

    /// Whether it relies on nothing that `mark` names.
    pub(crate) fn acknowledges(&self, mark: &Mark) -> bool {
        self.acknowledges.contains(&mark.name)
    }

    /// By what its files say. One that cannot be read may be anybody's.
    fn of(id: String, announcement: Option<Announcement>, acknowledges: Vec<FileHash>) -> SessionInfo {
        let here = Process::this();
        let Announcement { started, process, prunes, .. } = announcement.unwrap_or_default();
        let is_dead = process.is_gone(&here, machine::is_running);
        let may_be_elsewhere = process.may_be_elsewhere(&here);
        let Process { host, pid, .. } = process;
        SessionInfo { id, started, host, pid, prunes, acknowledges, is_dead, may_be_elsewhere }
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
    /// Any failure of the storage.
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
            process: Process::this(),
            program: crate::PROGRAM.to_owned(),
            prunes: false,
            acknowledges: Vec::new(),
        }
    }
}

fn file(name: &str) -> String {
    format!("{SESSIONS_FOLDER}/{name}")
}

fn fresh_name() -> Result<String> {
    Ok(encode_hex(&random::<ID_LEN>().map_err(Error::Random)?))
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
    let mut sessions = Vec::new();
    for id in list_ids(&*core.storage)? {
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

/// The ids of all sessions by the names of their files. Whatever else lies there is none of ours.
fn list_ids(storage: &dyn Storage) -> Result<BTreeSet<String>> {
    let names = storage.list_folder(SESSIONS_FOLDER)?.into_iter().map(|(name, _)| name);
    let ids = names.map(|name| name.strip_suffix(ACKNOWLEDGES).map_or_else(|| name.clone(), str::to_owned));
    Ok(ids.filter(|id| decode_hex(id, &mut [0; ID_LEN])).collect())
}

/// Whether there is any session, without the key.
pub(crate) fn is_anybody_at_work(storage: &dyn Storage) -> Result<bool> {
    Ok(!list_ids(storage)?.is_empty())
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
    fn only_one_prunes_at_a_time_and_who_acknowledges_a_mark_says_so() {
        let (storage, repository) = new();
        let core = repository.core();
        let mut writer = Session::begin(core).unwrap();
        let pruner = Session::begin_prune(core).unwrap();
        assert!(matches!(Session::begin_prune(core), Err(Error::Busy { .. })));
        let mark = Mark::write(&*core.storage, &core.sealer, &[FileHash([7; 32])].into()).unwrap();
        let others = || pruner.others().unwrap();
        assert!(others().len() == 1 && !others()[0].acknowledges(&mark) && !others()[0].prunes);
        writer.acknowledge(std::slice::from_ref(&mark)).unwrap();
        assert!(others().len() == 1 && others()[0].acknowledges(&mark));
        drop((writer, pruner));
        assert!(!storage.files().keys().any(|name| name.starts_with("sessions/")));
    }

    /// An id of one digit.
    fn id(digit: char) -> String {
        digit.to_string().repeat(2 * ID_LEN)
    }

    #[test]
    fn session_whose_process_is_gone_is_ended_alone() {
        let (storage, repository) = new();
        let core = repository.core();
        // No process has this number.
        let mut gone = Announcement::of_this_process();
        gone.process.pid = u32::MAX;
        put(core, &id('a'), &gone).unwrap();
        put(core, &format!("{}{ACKNOWLEDGES}", id('a')), &gone).unwrap();
        let mut elsewhere = gone;
        elsewhere.process.host = "elsewhere".to_owned();
        put(core, &id('e'), &elsewhere).unwrap();
        storage.put(&file(&id('7')), b"").unwrap();
        storage.put("tmp/leftover", b"").unwrap();
        let session = Session::begin(core).unwrap();
        let mut others: Vec<String> = session.others().unwrap().into_iter().map(|other| other.id).collect();
        others.sort();
        let is_linux = cfg!(target_os = "linux");
        assert!(others.contains(&id('e')) && others.contains(&id('7')));
        assert_eq!(others.len(), if is_linux { 2 } else { 3 });
        assert!(storage.files().contains_key("tmp/leftover"), "somebody may be writing it");
        for session in [&id('e')[..5], &id('7')] {
            repository.end_session(session).unwrap();
        }
        assert!(matches!(repository.end_session(""), Err(Error::NoSuchSession { .. })));
        drop(Session::begin(core).unwrap());
        drop(session);
        drop(Session::begin(core).unwrap());
        assert!(!storage.files().contains_key("tmp/leftover"));
    }

    #[test]
    fn files_of_other_names_are_nobody_at_work() {
        let (storage, repository) = new();
        let [one, upper] = [id('a'), id('A')];
        let litter = [".DS_Store", "Thumbs.db", "desktop.ini", &format!("._{one}"), &format!("{one} 2"), &upper];
        for name in litter.iter().map(|name| (*name).to_owned()).chain([format!("{one}-honours"), one[1..].to_owned()])
        {
            storage.put(&file(&name), b"litter").unwrap();
        }
        assert!(!is_anybody_at_work(&*storage).unwrap());
        assert_eq!(repository.sessions().unwrap(), []);
        let before = storage.files().len();
        let session = Session::begin_prune(repository.core()).unwrap();
        assert_eq!(session.others().unwrap(), []);
        drop(session);
        assert_eq!(storage.files().len(), before, "and what is not ours is left alone");
    }
}
