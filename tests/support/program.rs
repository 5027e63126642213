//! The program, run as a person would: in a home of its own, by the names that are typed there. And backups to run it on.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, FileTimes},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use heirloom_sim::{Location, Phone, write_backup};
use rusqlite::{Connection, params};

use super::folder::{Folder, folder_at};

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
pub const UDID: &str = "00008030-001A2B3C4D5E6F70";
pub const PASSWORD: &str = "correct horse";

/// A person's home, with a repository `repo` in it that has no password unless said otherwise. Nothing in it outlives it, but
/// what failed where `HEIRLOOM_KEEP_FAILED` is set.
pub struct Home(tempfile::TempDir);

impl Drop for Home {
    fn drop(&mut self) {
        if thread::panicking() && std::env::var_os("HEIRLOOM_KEEP_FAILED").is_some() {
            self.0.disable_cleanup(true);
            println!("kept for a look: {}", self.0.path().display());
        }
    }
}

/// What the program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// The last error, without what to do about it.
    pub fn error(&self) -> &str {
        self.stderr.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or_default()
    }

    /// It ended like this, and said these words about it, as an error and what to do.
    #[track_caller]
    pub fn assert_failed(&self, exit: i32, words: &[&str]) {
        assert_eq!(self.exit, exit, "{self:?}");
        let error = self.stderr.rfind("error: ").map_or("", |at| &self.stderr[at..]);
        words.iter().for_each(|word| assert!(error.contains(word), "{word}: {self:?}"));
    }
}

