//! `import`: takes backup folders in, each as a snapshot with the backup's own time.
//!
//! Files that Manifest.db names are kept under their names, all others by their places. What cannot be kept is named,
//! counted, and written into the snapshot's record; it makes an import incomplete, but never stops it.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use heirloom_device::backup::{
    Error as BackupError, FileId, FileKey, Manifest, SkipReason, Skipped, find_backups, udid_from_folder_name,
};
use heirloom_store::{
    Content, Details, Entry, Error as StoreError, FileCache, FileStamp, Kind, Name, Outcome, Problem, Repository,
    Sealing, Snapshot, SnapshotWriter, Source, TreePath,
};
use serde::Serialize;

use crate::{
    access::{self, Opened},
    args::{Global, Import},
    backup_folder::{self, Contents, nanoseconds},
    decrypt,
    failure::{Exit, Failure, Result, of_repository},
    identity::Identity,
    interrupt,
    manifest::{self, MANIFEST_DB, Named},
    missing::Missing,
    password::Password,
    report::{Progress, Report, count, of_many, printable},
    same_backup::{self, Same},
    snapshots::{Row as SnapshotRow, kept_line, title},
    unlocking::{self, Locked, Opening, Passwords, Unlocked},
    warnings::Warnings,
};

/// A file that was modified this short before the import may change again without a new time.
const TIME_TO_SETTLE: Duration = Duration::from_secs(2);

pub fn run(args: &Import, global: &Global, report: &Report) -> Result<Exit> {
    let mut summary = Summary::default();
    let mut backups = find(&args.paths, report, &mut summary);
    if backups.is_empty() {
        return summary.finish(report);
    }
    backups.sort_by(|one, other| (&one.udid, one.time).cmp(&(&other.udid, other.time)));
    let repository = access::open(global, report)?;
    let own_folder = fs::canonicalize(access::repository_path(global)?).ok();
    let options = Options { full_read: args.full_read, force: args.force, own_folder };
    let passwords = unlocking::Options {
        plain_is_fine: args.plain_is_fine,
        remember: args.remember_password,
        as_ciphertext: args.as_ciphertext,
    };
    let passwords = Passwords::new(&repository, passwords, report);
    let mut keys = Vec::new();
    for backup in &mut backups {
        keys.push(if backup.is_encrypted { unlock(&passwords, backup) } else { Ok(None) });
    }
    interrupt::catch();
    for (backup, unlocked) in backups.into_iter().zip(keys) {
        let path = backup.path.clone();
        report.note(format_args!("importing {} from {}", printable(&backup.title()), path.display()));
        let result = unlocked.and_then(|unlocked| take_in(&repository, backup, unlocked, &options, report));
        let is_final = result.as_ref().is_err_and(Failure::is_final);
        summary.add(path, result, report)?;
        if is_final {
            break;
        }
    }
    summary.finish(report)
}

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Read files that look unchanged, too.
    pub full_read: bool,
    /// Make a snapshot even of what is kept already.
    pub force: bool,
    /// Where the repository lies, which takes no copies of itself.
    pub own_folder: Option<PathBuf>,
}

/// A backup that is in the repository now.
pub struct Taken {
    pub snapshot: Snapshot,
    pub is_pinned: bool,
    pub outcome: Taking,
    /// Files that Manifest.db names and the folder does not hold.
    pub missing: Missing,
    pub warnings: u64,
    /// What is wrong with the repository, as far as it was noticed.
    pub damage: Vec<Problem>,
}

/// The outcome for a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// It is a new snapshot.
    Kept,
    /// The repository held the same backup before.
    Known,
    /// The repository held it as ciphertext, and holds it as plaintext now.
    Decrypted,
}

/// The keys of a backup that the phone encrypted, if its password is known. That no password can open it is a flaw.
fn unlock(passwords: &Passwords, backup: &mut Identity) -> Result<Option<Box<Unlocked>>> {
    let title = format!("{}, {}", printable(&backup.title()), printable(&backup.path.display().to_string()));
    match passwords.open(Locked { series: &backup.udid, title: &title, manifest: &backup.manifest })? {
        Opening::Open(unlocked) => Ok(Some(unlocked)),
        Opening::NoPassword => Ok(None),
        // Who gives no password wants none to open it.
        Opening::NoKeybag(_) if Password::BACKUP.given()?.is_none() => Ok(None),
        Opening::NoKeybag(why) => {
            backup.flaws.push(format!("{why}: it is kept as the phone encrypted it, and no password opens it"));
            Ok(None)
        }
    }
}

