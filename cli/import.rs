//! `import`: takes backup folders in, each as a snapshot with the backup's own time.
//!
//! Files that Manifest.db names are kept under their names, all others by their places. What cannot be kept is named, counted,
//! and written into the snapshot's record; it makes an import incomplete, but never stops it.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use heirloom_device::backup::{
    Attributes, Error as BackupError, Kind as RecordKind, Record, Row, SkipReason, Skipped, find_backups,
    udid_from_folder_name,
};
use heirloom_store::{
    Content, Details, Entry, Error as StoreError, FileCache, FileStamp, Kind, Name, Outcome, PhoneMetadata, Problem,
    Repository, Snapshot, SnapshotWriter, Source, TreePath, WriteStats,
};
use serde::Serialize;

use crate::{
    access,
    args::{Global, Import},
    backup_folder::{self, Contents, nanoseconds},
    failure::{Exit, Failure, Result},
    identity::{Identity, flaw_text},
    interrupt,
    report::{Progress, Report, count, files, of_many, printable, size},
    snapshots::{Row as SnapshotRow, title},
};

/// A file that was modified this short before the import may change again without a new time.
const TIME_TO_SETTLE: Duration = Duration::from_secs(2);
/// Of each backup so many warnings are said.
const WARNINGS_SAID: u64 = 20;
/// The longest path that a system takes is the longest that a link can point to.
const TARGET_MAX_LEN: usize = 4096;
/// So many are kept in its record (SPEC §10).
const WARNINGS_RECORDED: usize = 100;

pub fn run(args: &Import, global: &Global, report: &Report) -> Result<Exit> {
    let mut summary = Summary::default();
    let mut backups = find(&args.paths, report, &mut summary);
    if backups.is_empty() {
        return summary.finish(report);
    }
    backups.sort_by(|one, other| (&one.udid, one.time).cmp(&(&other.udid, other.time)));
    let repository = access::open(global, report)?;
    interrupt::catch();
    let options = Options { full_read: args.full_read, force: args.force };
    for backup in backups {
        let path = backup.path.clone();
        report.note(format_args!("importing {} from {}", printable(&backup.title()), path.display()));
        let result = take_in(&repository, backup, options, report);
        let is_final = result.as_ref().is_err_and(Failure::is_final);
        summary.add(path, result, report)?;
        if is_final {
            break;
        }
    }
    summary.finish(report)
}

/// How to import.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Read files that look unchanged, too.
    pub full_read: bool,
    /// Make a snapshot even of what is kept already.
    pub force: bool,
}

/// A backup that is in the repository now.
pub struct Taken {
    pub snapshot: Snapshot,
    pub stats: WriteStats,
    /// Files that Manifest.db names and the folder does not hold.
    pub missing_files: u64,
    pub warnings: u64,
    /// What is wrong with the repository, as far as it was noticed.
    pub damage: Vec<Problem>,
}

impl Taken {
    /// Whether the repository held the same backup before.
    pub fn is_known(&self) -> bool {
        self.stats.outcome == Outcome::Unchanged
    }
}

/// Takes one backup folder into the repository.
pub fn take_in(repository: &Repository, backup: Identity, options: Options, report: &Report) -> Result<Taken> {
    let settled_ns = nanoseconds(SystemTime::now() - TIME_TO_SETTLE);
    let mut warnings = Warnings { report, count: 0, recorded: Vec::new() };
    backup.flaws.iter().for_each(|flaw| warnings.add(flaw.clone()));
    let contents = Contents::read(&backup.path, &mut |warning| warnings.add(warning))
        .map_err(|error| Failure::failed(format!("{}: {error}", backup.path.display())))?;
    let time = time_of(&backup, &contents, report)?;
    let mut intake = Intake {
        root: &backup.path,
        cache_key: backup.path.to_string_lossy().into_owned(),
        writer: repository.write(&backup.udid)?,
        cache: repository.cache_dir().map(FileCache::open),
        full_read: options.full_read,
        settled_ns,
        warnings,
        progress: report.progress("importing"),
        done: heirloom_store::Progress {
            files_done: 0,
            files_total: contents.files(),
            bytes_done: 0,
            bytes_total: contents.bytes,
        },
        contents,
        missing_files: 0,
        rows_without_metadata: 0,
    };
    intake.named_files(backup.is_encrypted, report)?;
    intake.other_files()?;
    let intake = intake.say_totals();
    let warned = &intake.warnings;
    let details = Details {
        time,
        source: Source::Import,
        encrypted: backup.is_encrypted,
        device: backup.device,
        warnings: warned.recorded.clone(),
        warning_count: warned.count,
        skip_if_same: !options.force,
    };
    let (warnings, missing_files) = (warned.count, intake.missing_files);
    let damage = intake.writer.problems().to_vec();
    let (snapshot, stats) = intake.writer.commit(details)?;
    if let Some(cache) = intake.cache {
        cache.save();
    }
    Ok(Taken { snapshot, stats, missing_files, warnings, damage })
}