impl Home {
    /// A home without a repository.
    pub fn empty() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        fs::create_dir(home.path("tmp")).unwrap();
        home
    }

    /// A home with a repository that everybody can read.
    pub fn new() -> Home {
        let home = Home::empty();
        home.ok(&["init", "--no-password"]);
        home
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside)
    }

    /// The program in this home, with nothing of the environment of the tests: that of `HEIRLOOM_TEST_BINARY`, or what was built with them.
    pub fn command(&self, args: &[&str]) -> Command {
        let tested = std::env::var_os("HEIRLOOM_TEST_BINARY");
        let mut command = self.program(tested.unwrap_or_else(|| env!("CARGO_BIN_EXE_heirloom").into()));
        command.args(args);
        command
    }

    /// Any program in this home, with nothing of the environment of the tests.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.0.path()).stdin(Stdio::null()).env_clear();
        for kept in ["PATH", "SystemRoot", "LLVM_PROFILE_FILE"] {
            command.envs(std::env::var_os(kept).map(|value| (kept, value)));
        }
        let tmp = self.path("tmp");
        command.envs([("HOME", self.path("")), ("XDG_CACHE_HOME", self.path("cache")), ("TMPDIR", tmp)]);
        command.envs([("TZ", "UTC"), ("HEIRLOOM_REPOSITORY", "repo")]);
        command
    }

    pub fn run(&self, args: &[&str]) -> Said {
        self.run_with(&[], args)
    }

    /// The same with variables of the environment.
    pub fn run_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Said {
        self.said(self.command(args).envs(variables.iter().copied()))
    }

    /// Runs the program on a terminal, where these lines are typed; stdout and stderr come as one. `None` where there is no `script` to make a terminal.
    #[cfg(target_os = "linux")]
    pub fn typed(&self, variables: &[(&str, &str)], args: &[&str], lines: &[&str]) -> Option<Said> {
        Command::new("script").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
        let program = self.command(&[]).get_program().to_str().unwrap().to_owned();
        let words: Vec<String> =
            std::iter::once(program.as_str()).chain(args.iter().copied()).map(|word| format!("'{word}'")).collect();
        let mut command = self.program("script");
        command.args(["-qec", &words.join(" "), "/dev/null"]).envs(variables.iter().copied()).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes()).unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            let mut said = String::new();
            stdout.read_to_string(&mut said).unwrap();
            said
        });
        let exit = exit_of(child);
        drop(stdin);
        let said = reader.join().unwrap();
        assert!(!said.contains("panicked"), "{said}");
        Some(Said { exit, stdout: said.clone(), stderr: said })
    }

    /// Runs a command to its end. What it says is kept in files, so that it never waits for a reader.
    pub fn said(&self, command: &mut Command) -> Said {
        self.said_within(command, None).expect("nobody kills it")
    }

    /// The same, but what is not at its end after `life` is killed, as `kill -9` does. `None` if it was.
    pub fn said_within(&self, command: &mut Command, life: Option<Duration>) -> Option<Said> {
        let said = tempfile::tempdir().unwrap();
        let (stdout, stderr) = (said.path().join("stdout"), said.path().join("stderr"));
        let child = command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap()).spawn();
        let exit = match life {
            None => exit_of(child.unwrap()),
            Some(life) => exit_within(child.unwrap(), life)?,
        };
        // A path of this home is another each time.
        let home = fs::canonicalize(self.0.path()).unwrap().to_str().unwrap().to_owned();
        let text = |path: &Path| fs::read_to_string(path).unwrap().replace(&home, "[HOME]");
        let said = Said { exit, stdout: text(&stdout), stderr: text(&stderr) };
        assert!(!said.stderr.contains("panicked"), "{said:?}");
        Some(said)
    }

    /// Runs the program as somebody who may not read and write everything: as `nobody` where the tests run as root, who gets the home then.
    #[cfg(unix)]
    pub fn run_as_nobody(&self, variables: &[(&str, &str)], args: &[&str]) -> Said {
        use std::os::unix::{fs::MetadataExt, process::CommandExt};

        const NOBODY: u32 = 65534;
        let mut command = self.command(args);
        command.envs(variables.iter().copied());
        if fs::metadata(self.path("")).unwrap().uid() != 0 {
            return self.said(&mut command);
        }
        // The tests may have been built where only root gets to.
        let program = self.path("tmp/program");
        if !program.exists() {
            fs::copy(command.get_program(), &program).unwrap();
        }
        let owned = Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(self.path("")).status();
        assert!(owned.unwrap().success());
        let mut as_nobody = self.program(&program);
        as_nobody.args(args).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let said = self.said(as_nobody.uid(NOBODY).gid(NOBODY));
        let owned = Command::new("chown").args(["-R", "0:0"]).arg(self.path("")).status();
        assert!(owned.unwrap().success());
        said
    }

    /// Runs the program, which must succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.exit, 0, "{args:?}: {said:?}");
        said
    }

    /// The JSON that the program says.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let said = self.run(&[&["--json"], args].concat());
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {said:?}"))
    }

    /// What an export of a snapshot writes.
    #[track_caller]
    pub fn exported(&self, snapshot: &str) -> Folder {
        let dir = tempfile::tempdir_in(self.0.path()).unwrap();
        self.ok(&["export", snapshot, "--to", dir.path().to_str().unwrap()]);
        folder_at(&only_child(dir.path()))
    }

    /// Exports a snapshot and compares it with the folder that it was taken of: names, bytes, times.
    #[track_caller]
    pub fn assert_exact(&self, snapshot: &str, source: &Path) {
        assert_same(&self.exported(snapshot), &folder_at(source));
    }
}

/// The one thing that is in a folder.
#[track_caller]
pub fn only_child(dir: &Path) -> PathBuf {
    let children: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|child| child.unwrap().path()).collect();
    assert_eq!(children.len(), 1, "{children:?}");
    children[0].clone()
}

/// Two folders are the same; says what is not.
#[track_caller]
pub fn assert_same(one: &Folder, other: &Folder) {
    let differ: BTreeMap<_, _> = one
        .keys()
        .chain(other.keys())
        .filter(|path| one.get(*path) != other.get(*path))
        .map(|path| (path, (one.get(path), other.get(path))))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
    assert!(!one.is_empty());
}

/// How the program ended, unless it was killed because it had not after `life`. Nothing is left of it then, not even its number.
fn exit_within(mut child: Child, life: Duration) -> Option<i32> {
    let started = Instant::now();
    while started.elapsed() < life {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code().unwrap_or(-1));
        }
        thread::sleep(Duration::from_millis(1).min(life.saturating_sub(started.elapsed())));
    }
    child.kill().unwrap();
    child.wait().unwrap().code()
}