/// Takes one backup folder into the repository. With the keys of a backup that the phone encrypted, its files are kept
/// as plaintext.
fn take_in(
    repository: &Opened,
    backup: Identity,
    unlocked: Option<Box<Unlocked>>,
    options: &Options,
    report: &Report,
) -> Result<Taken> {
    let settled_ns = nanoseconds(SystemTime::now().checked_sub(TIME_TO_SETTLE).unwrap_or(UNIX_EPOCH));
    let warnings = Warnings::new(report);
    backup.flaws.iter().for_each(|flaw| warnings.add(flaw.clone()));
    let contents = read_contents(&backup, options, &warnings)?;
    let time = time_of(&backup, &contents, report)?;
    let writer = repository.write(&backup.udid)?;
    let mut cache = repository.cache_dir().map(FileCache::open);
    let cache_key = backup.path.to_string_lossy().into_owned();
    if !options.force {
        let progress = report.progress("comparing");
        let mut folder = same_backup::Folder {
            root: &backup.path,
            contents: &contents,
            cache: cache.as_mut(),
            cache_key: &cache_key,
            full_read: options.full_read,
            settled_ns,
            progress: &progress,
        };
        if let Some(same) = folder.find_in(repository, &writer, &backup.udid, backup.time)? {
            drop(progress);
            let damage = writer.problems().to_vec();
            drop(writer);
            cache.into_iter().for_each(FileCache::save);
            return known(repository, same, unlocked.as_deref(), damage, &warnings);
        }
    }
    let mut intake = Intake {
        root: &backup.path,
        cache_key,
        writer,
        cache,
        full_read: options.full_read,
        settled_ns,
        warnings: &warnings,
        progress: report.progress("importing"),
        done: heirloom_store::Progress {
            files_total: contents.files(),
            bytes_total: contents.bytes,
            ..Default::default()
        },
        contents,
        missing: Missing::default(),
        opened_files: 0,
        unlocked: unlocked.as_deref(),
    };
    let manifest_file = intake.named_files(backup.is_encrypted)?;
    intake.other_files()?;
    let Intake { writer, cache, missing, opened_files, progress, .. } = intake;
    drop(progress);
    if unlocked.is_some() && opened_files == 0 {
        warnings.add("the password is right, but opens none of the files: they are kept as the phone encrypted them");
    }
    if let Some(told) = missing.told(manifest_file, "is not in the folder", "are not in the folder") {
        warnings.add(told);
        missing.names.iter().for_each(|name| report.detail(format_args!("missing: {}", printable(name))));
    }
    let (warning_count, recorded) = warnings.finish();
    let details = Details {
        encrypted: backup.is_encrypted,
        device: backup.device,
        warnings: recorded,
        warning_count,
        skip_if_same: !options.force,
        ..Details::new(time, Source::Import)
    };
    let damage = writer.problems().to_vec();
    let (snapshot, stats) = writer.commit(details)?;
    if let Some(cache) = cache {
        cache.save();
    }
    let is_pinned = repository.pins()?.contains(&snapshot.id);
    let outcome = if stats.outcome == Outcome::Unchanged { Taking::Known } else { Taking::Kept };
    Ok(Taken { snapshot, is_pinned, outcome, missing, warnings: warning_count, damage })
}

/// All that lies in the folder, but the repository itself.
fn read_contents(backup: &Identity, options: &Options, warnings: &Warnings) -> Result<Contents> {
    let own_folder = options.own_folder.as_deref();
    let contents = Contents::read_without(own_folder, &backup.path, &mut |warning| warnings.add(warning))
        .map_err(|error| Failure::failed(format!("{}: {error}", backup.path.display())))?;
    if contents.has_left_out {
        warnings.report.note("the repository itself lies in this folder, and is left out");
    }
    Ok(contents)
}