/// All backups at `paths`. A path that is none is an error of the run, but does not stop it.
fn find(paths: &[PathBuf], report: &Report, summary: &mut Summary) -> Vec<Identity> {
    let mut backups: Vec<Identity> = Vec::new();
    for path in paths {
        let found = match find_backups(path) {
            Ok(found) => found,
            Err(error) => {
                summary.fail(path, Failure::failed(error.to_string()), report);
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

fn no_backup_in(path: &Path) -> Failure {
    Failure::failed(format!("{}: there is no backup in it", path.display())).hint(
        "a backup is a folder named by a UDID, with a Manifest.db in it; Finder keeps them in ~/Library/Application Support/MobileSync/Backup",
    )
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
    warnings: Warnings<'r>,
    progress: Progress<'r>,
    done: heirloom_store::Progress,
    missing_files: u64,
    /// Rows of Manifest.db whose metadata cannot be read.
    rows_without_metadata: u64,
}

impl Intake<'_> {
    /// Keeps what Manifest.db names, in its order, which is that of the tree.
    fn named_files(&mut self, is_encrypted: bool, report: &Report) -> Result<()> {
        let path = self.root.join("Manifest.db");
        let failed = |error: BackupError| {
            format!("{}; the files that it names are kept by their places", flaw_text(&error, self.root))
        };
        let database = match heirloom_device::backup::ManifestDb::open(&path) {
            Ok(database) => database,
            Err(BackupError::NotADatabase { .. }) if is_encrypted => {
                report.note("the phone encrypted this backup: it is kept as it is, and its files have no names until its password is used");
                return Ok(());
            }
            Err(error) => {
                self.warnings.add(failed(error));
                return Ok(());
            }
        };
        let records = match database.records() {
            Ok(records) => records,
            Err(error) => {
                self.warnings.add(failed(error));
                return Ok(());
            }
        };
        for row in records {
            interrupt::check()?;
            match row {
                Ok(Row::Record(record)) => self.named_file(&record)?,
                Ok(Row::Unusable { what, why }) => self.warnings.add(format!("Manifest.db: {what}: {why}")),
                Err(error) => self.warnings.add(failed(error)),
            }
        }
        Ok(())
    }

    fn named_file(&mut self, record: &Record) -> Result<()> {
        let name = match Name::new(&record.domain, &record.relative_path) {
            Ok(name) => name,
            Err(error) => {
                self.warnings.add(format!("Manifest.db: {error}; the file is kept by its place"));
                return Ok(());
            }
        };
        let mut entry = Entry::new(match record.kind {
            RecordKind::File => Kind::File,
            RecordKind::Directory => Kind::Directory,
            RecordKind::Symlink => Kind::Symlink,
        });
        match &record.attributes {
            Ok(attributes) => {
                entry.phone = metadata_of(attributes);
                entry.target = attributes.target.clone();
            }
            Err(_) => self.rows_without_metadata += 1,
        }
        if record.kind == RecordKind::File {
            self.fill(&mut entry, &name, record)?;
        }
        self.put(&name, entry)
    }

    fn put(&mut self, name: &Name, mut entry: Entry) -> Result<()> {
        if entry.target.as_ref().is_some_and(|target| target.len() > TARGET_MAX_LEN) {
            self.warnings.add(format!(
                "Manifest.db: {name}: where this link points is longer than {TARGET_MAX_LEN} bytes, and is not kept"
            ));
            entry.target = None;
        }
        Ok(self.writer.put(name, &entry)?)
    }

    /// Gives the entry of a file its content, if that is in the folder.
    fn fill(&mut self, entry: &mut Entry, name: &Name, record: &Record) -> Result<()> {
        let Some(stamp) = self.contents.take(record.file_id) else {
            self.missing_files += 1;
            return Ok(());
        };
        let place = TreePath::new(&record.file_id.place())?;
        if let Some((content, stamp)) = self.content_of(&place, stamp)? {
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
            self.put(&Name::of_place(&folder), Entry::new(Kind::Directory))?;
        }
        for (place, stamp) in contents.into_rest() {
            interrupt::check()?;
            if let Some((content, stamp)) = self.content_of(&place, stamp)? {
                let entry =
                    Entry { content: Some(content), place_mtime_ns: Some(stamp.mtime_ns), ..Entry::new(Kind::File) };
                self.put(&Name::of_place(&place), entry)?;
            }
        }
        Ok(())
    }

    /// The content of a file: remembered if the file looks unchanged, else read. `None` if it cannot be read, which is said.
    fn content_of(&mut self, place: &TreePath, stamp: FileStamp) -> Result<Option<(Content, FileStamp)>> {
        let bytes_before = self.done.bytes_done;
        let content = match self.remembered(place, &stamp)? {
            Some(content) => Some((content, stamp)),
            None => self.read(place)?,
        };
        self.done.files_done += 1;
        self.done.bytes_done = bytes_before + stamp.size;
        self.progress.update(self.done);
        Ok(content)
    }

    fn remembered(&self, place: &TreePath, stamp: &FileStamp) -> Result<Option<Content>> {
        let cache = self.cache.as_ref().filter(|_| !self.full_read);
        match cache.and_then(|cache| cache.lookup(&self.cache_key, place.as_str(), stamp)) {
            Some(content) if self.writer.holds(&content)? => Ok(Some(content)),
            _ => Ok(None),
        }
    }

    /// Reads a file, and once more if it changes meanwhile.
    fn read(&mut self, place: &TreePath) -> Result<Option<(Content, FileStamp)>> {
        let mut read = self.read_once(place)?;
        if matches!(read, Ok(Reading { is_steady: false, .. })) {
            read = self.read_once(place)?;
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
    fn read_once(&mut self, place: &TreePath) -> Result<io::Result<Reading>> {
        let (file, stamp) = match backup_folder::open(self.root, place) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        let mut watched = Watched { file: &file, progress: &self.progress, done: self.done };
        match self.writer.store(&mut watched) {
            Ok(content) => Ok(file.metadata().map(|after| {
                let is_steady = backup_folder::stamp_of(&after) == stamp && content.length == stamp.size;
                Reading { content, stamp, is_steady }
            })),
            Err(StoreError::Source(error)) => interrupt::check().map(|()| Err(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Says what there was too much of to say one by one.
    fn say_totals(mut self) -> Self {
        if self.missing_files > 0 {
            let verb = if self.missing_files == 1 { "is" } else { "are" };
            self.warnings.add(format!("{} that Manifest.db names {verb} not in the folder", files(self.missing_files)));
        }
        if self.rows_without_metadata > 0 {
            let text = format!(
                "{} of Manifest.db have no metadata that can be read",
                of_many(self.rows_without_metadata, "row", "rows")
            );
            self.warnings.report.detail(text);
        }
        self.warnings.say_the_rest();
        self
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

fn metadata_of(attributes: &Attributes) -> PhoneMetadata {
    PhoneMetadata {
        mode: Some(attributes.mode),
        user: attributes.uid,
        group: attributes.gid,
        inode: attributes.inode,
        size: Some(attributes.size),
        mtime: Some(attributes.mtime),
        ctime: attributes.ctime,
        btime: attributes.btime,
        protection_class: attributes.protection_class.map(u32::from),
        flags: attributes.flags,
    }
}

/// What is not as it should be with one backup: the first are said, more are recorded, all are counted.
struct Warnings<'r> {
    report: &'r Report,
    count: u64,
    recorded: Vec<String>,
}

impl Warnings<'_> {
    fn add(&mut self, warning: String) {
        self.count += 1;
        if self.count <= WARNINGS_SAID {
            self.report.warn(&warning);
        }
        if self.recorded.len() < WARNINGS_RECORDED {
            self.recorded.push(warning);
        }
    }

    fn say_the_rest(&self) {
        if self.count > WARNINGS_SAID {
            self.report.warn(format_args!("and {} more", of_many(self.count - WARNINGS_SAID, "warning", "warnings")));
        }
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
    path: PathBuf,
    /// `kept`, `known` (it was kept before) or `failed`.
    outcome: &'static str,
    snapshot: Option<SnapshotRow>,
    missing_files: u64,
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
                report.warn(format_args!("the repository is damaged: {problem}"));
            }
        }
        if taken.warnings > 0 {
            self.exit = self.exit.max(Exit::Incomplete);
        }
        let outcome = if taken.is_known() { "known" } else { "kept" };
        *(if taken.is_known() { &mut self.known } else { &mut self.kept }) += 1;
        let Taken { snapshot, missing_files, warnings, .. } = &taken;
        self.rows.push(ResultRow {
            path,
            outcome,
            snapshot: Some(SnapshotRow::of(snapshot)),
            missing_files: *missing_files,
            warnings: *warnings,
            error: None,
        });
        if report.json { Ok(()) } else { report.line(closing_line(&taken)) }
    }

    fn fail(&mut self, path: &Path, failure: Failure, report: &Report) {
        self.failed += 1;
        self.exit = self.exit.max(failure.exit);
        self.rows.push(ResultRow {
            path: path.to_owned(),
            outcome: "failed",
            snapshot: None,
            missing_files: 0,
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

/// `kept Maria's iPhone of 2021-01-15 02:38 as 1f3a9c2e: 13 files, 3.5 MB, 812 KB new`
fn closing_line(taken: &Taken) -> String {
    let record = &taken.snapshot.record;
    let backup = title(&taken.snapshot);
    let id = taken.snapshot.id.short();
    if taken.is_known() {
        return format!("{backup} is already kept as {id}: nothing new");
    }
    let added = match record.added_bytes {
        0 => "nothing".to_owned(),
        bytes => size(bytes),
    };
    let (number, bytes) = (files(record.files), size(record.bytes));
    format!("kept {backup} as {id}: {number}, {bytes}, {added} new")
}