/// How the program ended; it is ended if it does not.
pub fn exit_of(mut child: Child) -> i32 {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The backup folder of a generated phone, in `dir`.
pub fn phone_in(dir: &Path, bytes: u64) -> (Phone, PathBuf) {
    let phone = Phone::new(1, bytes).unwrap();
    write_backup(&phone, dir).unwrap();
    let folder = dir.join(phone.udid());
    (phone, folder)
}

/// A backup folder of a few files, written by hand: all that an import needs, and no more.
pub struct SmallBackup<'a> {
    pub udid: &'a str,
    pub device_name: &'a str,
    /// As `2024-01-01T10:10:10Z`.
    pub date: &'a str,
    /// Files by domain, path and content.
    pub files: &'a [(&'a str, &'a str, &'a [u8])],
}

impl Default for SmallBackup<'_> {
    fn default() -> Self {
        SmallBackup {
            udid: UDID,
            device_name: "Maria’s iPhone",
            date: "2024-05-03T12:00:00Z",
            files: &[
                ("HomeDomain", "Library/SMS/sms.db", b"messages"),
                ("CameraRollDomain", "Media/DCIM/IMG_0001.HEIC", b"a photo"),
                ("CameraRollDomain", "Media/DCIM/IMG_0002.HEIC", b"another photo"),
            ],
        }
    }
}

impl SmallBackup<'_> {
    /// Writes it as the folder `folder`, all of it with the time of the backup.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let values = format!(
            "<key>Device Name</key><string>{}</string><key>Unique Identifier</key><string>{}</string>\
             <key>Last Backup Date</key><date>{}</date><key>Product Type</key><string>iPhone12,1</string>\
             <key>Product Version</key><string>17.1</string>",
            self.device_name, self.udid, self.date
        );
        write_at(&folder.join("Info.plist"), plist(&values).as_bytes());
        write_at(&folder.join("Manifest.plist"), plist("<key>IsEncrypted</key><false/>").as_bytes());
        let status =
            format!("<key>Date</key><date>{}</date><key>SnapshotState</key><string>finished</string>", self.date);
        write_at(&folder.join("Status.plist"), plist(&status).as_bytes());
        let database = manifest_db(&folder.join("Manifest.db"));
        for (domain, path, content) in self.files {
            list(&database, &file_id(domain, path), domain, path);
            write_at(&blob(folder, domain, path), content);
        }
        database.close().unwrap();
        settle(&folder.join("Manifest.db"));
    }
}

/// An empty Manifest.db. Rows are added with [`list`].
pub fn manifest_db(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE Files (fileID TEXT PRIMARY KEY, domain TEXT, relativePath TEXT, flags INTEGER, file BLOB);
             CREATE TABLE Properties (key TEXT PRIMARY KEY, value BLOB);",
        )
        .unwrap();
    connection
}

/// Names a file in Manifest.db, whatever the names are.
pub fn list(database: &Connection, file_id: &str, domain: &str, path: &str) {
    database.execute("INSERT INTO Files VALUES (?1, ?2, ?3, 1, NULL)", params![file_id, domain, path]).unwrap();
}

/// By what id a file is kept.
pub fn file_id(domain: &str, path: &str) -> String {
    Location::new(domain, path).file_id()
}

/// Where the content of a file lies in a backup folder.
pub fn blob(folder: &Path, domain: &str, path: &str) -> PathBuf {
    let id = file_id(domain, path);
    folder.join(&id[..2]).join(id)
}

/// An XML property list of a dictionary.
pub fn plist(values: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\"><dict>{values}</dict></plist>\n"
    )
}

/// Writes a file and the folders above it, with a time that is long past.
pub fn write_at(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    settle(path);
}

/// Gives a file a time that is long past: what was modified a moment ago may change again unseen, and is not remembered.
pub fn settle(path: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_714_737_600_123_456_789);
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}