/// Tells of a backup that the repository holds already. If it holds it as ciphertext, that is converted where the
/// password is known.
fn known(
    repository: &Opened,
    Same { snapshot, missing }: Same,
    unlocked: Option<&Unlocked>,
    damage: Vec<Problem>,
    warnings: &Warnings,
) -> Result<Taken> {
    let (snapshot, outcome) = match unlocked.filter(|_| decrypt::is_ciphertext(&snapshot)) {
        Some(unlocked) => (decrypt::convert(repository, &snapshot, unlocked, warnings)?, Taking::Decrypted),
        None => (snapshot, Taking::Known),
    };
    let missing = if outcome == Taking::Decrypted { Missing::of(&repository.read(&snapshot)?)? } else { missing };
    snapshot.record.warnings.iter().for_each(|warning| warnings.add_once(warning));
    let (count, _) = warnings.finish();
    let is_pinned = repository.pins()?.contains(&snapshot.id);
    Ok(Taken { is_pinned, outcome, missing, warnings: count.max(snapshot.record.warning_count), damage, snapshot })
}

/// All backups at `paths`. A path that is none is an error of the run, but does not stop it.
fn find(paths: &[PathBuf], report: &Report, summary: &mut Summary) -> Vec<Identity> {
    let mut backups: Vec<Identity> = Vec::new();
    for path in paths {
        let found = match find_backups(path) {
            Ok(found) => found,
            Err(error) => {
                summary.fail(path, cannot_look(&error), report);
                continue;
            }
        };
        for Skipped { path, why } in found.skipped {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let text = format!("{} {why}: skipped", path.display());
            // Any folder may hold links; one that is named like a backup stands for a backup.
            if why == SkipReason::SymbolicLink && udid_from_folder_name(name).is_none() {
                report.detail(printable(&text));
            } else {
                report.warn(text);
                if why == SkipReason::Unreadable {
                    report.note(how_to_be_allowed(cfg!(target_os = "macos")));
                }
                summary.exit = summary.exit.max(Exit::Incomplete);
            }
        }
        if found.backups.is_empty() {
            summary.fail(path, no_backup_in(path), report);
        }
        for folder in found.backups {
            match Identity::read(&folder) {
                // The same folder may have been given twice.
                Ok(backup) if backups.iter().any(|known| known.path == backup.path) => {}
                Ok(backup) => backups.push(backup),
                Err(failure) => summary.fail(&folder.path, failure, report),
            }
        }
    }
    backups
}

/// Where backups may lie below a folder that somebody took for theirs.
const BELOW: [&str; 7] = [
    "Library/Application Support/MobileSync/Backup",
    "Application Support/MobileSync/Backup",
    "MobileSync/Backup",
    "Apple/MobileSync/Backup",
    "AppData/Roaming/Apple Computer/MobileSync/Backup",
    "Apple Computer/MobileSync/Backup",
    // Often a link to a larger disk.
    "Backup",
];

fn no_backup_in(path: &Path) -> Failure {
    if Repository::probe(&*access::storage(path)).is_ok() {
        return Failure::failed(format!("{} is a repository, and no backup", path.display()))
            .hint("`heirloom copy` brings what it holds into another repository");
    }
    let below = BELOW.iter().map(|below| path.join(below));
    let hint = match below.into_iter().find(|below| find_backups(below).is_ok_and(|found| !found.backups.is_empty())) {
        Some(below) => format!("there are some in {}", below.display()),
        None => "a backup is a folder named by a UDID, with a Manifest.db in it; Finder keeps them in ~/Library/Application Support/MobileSync/Backup".to_owned(),
    };
    Failure::failed(format!("{}: there is no backup in it", path.display())).hint(hint)
}

/// Why a folder could not be looked into, and how that is allowed.
fn cannot_look(error: &BackupError) -> Failure {
    let failure = Failure::failed(error.to_string());
    match error {
        BackupError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            failure.hint(how_to_be_allowed(cfg!(target_os = "macos")))
        }
        BackupError::Missing { .. } | BackupError::NotAFolder { .. } => {
            failure.hint("give the folder of a backup, or one of such folders; `heirloom help import` has examples")
        }
        _ => failure,
    }
}

fn how_to_be_allowed(is_macos: bool) -> &'static str {
    if is_macos {
        "macOS hides this folder from programs: allow your terminal Full Disk Access (System Settings, Privacy & Security), and open it anew"
    } else {
        "this user may not read it: run heirloom as the one whose folder it is, or have that one allow it"
    }
}

fn time_of(backup: &Identity, contents: &Contents, report: &Report) -> Result<i64> {
    if let Some(time) = backup.time {
        return Ok(time);
    }
    let newest =
        contents.newest().ok_or_else(|| Failure::failed(format!("{}: it holds no file", backup.path.display())))?;
    report.note("no property list says when the backup was taken: the time of its newest file is used");
    Ok(newest)
}

/// One backup on its way into the repository.
struct Intake<'r> {
    root: &'r Path,
    cache_key: String,
    writer: SnapshotWriter,
    cache: Option<FileCache>,
    full_read: bool,
    /// Files modified later than this are not remembered.
    settled_ns: i64,
    contents: Contents,
    warnings: &'r Warnings<'r>,
    progress: Progress<'r>,
    done: heirloom_store::Progress,
    missing: Missing,
    /// Files that are kept as plaintext of what the phone encrypted.
    opened_files: u64,
    /// Opens what the phone encrypted.
    unlocked: Option<&'r Unlocked>,
}

impl Intake<'_> {
    /// Keeps what the backup's manifest names, and says which file that is.
    fn named_files(&mut self, is_encrypted: bool) -> Result<&'static str> {
        let (root, warnings) = (self.root, self.warnings);
        let manifest = unlocking::open_manifest_in(root, self.unlocked);
        if is_encrypted && self.unlocked.is_none() && matches!(manifest, Ok(Manifest::Mbdb(_))) {
            warnings.report.note("the phone encrypted this backup: its files have names, but are kept as they are until its password is used");
        }
        if matches!(manifest, Err(BackupError::Missing { .. })) && self.contents.is_of_ios_3() {
            warnings.report.note(
                "this backup is of iOS 3 or earlier: its files are kept by the names that they have in the folder",
            );
        }
        let file = manifest.as_ref().map_or(MANIFEST_DB, |manifest| manifest.file_name());
        manifest::for_each(manifest, root, is_encrypted, warnings, &mut |named| self.named_file(named))?;
        Ok(file)
    }

    /// Keeps what Manifest.db names.
    fn named_file(&mut self, Named { name, mut entry, file_id, wrapped_key }: Named) -> Result<()> {
        interrupt::check()?;
        if let Some(file_id) = file_id {
            let key = wrapped_key.and_then(|wrapped| self.unlocked?.file_key(&wrapped));
            self.fill(&mut entry, &name, file_id, key.as_ref())?;
        }
        Ok(self.writer.put(&name, &entry)?)
    }

    /// Gives the entry of a file its content, if that is in the folder.
    fn fill(&mut self, entry: &mut Entry, name: &Name, file_id: FileId, key: Option<&FileKey>) -> Result<()> {
        let Some((place, stamp)) = self.contents.take(file_id) else {
            self.missing.add(name);
            return Ok(());
        };
        let place = TreePath::new(&place)?;
        if let Some((content, stamp)) = self.content_of(name, &place, stamp, key)? {
            entry.content = Some(content);
            entry.place_mtime_ns = Some(stamp.mtime_ns);
            entry.place = (name.apples_place() != place).then_some(place);
        }
        Ok(())
    }

    /// Keeps everything else that is in the folder.
    fn other_files(&mut self) -> Result<()> {
        let mut contents = std::mem::take(&mut self.contents);
        for folder in std::mem::take(&mut contents.empty_folders) {
            self.writer.put(&Name::of_place(&folder), &Entry::new(Kind::Directory))?;
        }
        for (place, stamp) in contents.into_rest() {
            interrupt::check()?;
            let key =
                self.unlocked.and_then(|unlocked| unlocked.manifest_key()).filter(|_| place.as_str() == MANIFEST_DB);
            let name = Name::of_place(&place);
            if let Some((content, stamp)) = self.content_of(&name, &place, stamp, key)? {
                let entry =
                    Entry { content: Some(content), place_mtime_ns: Some(stamp.mtime_ns), ..Entry::new(Kind::File) };
                self.writer.put(&name, &entry)?;
            }
        }
        Ok(())
    }

    /// The content of a file: remembered if the file looks unchanged, else read. `None` if it cannot be read, which is
    /// said.
    fn content_of(
        &mut self,
        name: &Name,
        place: &TreePath,
        stamp: FileStamp,
        key: Option<&FileKey>,
    ) -> Result<Option<(Content, FileStamp)>> {
        let bytes_before = self.done.bytes_done;
        let key = key.filter(|_| Sealing::is_possible(stamp.size));
        let content = match self.remembered(place, &stamp, key)? {
            Some(content) => Some((content, stamp)),
            None => self.read(name, place, key)?,
        };
        self.opened_files += u64::from(content.as_ref().is_some_and(|(content, _)| content.is_sealed()));
        self.done.files_done += 1;
        self.done.bytes_done = bytes_before + stamp.size;
        self.progress.update(self.done);
        Ok(content)
    }

    fn remembered(&self, place: &TreePath, stamp: &FileStamp, key: Option<&FileKey>) -> Result<Option<Content>> {
        let cache = self.cache.as_ref().filter(|_| !self.full_read);
        let known = cache.and_then(|cache| cache.lookup(&self.cache_key, place.as_str(), stamp));
        match known.filter(|content| content.is_sealed() == key.is_some()) {
            Some(content) if self.writer.holds(&content)? => {
                // An unchanged file has the key that it had.
                Ok(Some(key.map_or(content.clone(), |key| content.with_key(key.as_bytes()))))
            }
            _ => Ok(None),
        }
    }

    /// Reads a file, and once more if it changes meanwhile.
    fn read(&mut self, name: &Name, place: &TreePath, key: Option<&FileKey>) -> Result<Option<(Content, FileStamp)>> {
        let mut read = self.read_once(name, place, key)?;
        if matches!(read, Ok(Reading { is_steady: false, .. })) {
            read = self.read_once(name, place, key)?;
        }
        // What does not come back from its plaintext is kept as it is.
        if key.is_some() && matches!(&read, Err(error) if error.kind() == io::ErrorKind::InvalidData) {
            read = self.read_once(name, place, None)?;
        }
        let Reading { content, stamp, is_steady } = match read {
            Ok(reading) => reading,
            Err(error) => {
                self.warnings.add(format!("{place} cannot be read: {error}"));
                return Ok(None);
            }
        };
        if !is_steady {
            self.warnings.add(format!("{place} changed while it was read"));
        } else if let Some(cache) = self.cache.as_mut().filter(|_| stamp.mtime_ns < self.settled_ns) {
            cache.remember(&self.cache_key, place.as_str(), stamp, &content);
        }
        Ok(Some((content, stamp)))
    }

    /// The inner error is the file's, the outer one the repository's.
    fn read_once(&mut self, name: &Name, place: &TreePath, key: Option<&FileKey>) -> Result<io::Result<Reading>> {
        let (file, stamp) = match backup_folder::open(self.root, place) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        let mut watched = Watched { file: &file, progress: &self.progress, done: self.done };
        let stored = match key {
            Some(key) => self.writer.store_sealed(Some(name), &mut watched, key.as_bytes()),
            None => self.writer.store(Some(name), &mut watched),
        };
        match stored {
            Ok(content) => Ok(file.metadata().map(|after| {
                let is_steady = backup_folder::stamp_of(&after) == stamp && content.length == stamp.size;
                Reading { content, stamp, is_steady }
            })),
            Err(StoreError::Source(error)) => interrupt::check().map(|()| Err(error)),
            Err(error) => Err(error.into()),
        }
    }
}

/// What came of reading a file.
struct Reading {
    content: Content,
    stamp: FileStamp,
    /// Whether the file was the same before and after.
    is_steady: bool,
}

/// A file that tells the progress of its reading, and ends early on Ctrl-C.
struct Watched<'a> {
    file: &'a std::fs::File,
    progress: &'a Progress<'a>,
    done: heirloom_store::Progress,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if interrupt::requested() {
            // Not ErrorKind::Interrupted, after which readers try again.
            return Err(io::Error::other("interrupted"));
        }
        let bytes = self.file.read(buffer)?;
        self.done.bytes_done += bytes as u64;
        self.progress.update(self.done);
        Ok(bytes)
    }
}

/// What came of all backups of a run.
#[derive(Default)]
struct Summary {
    exit: Exit,
    kept: u64,
    known: u64,
    failed: u64,
    rows: Vec<ResultRow>,
    damage: BTreeSet<Problem>,
}

/// A backup in the JSON result: an array of them, in the order of importing.
#[derive(Serialize)]
struct ResultRow {
    path: String,
    /// `kept`, `known` (it was kept before), `decrypted` (it was kept before as ciphertext, and is plaintext now) or
    /// `failed`.
    outcome: &'static str,
    snapshot: Option<SnapshotRow>,
    missing_files: u64,
    /// Their names.
    missing: Vec<String>,
    warnings: u64,
    error: Option<String>,
}

impl Summary {
    fn add(&mut self, path: PathBuf, result: Result<Taken>, report: &Report) -> Result<()> {
        let taken = match result {
            Ok(taken) => taken,
            Err(failure) => {
                self.fail(&path, failure, report);
                return Ok(());
            }
        };
        for problem in &taken.damage {
            if self.damage.insert(problem.clone()) {
                report.warn(of_repository("the", problem));
            }
        }
        if taken.warnings > 0 {
            self.exit = self.exit.max(Exit::Incomplete);
        }
        let (outcome, number) = match taken.outcome {
            Taking::Kept => ("kept", &mut self.kept),
            Taking::Known => ("known", &mut self.known),
            Taking::Decrypted => ("decrypted", &mut self.kept),
        };
        *number += 1;
        let line = closing_line(&taken);
        let Taken { snapshot, is_pinned, missing, warnings, .. } = taken;
        self.rows.push(ResultRow {
            path: path.to_string_lossy().into_owned(),
            outcome,
            snapshot: Some(SnapshotRow::of(&snapshot, is_pinned)),
            missing_files: missing.count,
            missing: missing.names,
            warnings,
            error: None,
        });
        if report.json { Ok(()) } else { report.line(line) }
    }

    fn fail(&mut self, path: &Path, failure: Failure, report: &Report) {
        self.failed += 1;
        self.exit = self.exit.max(failure.exit);
        self.rows.push(ResultRow {
            path: path.to_string_lossy().into_owned(),
            outcome: "failed",
            snapshot: None,
            missing_files: 0,
            missing: Vec::new(),
            warnings: 0,
            error: Some(failure.message.clone()),
        });
        report.error(&failure);
    }

    fn finish(self, report: &Report) -> Result<Exit> {
        if report.json {
            report.json(&self.rows)?;
        } else if self.rows.len() > 1 {
            let counted = [(self.kept, "kept"), (self.known, "already kept"), (self.failed, "failed")];
            let parts: Vec<String> = counted
                .iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, what)| format!("{} {what}", count(*number)))
                .collect();
            report.note(format_args!("{}: {}", of_many(self.rows.len() as u64, "backup", "backups"), parts.join(", ")));
        }
        Ok(self.exit)
    }
}

fn closing_line(taken: &Taken) -> String {
    let Taken { snapshot, outcome, .. } = taken;
    let (title, id) = (title(snapshot), snapshot.id.short());
    match outcome {
        Taking::Kept => kept_line(snapshot),
        Taking::Known => format!("{title} is already kept as {id}: nothing new"),
        Taking::Decrypted => format!("{title} was kept as ciphertext, and is plaintext now, as {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// not-allowed-to-look
    #[test]
    fn who_may_not_look_is_told_how() {
        let denied = |kind: io::ErrorKind| {
            cannot_look(&BackupError::Io { path: "/Users/maria/Library".into(), source: kind.into() })
        };
        let failure = denied(io::ErrorKind::PermissionDenied);
        assert!(failure.message.contains("/Users/maria/Library") && failure.hint.is_some(), "{failure:?}");
        assert_eq!(denied(io::ErrorKind::TimedOut).hint, None);
        assert!(how_to_be_allowed(true).contains("Full Disk Access"));
        assert!(how_to_be_allowed(false).contains("this user"));
    }
}
