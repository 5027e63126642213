//! Whole operations against a phone played by each test, byte for byte, without the code under test.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Cursor, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use plist::{Dictionary, Value};
use proptest::prelude::*;

use super::{folder_host_dir::FolderHostDir, session::*, *};
use crate::{Error, Result, Stream};

const UDID: &str = "00008101-000A";

/// The host's end of a connection.
struct Socket(TcpStream);

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Socket {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(timeout)
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(timeout)
    }
}

/// The phone's end.
struct Phone(TcpStream);

/// A path, and the file's content or the host's reason.
type Downloaded = (String, Result<Vec<u8>, String>);

/// What the host answered.
#[derive(Debug, PartialEq)]
struct Answer {
    code: i64,
    text: String,
    payload: Value,
}

impl Phone {
    fn send(&mut self, items: impl IntoIterator<Item = Value>) {
        let mut message = vec![0; 4];
        Value::Array(items.into_iter().collect()).to_writer_binary(&mut message).unwrap();
        let length = message.len() as u32 - 4;
        message[..4].copy_from_slice(&length.to_be_bytes());
        self.0.write_all(&message).unwrap();
    }

    fn receive(&mut self) -> Vec<Value> {
        let length = self.number();
        let bytes = self.bytes(length);
        Value::from_reader(Cursor::new(bytes)).unwrap().into_array().unwrap()
    }

    fn number(&mut self) -> usize {
        u32::from_be_bytes(self.bytes(4).try_into().unwrap()) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn greet(&mut self, major: u64) {
        self.send(["DLMessageVersionExchange".into(), major.into(), 0.into()]);
        let accepted = self.receive();
        assert_eq!(accepted, ["DLMessageVersionExchange".into(), "DLVersionsOk".into(), Value::from(major)]);
        self.send(["DLMessageDeviceReady".into()]);
        let hello = self.receive().remove(1).into_dictionary().unwrap();
        assert_eq!(hello.get("MessageName").unwrap().as_string(), Some("Hello"));
        let mut response = response(0, None);
        response.insert("ProtocolVersion".into(), Value::Real(2.1));
        self.send(["DLMessageProcessMessage".into(), response.into()]);
    }

    /// Greets and reads the request, which must be this one.
    fn start(&mut self, name: &str) -> Dictionary {
        self.greet(400);
        let request = self.receive();
        assert_eq!(request[0].as_string(), Some("DLMessageProcessMessage"));
        let request = request[1].as_dictionary().unwrap().clone();
        assert_eq!(request.get("MessageName").unwrap().as_string(), Some(name));
        assert_eq!(request.get("TargetIdentifier").unwrap().as_string(), Some(UDID));
        request
    }

    fn ask(&mut self, items: impl IntoIterator<Item = Value>) -> Answer {
        self.send(items);
        self.answer()
    }

    fn answer(&mut self) -> Answer {
        let mut items = self.receive();
        assert_eq!(items.len(), 4, "{items:?}");
        assert_eq!(items[0].as_string(), Some("DLMessageStatusResponse"));
        let payload = items.pop().unwrap();
        let text = items.pop().unwrap().into_string().unwrap();
        Answer { code: items[1].as_signed_integer().unwrap(), text, payload }
    }

    fn path(&mut self, path: &str) {
        self.0.write_all(&(path.len() as u32).to_be_bytes()).unwrap();
        self.0.write_all(path.as_bytes()).unwrap();
    }

    fn block(&mut self, code: u8, data: &[u8]) {
        self.0.write_all(&(data.len() as u32 + 1).to_be_bytes()).unwrap();
        self.0.write_all(&[code]).unwrap();
        self.0.write_all(data).unwrap();
    }

    fn begin_upload(&mut self, percent: f64) {
        let callbacks = Value::Dictionary(Dictionary::new());
        self.send(["DLMessageUploadFiles".into(), callbacks, Value::Real(percent), 1000.into()]);
    }

    fn end_upload(&mut self) -> Answer {
        self.0.write_all(&[0; 4]).unwrap();
        self.answer()
    }

    /// One file in blocks of `block_bytes`.
    fn upload_file(&mut self, host_path: &str, content: &[u8], block_bytes: usize) {
        self.path(&format!("/var/mobile/{host_path}"));
        self.path(host_path);
        content.chunks(block_bytes).for_each(|data| self.block(0x0c, data));
        self.block(0x00, &[]);
    }

    fn upload(&mut self, percent: f64, files: &[(&str, &[u8])]) -> Answer {
        self.begin_upload(percent);
        for (name, content) in files {
            self.upload_file(&in_folder(name), content, 1000);
        }
        self.end_upload()
    }

    /// Asks for files; contents by path, or the host's reason.
    fn download(&mut self, names: &[&str]) -> (Vec<Downloaded>, Answer) {
        let paths = names.iter().map(|name| in_folder(name).into()).collect();
        let callbacks = Value::Dictionary(Dictionary::new());
        self.send(["DLMessageDownloadFiles".into(), Value::Array(paths), callbacks, 5.into(), 0.into()]);
        let mut files = Vec::new();
        loop {
            let length = self.number();
            if length == 0 {
                return (files, self.answer());
            }
            let path = String::from_utf8(self.bytes(length)).unwrap();
            files.push((path, self.download_file()));
        }
    }

    fn download_file(&mut self) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        loop {
            let length = self.number();
            assert!((1..=0x8001).contains(&length), "a block of {length} bytes");
            let block = self.bytes(length);
            match block[0] {
                0x0c => content.extend_from_slice(&block[1..]),
                0x00 => return Ok(content),
                0x06 => return Err(String::from_utf8(block[1..].to_vec()).unwrap()),
                code => panic!("code {code}"),
            }
        }
    }

    fn list(&mut self, name: &str) -> (i64, BTreeMap<String, (String, u64)>) {
        let answer = self.ask(["DLContentsOfDirectory".into(), in_folder(name).into()]);
        let entries = answer.payload.into_dictionary().unwrap().into_iter().map(|(name, about)| {
            let about = about.into_dictionary().unwrap();
            assert!(about.get("DLFileModificationDate").unwrap().as_date().is_some());
            let kind = about.get("DLFileType").unwrap().as_string().unwrap().to_owned();
            (name, (kind, about.get("DLFileSize").unwrap().as_unsigned_integer().unwrap()))
        });
        (answer.code, entries.collect())
    }

    fn make_dir(&mut self, name: &str) -> Answer {
        let empty = Value::Dictionary(Dictionary::new());
        self.ask(["DLMessageCreateDirectory".into(), in_folder(name).into(), empty, Value::Real(0.0)])
    }

    fn move_items(&mut self, spelling: &str, pairs: &[(&str, &str)]) -> Answer {
        let pairs = pairs.iter().map(|(from, to)| (in_folder(from), Value::from(in_folder(to))));
        let empty = Value::Dictionary(Dictionary::new());
        self.ask([spelling.into(), Value::Dictionary(pairs.collect()), empty, 90.into()])
    }

    fn remove(&mut self, spelling: &str, names: &[&str]) -> Answer {
        let paths = names.iter().map(|name| in_folder(name).into()).collect();
        let empty = Value::Dictionary(Dictionary::new());
        self.ask([spelling.into(), Value::Array(paths), empty, 95.into()])
    }

    fn finish(&mut self, code: i64) {
        let words = (code != 0).then_some("in the phone's words");
        self.send(["DLMessageProcessMessage".into(), response(code, words).into()]);
    }

    /// The end of a backup that went well.
    fn finish_backup(&mut self) {
        assert_eq!(self.upload(99.0, &[("Status.plist", &status_plist("finished"))]).code, 0);
        self.finish(0);
    }
}

fn in_folder(name: &str) -> String {
    if name.is_empty() { UDID.to_owned() } else { format!("{UDID}/{name}") }
}

fn response(code: i64, description: Option<&str>) -> Dictionary {
    let mut response = Dictionary::new();
    response.insert("MessageName".into(), "Response".into());
    response.insert("ErrorCode".into(), code.into());
    if let Some(description) = description {
        response.insert("ErrorDescription".into(), description.into());
    }
    response
}

fn status_plist(state: &str) -> Vec<u8> {
    format!("<plist><dict><key>SnapshotState</key><string>{state}</string></dict></plist>").into_bytes()
}

/// Everything an operation told.
#[derive(Default)]
struct Told {
    phases: Vec<Phase>,
    percents: Vec<f64>,
    currents: Vec<String>,
    prompts: Vec<bool>,
    warnings: Vec<Warning>,
}

impl Told {
    fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Phase(phase) => self.phases.push(phase),
            Event::Progress(progress) => {
                self.percents.extend(progress.percent);
                if !progress.current.is_empty() {
                    self.currents.push(progress.current.to_owned());
                }
            }
            Event::PasscodePrompt(shown) => self.prompts.push(shown),
            Event::Warning(warning) => self.warnings.push(warning),
        }
    }
}

const PATIENT: Timeouts = Timeouts { handshake: Duration::from_secs(20), operation: Duration::from_secs(20) };

/// Runs `host` against `phone`, whose own failures fail the test.
fn play<T>(
    phone: impl FnOnce(&mut Phone) + Send,
    timeouts: Timeouts,
    host: impl FnOnce(Box<dyn Stream>, &mut Control<'_>) -> T,
) -> (T, Told) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    for end in [&theirs, &ours] {
        end.set_nodelay(true).unwrap();
    }
    theirs.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut told = Told::default();
    let cancel = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        let played = scope.spawn(move || phone(&mut Phone(theirs)));
        let mut control =
            Control { cancel: &cancel, events: &mut |event| told.hear(event), notifications: &mut || None, timeouts };
        let result = host(Box::new(Socket(ours)), &mut control);
        played.join().unwrap();
        result
    });
    (result, told)
}

fn back_up_with(
    folder: &mut dyn HostDir,
    full: bool,
    timeouts: Timeouts,
    phone: impl FnOnce(&mut Phone) + Send,
) -> (Result<Summary>, Told) {
    play(phone, timeouts, |stream, control| {
        let mut client = Client::connect(stream, control)?;
        let request = BackupRequest { udid: UDID, full, info_plist: b"info" };
        client.back_up(folder, &request, control)
    })
}

fn back_up(folder: &Path, phone: impl FnOnce(&mut Phone) + Send) -> (Result<Summary>, Told) {
    back_up_with(&mut FolderHostDir::new(folder), false, PATIENT, phone)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The files below `folder`, without Info.plist.
fn files_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(dir: &Path, root: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, files);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(folder, folder, &mut files);
    files.remove("Info.plist");
    files
}

/// The first backup of a phone that has three files, as iOS 10 and later make it.
fn first_backup(phone: &mut Phone) {
    let (files, status) = phone.download(&["Status.plist"]);
    assert_eq!(files[0].1.as_ref().unwrap_err(), "No such file or directory");
    assert_eq!((status.code, status.text.as_str()), (-13, "Multi status"));
    let about = status.payload.as_dictionary().unwrap().get(&in_folder("Status.plist")).unwrap();
    let code = about.as_dictionary().unwrap().get("DLFileErrorCode").unwrap();
    assert_eq!(code.as_signed_integer(), Some(-6));
    assert_eq!(phone.list("Snapshot"), (0, BTreeMap::new()));
    assert_eq!(phone.list("").0, 0);
    let free = phone.ask(["DLMessageGetFreeDiskSpace".into()]);
    assert_eq!(free.payload.as_unsigned_integer().map(|bytes| bytes > 1 << 39), Some(true));
    for name in ["", "Snapshot"] {
        let made = phone.make_dir(name);
        assert_eq!((made.code, made.payload.as_string()), (0, Some("___EmptyParameterString___")));
    }
    phone.begin_upload(10.0);
    phone.upload_file(&in_folder("Snapshot/00/00aa"), b"first", 2);
    phone.upload_file(&in_folder("Snapshot/01/01bb"), &[], 1);
    phone.upload_file(&in_folder("Snapshot/02/02cc"), &large(), 300_000);
    let uploaded = phone.end_upload();
    assert_eq!(
        uploaded,
        Answer { code: 0, text: "___EmptyParameterString___".into(), payload: Value::Dictionary(Dictionary::new()) }
    );
    phone.upload(80.0, &[("Snapshot/Manifest.db", b"database"), ("Snapshot/Manifest.plist", b"manifest")]);
    let moved = phone.move_items(
        "DLMessageMoveItems",
        &[
            ("Snapshot/00/00aa", "00/00aa"),
            ("Snapshot/01/01bb", "01/01bb"),
            ("Snapshot/02/02cc", "02/02cc"),
            ("Snapshot/Manifest.db", "Manifest.db"),
            ("Snapshot/Manifest.plist", "Manifest.plist"),
        ],
    );
    assert_eq!(moved.code, 0);
    assert_eq!(phone.remove("DLMessageRemoveItems", &["Snapshot"]).code, 0);
    assert_eq!(phone.upload(99.0, &[("Status.plist", &status_plist("finished"))]).code, 0);
    let (files, status) = phone.download(&["Status.plist", "Manifest.plist", "Manifest.db"]);
    assert_eq!(status.code, 0);
    assert_eq!(files[2].1.as_ref().unwrap(), b"database");
    phone.finish(0);
}

/// Spans several blocks both ways, and ends within one.
fn large() -> Vec<u8> {
    (0..1_000_003_u32).map(|n| (n * 7 / 5) as u8).collect()
}

#[test]
fn a_first_backup_and_one_after_it() {
    let folder = folder();
    let (first, told) = back_up(folder.path(), |phone| {
        let request = phone.start("Backup");
        assert_eq!(request.get("SourceIdentifier").unwrap().as_string(), Some(UDID));
        assert!(!request.contains_key("Options"));
        first_backup(phone);
    });
    let summary = first.unwrap();
    assert_eq!(summary.received.files, 6);
    assert_eq!(told.warnings, []);
    assert_eq!(
        told.phases,
        [Phase::Preparing, Phase::Transferring, Phase::Finishing, Phase::Transferring, Phase::Finishing]
    );
    assert!(told.percents.contains(&10.0) && told.percents.contains(&99.0));
    assert!(told.currents.contains(&format!("/var/mobile/{UDID}/Snapshot/00/00aa")));
    let files = files_in(folder.path());
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["00/00aa", "01/01bb", "02/02cc", "Manifest.db", "Manifest.plist", "Status.plist"]
    );
    assert_eq!(files["00/00aa"], b"first");
    assert_eq!(files["01/01bb"], b"");
    assert!(files["02/02cc"] == large());
    assert_eq!(fs::read(folder.path().join("Info.plist")).unwrap(), b"info");

    let (second, _) = back_up(folder.path(), |phone| {
        phone.start("Backup");
        let (found, status) = phone.download(&["Status.plist", "Manifest.plist", "Manifest.db"]);
        assert_eq!(status.code, 0);
        assert!(found.iter().all(|(_, content)| content.is_ok()));
        phone.make_dir("Snapshot");
        phone.upload(50.0, &[("Snapshot/00/00aa", b"second"), ("Snapshot/Manifest.db", b"database 2")]);
        assert_eq!(phone.remove("DLMessageRemoveFiles", &["01/01bb", "never/was"]).code, 0);
        let moved = [("Snapshot/00/00aa", "00/00aa"), ("Snapshot/Manifest.db", "Manifest.db")];
        assert_eq!(phone.move_items("DLMessageMoveFiles", &moved).code, 0);
        phone.remove("DLMessageRemoveFiles", &["Snapshot"]);
        phone.finish_backup();
    });
    second.unwrap();
    let files = files_in(folder.path());
    assert_eq!(files["00/00aa"], b"second");
    assert_eq!(files["Manifest.db"], b"database 2");
    assert!(!files.contains_key("01/01bb") && files.contains_key("02/02cc"));
}

#[test]
fn a_full_backup_says_so() {
    let folder = folder();
    let (outcome, _) = back_up_with(&mut FolderHostDir::new(folder.path()), true, PATIENT, |phone| {
        let request = phone.start("Backup");
        let options = request.get("Options").unwrap().as_dictionary().unwrap();
        assert_eq!(options.get("ForceFullBackup").unwrap().as_boolean(), Some(true));
        phone.finish_backup();
    });
    outcome.unwrap();
}

#[test]
fn a_restore_sends_every_file_whole() {
    let folder = folder();
    for (name, content) in
        [("Manifest.db", &b"database"[..]), ("Status.plist", b"s"), ("zero", b""), ("large", &large())]
    {
        fs::write(folder.path().join(name), content).unwrap();
    }
    fs::write(folder.path().join("exact"), vec![7; 2 << 15]).unwrap();
    let phone = |phone: &mut Phone| {
        let request = phone.start("Restore");
        assert_eq!(request.get("SourceIdentifier").unwrap().as_string(), Some(UDID));
        phone.download(&["Status.plist", "Manifest.db"]);
        let (files, status) = phone.download(&["zero", "missing", "large", "exact"]);
        assert_eq!(status.code, -13);
        assert_eq!(status.payload.as_dictionary().unwrap().len(), 1);
        assert_eq!(files[0].1.as_ref().unwrap(), b"");
        assert!(files[1].1.is_err());
        assert!(files[2].1.as_ref().unwrap() == &large());
        assert!(files[3].1.as_ref().unwrap() == &vec![7; 2 << 15]);
        let (files, status) = phone.download(&[]);
        assert_eq!((files.len(), status.code), (0, 0));
        assert_eq!(status.payload, Value::Dictionary(Dictionary::new()));
        phone.finish(0);
    };
    let (outcome, told) = play(phone, PATIENT, |stream, control| {
        let request =
            RestoreRequest { target_udid: UDID, source_udid: UDID, options: Preset::Migrate.into(), password: None };
        Client::connect(stream, control)?.restore(&mut FolderHostDir::new(folder.path()), &request, control)
    });
    assert_eq!(outcome.unwrap().sent.files, 5);
    assert_eq!(told.phases, [Phase::Preparing, Phase::Transferring]);
    assert_eq!(told.warnings, []);
}

#[test]
fn another_phones_backup_goes_by_both_names() {
    let folder = folder();
    fs::write(folder.path().join("Status.plist"), b"s").unwrap();
    let phone = |phone: &mut Phone| {
        let request = phone.start("Restore");
        assert_eq!(request.get("SourceIdentifier").unwrap().as_string(), Some("OLD"));
        for name in ["OLD", UDID] {
            let listed = phone.ask(["DLContentsOfDirectory".into(), name.into()]);
            assert_eq!((listed.code, listed.payload.as_dictionary().unwrap().len()), (0, 1));
        }
        assert_eq!(phone.ask(["DLContentsOfDirectory".into(), "THIRD".into()]).code, -1);
        phone.finish(0);
    };
    let (outcome, told) = play(phone, PATIENT, |stream, control| {
        let request =
            RestoreRequest { target_udid: UDID, source_udid: "OLD", options: Preset::Merge.into(), password: None };
        Client::connect(stream, control)?.restore(&mut FolderHostDir::new(folder.path()), &request, control)
    });
    outcome.unwrap();
    assert!(matches!(told.warnings[..], [Warning::RefusedPath { .. }]));
}

#[test]
fn a_wrong_password_is_an_error() {
    let change = |code: i64| {
        let phone = move |phone: &mut Phone| {
            let request = phone.start("ChangePassword");
            assert_eq!(request.get("OldPassword").unwrap().as_string(), Some("old"));
            assert_eq!(request.get("NewPassword"), None);
            assert_eq!(phone.download(&["Status.plist"]).1.code, -13);
            phone.finish(code);
        };
        let (outcome, _) = play(phone, PATIENT, |stream, control| {
            Client::connect(stream, control)?.change_password(UDID, Some("old"), None, control)
        });
        outcome
    };
    change(0).unwrap();
    let Err(Error::MobileBackup(refusal)) = change(207) else { panic!("no refusal") };
    assert_eq!(refusal.meaning(), Meaning::WrongPassword);
    assert_eq!(refusal.description.as_deref(), Some("in the phone's words"));
}

#[test]
fn any_version_of_devicelink_is_echoed() {
    for (major, warned) in [(300, false), (400, false), (700, true)] {
        let (connected, told) =
            play(|phone| phone.greet(major), PATIENT, |stream, control| Client::connect(stream, control).map(drop));
        connected.unwrap();
        assert_eq!(told.warnings == [Warning::NewerVersion { major }], warned);
    }
}

#[test]
fn listings_are_exact() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("d/empty")).unwrap();
    fs::write(folder.path().join("d/zero"), b"").unwrap();
    fs::write(folder.path().join("d/some"), b"12345").unwrap();
    let (outcome, _) = back_up(folder.path(), |phone| {
        phone.start("Backup");
        let (code, mut entries) = phone.list("d");
        assert_eq!(code, 0);
        assert_eq!(entries.remove("empty").unwrap().0, "DLFileTypeDirectory");
        let file = |bytes| ("DLFileTypeRegular".to_owned(), bytes);
        assert_eq!(entries, BTreeMap::from([("some".into(), file(5)), ("zero".into(), file(0))]));
        assert_eq!(phone.list("d/empty"), (0, BTreeMap::new()));
        assert_eq!(phone.list("missing"), (0, BTreeMap::new()));
        assert_eq!(phone.list("missing/deeper"), (0, BTreeMap::new()));
        assert_eq!(phone.list("d/some"), (-8, BTreeMap::new()));
        phone.finish_backup();
    });
    outcome.unwrap();
}

#[test]
fn copies_are_whole_and_moves_replace() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    fs::write(folder.path().join("a/b/c"), b"c").unwrap();
    let (outcome, told) = back_up(folder.path(), |phone| {
        phone.start("Backup");
        let copied = phone.ask(["DLMessageCopyItem".into(), in_folder("a").into(), in_folder("x/y").into()]);
        assert_eq!(copied.code, 0);
        assert_eq!(phone.move_items("DLMessageMoveItems", &[("a", "x")]).code, 0);
        assert_eq!(phone.move_items("DLMessageMoveItems", &[("gone", "x"), ("x/b/c", "c")]).code, -6);
        phone.finish_backup();
    });
    outcome.unwrap();
    assert_eq!(told.warnings, [Warning::NothingToMove { path: HostPath::new("gone").unwrap() }]);
    assert_eq!(files_in(folder.path()).keys().collect::<Vec<_>>(), ["Status.plist", "c"]);
}

#[test]
fn success_needs_a_finished_status() {
    for (status, expected) in [(None, None), (Some("uploading"), Some("uploading")), (Some(""), Some(""))] {
        let folder = folder();
        let (outcome, _) = back_up(folder.path(), |phone| {
            phone.start("Backup");
            if let Some(state) = status {
                phone.upload(99.0, &[("Status.plist", &status_plist(state))]);
            }
            phone.finish(0);
        });
        let Err(Error::Unfinished { state }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(state.as_deref(), expected);
    }
}

#[test]
fn an_end_without_a_final_message_is_an_interruption() {
    type Script = fn(&mut Phone);
    let endings: [Script; 3] = [
        |_| {},
        |phone| phone.send(["DLMessageDisconnect".into(), "bye".into()]),
        |phone| {
            phone.upload(99.0, &[("Status.plist", &status_plist("finished"))]);
        },
    ];
    for ending in endings {
        let folder = folder();
        let (outcome, _) = back_up(folder.path(), |phone| {
            phone.start("Backup");
            ending(phone);
        });
        assert!(matches!(outcome, Err(Error::Disconnected)), "{outcome:?}");
    }
}

#[test]
fn a_connection_lost_in_a_file_leaves_nothing_of_it() {
    let folder = folder();
    let (outcome, _) = back_up(folder.path(), |phone| {
        phone.start("Backup");
        phone.begin_upload(1.0);
        phone.upload_file(&in_folder("whole"), b"whole", 2);
        phone.path("/var/cut");
        phone.path(&in_folder("cut"));
        phone.block(0x0c, b"begun");
    });
    assert!(matches!(outcome, Err(Error::Disconnected)), "{outcome:?}");
    assert_eq!(files_in(folder.path()).keys().collect::<Vec<_>>(), ["whole"]);
}

#[test]
fn a_block_that_promises_gigabytes_is_streamed() {
    let folder = folder();
    let (outcome, _) = back_up(folder.path(), |phone| {
        phone.start("Backup");
        phone.begin_upload(1.0);
        phone.path("/var/cut");
        phone.path(&in_folder("cut"));
        phone.0.write_all(&[0xff, 0xff, 0xff, 0xff, 0x0c, 1, 2, 3]).unwrap();
    });
    assert!(matches!(outcome, Err(Error::Disconnected)), "{outcome:?}");
    assert!(files_in(folder.path()).is_empty());
}

#[test]
fn garbage_where_a_length_is_due_ends_the_operation() {
    let garbage: [&[u8]; 4] = [&[0xff; 4], &[0; 4], &[0, 0, 0, 4, 1, 2, 3, 4], &[0x7f, 0xff, 0xff, 0xff]];
    for bytes in garbage {
        let folder = folder();
        let (outcome, _) = back_up(folder.path(), |phone| {
            phone.start("Backup");
            phone.0.write_all(bytes).unwrap();
        });
        assert!(matches!(outcome, Err(Error::Protocol { .. } | Error::Plist(_))), "{bytes:?}: {outcome:?}");
        let (outcome, _) = back_up(folder.path(), |phone| {
            phone.start("Backup");
            phone.begin_upload(1.0);
            phone.0.write_all(&[0xff, 0xff, 0xff, 0xff]).unwrap();
        });
        assert!(matches!(outcome, Err(Error::Protocol { .. })), "{outcome:?}");
    }
}

#[test]
fn hostile_paths_are_refused_in_every_message() {
    let long_part = in_folder(&"x".repeat(256));
    let hostile = [
        "../x",
        "/abs",
        "a//b",
        "",
        "..",
        "OTHER-UDID/x",
        &format!("{UDID}/../x"),
        &format!("{UDID}//x"),
        &format!("{UDID}/a/./b"),
        &format!("{UDID}/a\0b"),
        &long_part,
    ];
    let good = || Value::from(in_folder("good"));
    let empty = || Value::Dictionary(Dictionary::new());
    for path in hostile {
        let pair = |from: &str, to: Value| Value::Dictionary([(from.to_owned(), to)].into_iter().collect());
        let changes = [
            vec!["DLMessageCreateDirectory".into(), path.into()],
            vec!["DLMessageMoveItems".into(), pair(path, good()), empty(), 1.into()],
            vec!["DLMessageMoveItems".into(), pair(&in_folder("good"), path.into()), empty(), 1.into()],
            vec!["DLMessageMoveFiles".into(), pair(path, good()), empty(), 1.into()],
            vec!["DLMessageRemoveItems".into(), Value::Array(vec![path.into()]), empty(), 1.into()],
            vec!["DLMessageRemoveFiles".into(), Value::Array(vec![path.into()]), empty(), 1.into()],
            vec!["DLMessageCopyItem".into(), path.into(), good()],
            vec!["DLMessageCopyItem".into(), good(), path.into()],
        ];
        for change in changes {
            refused_change(|phone| phone.ask(change));
        }
        if !path.is_empty() {
            refused_change(|phone| {
                phone.begin_upload(1.0);
                phone.upload_file(path, b"evil", 10);
                phone.upload_file(&in_folder("after"), b"dropped", 10);
                phone.end_upload()
            });
        }
        reads_are_refused(path);
    }
}

/// Has a phone attempt a change with a hostile path, and then claim success.
fn refused_change(attempt: impl FnOnce(&mut Phone) -> Answer + Send) {
    let outer = folder();
    let folder = outer.path().join("inner");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("good"), b"good").unwrap();
    let (outcome, _) = back_up(&folder, |phone| {
        phone.start("Backup");
        assert_eq!(attempt(phone).code, -1);
        phone.finish_backup();
    });
    assert!(matches!(outcome, Err(Error::Protocol { .. })), "{outcome:?}");
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    assert_eq!(files_in(&folder).keys().collect::<Vec<_>>(), ["Status.plist", "good"]);
}

fn reads_are_refused(path: &str) {
    let outer = folder();
    let folder = outer.path().join("inner");
    fs::create_dir(&folder).unwrap();
    fs::write(outer.path().join("x"), b"secret").unwrap();
    let (outcome, told) = back_up(&folder, |phone| {
        phone.start("Backup");
        assert_eq!(phone.ask(["DLContentsOfDirectory".into(), path.into()]).code, -1);
        let paths = Value::Array(vec![path.into()]);
        phone.send(["DLMessageDownloadFiles".into(), paths, 1.into(), 1.into(), 0.into()]);
        let length = phone.number();
        if length > 0 {
            assert_eq!(phone.bytes(length), path.as_bytes());
            assert!(phone.download_file().is_err());
            assert_eq!(phone.number(), 0);
        }
        assert_eq!(phone.answer().code, -13);
        phone.finish_backup();
    });
    outcome.unwrap();
    assert_eq!(told.warnings.len(), 2, "{path}");
}

#[test]
fn an_over_long_path_ends_the_operation() {
    let folder = folder();
    let (outcome, _) = back_up(folder.path(), |phone| {
        phone.start("Backup");
        phone.begin_upload(1.0);
        phone.path("/var/x");
        phone.path(&in_folder(&"x/".repeat(2500)));
    });
    assert!(matches!(outcome, Err(Error::Protocol { .. })), "{outcome:?}");
}

#[test]
fn files_that_the_phone_cannot_read_are_kept_as_far_as_they_came_and_told() {
    let folder = folder();
    let (outcome, told) = back_up(folder.path(), |phone| {
        phone.start("Backup");
        phone.begin_upload(1.0);
        for (name, data, code, text) in [
            ("partial", &b"some"[..], 0x0b, &b"Input/output error (5)"[..]),
            ("nothing", b"", 0x0b, b"Operation not permitted"),
            ("strange", b"some", 0x55, &[b'x'; 100_000]),
            ("after", b"whole", 0x00, b""),
        ] {
            phone.path(&format!("/var/{name}"));
            phone.path(&in_folder(name));
            if !data.is_empty() {
                phone.block(0x0c, data);
            }
            phone.block(code, text);
        }
        assert_eq!(phone.end_upload().code, 0);
        phone.finish_backup();
    });
    outcome.unwrap();
    let mut told = told.warnings.iter().map(|warning| match warning {
        Warning::UnreadableOnPhone { device_path, reason, kept, .. } => (device_path.as_str(), reason.as_str(), *kept),
        other => panic!("{other:?}"),
    });
    assert_eq!(told.next().unwrap(), ("/var/partial", "Input/output error (5)", true));
    assert_eq!(told.next().unwrap(), ("/var/nothing", "Operation not permitted", false));
    let (path, reason, kept) = told.next().unwrap();
    assert!(path == "/var/strange" && reason.contains("0x55") && kept);
    assert_eq!(told.next(), None);
    let files = files_in(folder.path());
    assert_eq!(files.keys().collect::<Vec<_>>(), ["Status.plist", "after", "partial", "strange"]);
    assert_eq!(files["partial"], b"some");
}

#[test]
fn names_on_the_phone_need_not_be_utf_8() {
    let folder = folder();
    let (outcome, told) = back_up(folder.path(), |phone| {
        phone.start("Backup");
        phone.begin_upload(1.0);
        phone.0.write_all(b"\0\0\0\x09/var/caf\xe9").unwrap();
        phone.path(&in_folder("ab/cd"));
        phone.block(0x0c, b"whole");
        phone.block(0x00, &[]);
        assert_eq!(phone.end_upload().code, 0);
        phone.finish_backup();
    });
    outcome.unwrap();
    assert_eq!(told.warnings, []);
    assert!(told.currents.contains(&"/var/caf\u{fffd}".to_owned()));
    assert_eq!(files_in(folder.path())["ab/cd"], b"whole");
}

/// A folder of which nothing may be changed.
struct ReadOnly(FolderHostDir);

impl HostDir for ReadOnly {
    fn list(&mut self, dir: &HostPath) -> io::Result<Vec<DirEntry>> {
        self.0.list(dir)
    }

    fn stat(&mut self, path: &HostPath) -> io::Result<Stat> {
        self.0.stat(path)
    }

    fn read_file(&mut self, path: &HostPath, into: &mut dyn Write) -> io::Result<()> {
        self.0.read_file(path, into)
    }

    fn write_file(&mut self, _: &HostPath, _: &mut dyn Read, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn create_dir(&mut self, _: &HostPath) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn rename(&mut self, _: &HostPath, _: &HostPath) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn copy(&mut self, _: &HostPath, _: &HostPath) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&mut self, _: &HostPath) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        self.0.free_bytes()
    }
}

#[test]
fn refused_changes_in_a_restore_are_warnings() {
    let folder = folder();
    fs::write(folder.path().join("file"), b"kept").unwrap();
    let phone = |phone: &mut Phone| {
        phone.start("Restore");
        assert_eq!(phone.upload(1.0, &[("file", b"other"), ("new", b"new")]).code, -1);
        assert_eq!(phone.make_dir("dir").code, -1);
        assert_eq!(phone.move_items("DLMessageMoveItems", &[("file", "moved")]).code, -1);
        let copy = ["DLMessageCopyItem".into(), in_folder("file").into(), in_folder("copied").into()];
        assert_eq!(phone.ask(copy).code, -1);
        assert_eq!(phone.remove("DLMessageRemoveItems", &["file"]).code, -1);
        assert_eq!(phone.ask(["DLMessageCreateDirectory".into(), "../out".into()]).code, -1);
        phone.finish(0);
    };
    let (outcome, told) = play(phone, PATIENT, |stream, control| {
        let request =
            RestoreRequest { target_udid: UDID, source_udid: UDID, options: Preset::Merge.into(), password: None };
        let mut host = ReadOnly(FolderHostDir::new(folder.path()));
        Client::connect(stream, control)?.restore(&mut host, &request, control)
    });
    outcome.unwrap();
    let changes = told.warnings.iter().map(|warning| match warning {
        Warning::RefusedChange { change, .. } => *change,
        other => panic!("{other:?}"),
    });
    assert_eq!(changes.collect::<Vec<_>>(), ["write", "make", "move", "copy", "remove", "make"]);
    assert_eq!(files_in(folder.path()).keys().collect::<Vec<_>>(), ["file"]);
}

#[test]
fn a_zero_where_a_block_is_due_ends_the_file() {
    let folder = folder();
    let (outcome, told) = back_up(folder.path(), |phone| {
        phone.start("Backup");
        phone.begin_upload(1.0);
        phone.path("/var/odd");
        phone.path(&in_folder("odd"));
        phone.block(0x0c, b"data");
        phone.0.write_all(&[0; 4]).unwrap();
        phone.upload_file(&in_folder("after"), b"whole", 10);
        assert_eq!(phone.end_upload().code, 0);
        phone.finish_backup();
    });
    outcome.unwrap();
    assert_eq!(told.warnings.len(), 1);
    assert_eq!(files_in(folder.path())["after"], b"whole");
}

#[test]
fn an_unknown_message_is_answered_and_told() {
    let folder = folder();
    let (outcome, told) = back_up(folder.path(), |phone| {
        phone.start("Backup");
        assert_eq!(phone.ask(["DLMessageOfTomorrow".into(), 1.into()]).code, -1);
        phone.finish_backup();
    });
    outcome.unwrap();
    assert_eq!(told.warnings, [Warning::UnknownMessage { name: "DLMessageOfTomorrow".into() }]);
}

#[test]
fn a_full_disk_is_answered_after_the_rest_was_read() {
    let folder = folder();
    for code_at_the_end in [0, 105] {
        let mut host = FolderHostDir::new(folder.path());
        host.room = 100_000;
        let (outcome, _) = back_up_with(&mut host, false, PATIENT, |phone| {
            phone.start("Backup");
            phone.begin_upload(1.0);
            phone.upload_file(&in_folder("fits"), &[1; 50_000], 7_000);
            phone.upload_file(&in_folder("too large"), &[2; 5_000_000], 100_000);
            phone.upload_file(&in_folder("after"), &[3; 10], 100);
            let answer = phone.end_upload();
            assert_eq!(answer.code, -15, "{answer:?}");
            phone.finish(code_at_the_end);
        });
        let Err(Error::Host(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(files_in(folder.path()).keys().collect::<Vec<_>>(), ["fits"]);
    }
}

#[test]
fn want_of_space_is_told_in_bytes() {
    let folder = folder();
    let mut host = FolderHostDir::new(folder.path());
    host.room = 3 << 30;
    let (outcome, _) = back_up_with(&mut host, false, PATIENT, |phone| {
        phone.start("Backup");
        assert!(phone.ask(["DLMessageGetFreeDiskSpace".into()]).payload.as_unsigned_integer().is_some());
        let purge = phone.ask(["DLMessagePurgeDiskSpace".into(), (7_u64 << 30).into(), 4.into()]);
        assert_eq!((purge.code, purge.payload), (-1, 0.into()));
        phone.finish(105);
    });
    let Err(Error::MobileBackup(refusal)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(refusal.meaning(), Meaning::NoSpace);
    // All but Info.plist is free.
    assert_eq!(refusal.needed_bytes, Some((8 << 30) - 4));
}

#[test]
fn the_phone_s_error_is_passed_on() {
    for code in [1, 104, 208, 4242] {
        let folder = folder();
        let (outcome, _) = back_up(folder.path(), |phone| {
            phone.start("Backup");
            phone.finish(code);
        });
        let Err(Error::MobileBackup(refusal)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((refusal.code, refusal.needed_bytes), (code, None));
    }
}

#[test]
fn silence_is_borne_for_as_long_as_set_and_no_longer() {
    let timeouts = Timeouts { operation: Duration::from_millis(1500), ..PATIENT };
    for (silence, heard) in [(700, true), (4000, false)] {
        let folder = folder();
        let started = Instant::now();
        let mut ended = None;
        let phone = |phone: &mut Phone| {
            phone.start("Backup");
            thread::sleep(Duration::from_millis(silence));
            if heard {
                phone.finish_backup();
            }
        };
        let (outcome, _) = play(phone, timeouts, |stream, control| {
            let request = BackupRequest { udid: UDID, full: false, info_plist: b"" };
            let mut client = Client::connect(stream, control)?;
            let outcome = client.back_up(&mut FolderHostDir::new(folder.path()), &request, control);
            ended = Some(started.elapsed());
            outcome
        });
        assert_eq!(outcome.is_ok(), heard);
        if !heard {
            assert!(matches!(outcome, Err(Error::Timeout)), "{outcome:?}");
            assert!(ended.unwrap() < Duration::from_millis(3500), "{ended:?}");
        }
    }
}

#[test]
fn silence_in_a_transfer_is_borne_as_between_messages() {
    assert_eq!(Timeouts::default().operation, Duration::from_secs(15 * 60));
    let silence = || thread::sleep(Duration::from_millis(600));
    let timeouts = Timeouts { handshake: Duration::from_millis(300), ..PATIENT };
    let folder = folder();
    let (outcome, told) = back_up_with(&mut FolderHostDir::new(folder.path()), false, timeouts, |phone| {
        phone.start("Backup");
        phone.begin_upload(1.0);
        // Before a path, within one, between two, before a block, within one, and before the end of the list.
        silence();
        phone.0.write_all(&[0, 0]).unwrap();
        silence();
        phone.0.write_all(&[0, 6]).unwrap();
        phone.0.write_all(b"/var/x").unwrap();
        silence();
        phone.path(&in_folder("Manifest.db"));
        silence();
        phone.0.write_all(&[0, 0, 0, 6, 0x0c, b's', b'l']).unwrap();
        silence();
        phone.0.write_all(b"owl").unwrap();
        silence();
        phone.block(0x00, &[]);
        silence();
        assert_eq!(phone.end_upload().code, 0);
        phone.finish_backup();
    });
    outcome.unwrap();
    assert_eq!(told.warnings, []);
    assert_eq!(files_in(folder.path())["Manifest.db"], b"slowl");
}

#[test]
fn a_phone_that_stops_reading_runs_into_the_time_out() {
    let folder = folder();
    fs::write(folder.path().join("large"), vec![7; 64 << 20]).unwrap();
    let timeouts = Timeouts { operation: Duration::from_millis(600), ..PATIENT };
    let (ended, has_ended) = std::sync::mpsc::channel::<()>();
    let phone = move |phone: &mut Phone| {
        phone.start("Restore");
        let paths = Value::Array(vec![in_folder("large").into()]);
        phone.send(["DLMessageDownloadFiles".into(), paths, Value::Dictionary(Dictionary::new()), 5.into(), 0.into()]);
        // Until the other side has given up.
        let _ = has_ended.recv();
    };
    let start = Instant::now();
    let (outcome, _) = play(phone, timeouts, |stream, control| {
        let mut client = Client::connect(stream, control)?;
        let request =
            RestoreRequest { target_udid: UDID, source_udid: UDID, options: Preset::Merge.into(), password: None };
        let outcome = client.restore(&mut FolderHostDir::new(folder.path()), &request, control);
        client.disconnect();
        drop(ended);
        outcome
    });
    assert!(matches!(outcome, Err(Error::Timeout)), "{outcome:?}");
    let taken = start.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_secs(6)).contains(&taken), "{taken:?}");
}

#[test]
fn every_frame_leaves_in_one_write() {
    let folder = folder();
    fs::write(folder.path().join("large"), vec![7; (64 << 10) + 5]).unwrap();
    let paths = Value::Array(vec![in_folder("large").into(), in_folder("missing").into()]);
    let said = [
        framed(["DLMessageDownloadFiles".into(), paths, 0.into(), 5.into(), 0.into()]),
        framed(["DLMessageGetFreeDiskSpace".into()]),
        framed(["DLMessageProcessMessage".into(), response(0, None).into()]),
    ];
    let stream = greeting_and(&said.concat());
    let written = stream.written.clone();
    let cancel = AtomicBool::new(false);
    let mut control = Control { cancel: &cancel, events: &mut |_| {}, notifications: &mut || None, timeouts: PATIENT };
    let mut client = Client::connect(Box::new(stream), &mut control).unwrap();
    let request =
        RestoreRequest { target_udid: UDID, source_udid: UDID, options: Preset::Merge.into(), password: None };
    client.restore(&mut FolderHostDir::new(folder.path()), &request, &mut control).unwrap();
    let written = written.lock().unwrap();
    let (block, head) = (5 + (32 << 10), 4 + in_folder("large").len());
    // Version, greeting and request; two blocks, then the rest of the file with its end; the reason why not; the end of
    // the list; and two answers.
    let sizes: Vec<_> = written.iter().map(Vec::len).collect();
    assert_eq!(sizes.len(), 10, "{sizes:?}");
    assert_eq!(sizes[3..6], [head + block, block, 5 + 5 + 5]);
    assert_eq!(sizes[6..8], [4 + in_folder("missing").len() + 5 + "No such file or directory".len(), 4]);
    for message in written[..3].iter().chain(&written[8..]) {
        let length = u32::from_be_bytes(*message.first_chunk().unwrap()) as usize;
        assert_eq!(message.len(), 4 + length);
    }
}

#[test]
fn cancelling_ends_a_wait_and_a_stream() {
    let flag = AtomicBool::new(false);
    for in_stream in [false, true] {
        flag.store(false, Ordering::Relaxed);
        let folder = folder();
        let phone = |phone: &mut Phone| {
            phone.start("Backup");
            if in_stream {
                phone.begin_upload(1.0);
                phone.path("/var/endless");
                phone.path(&in_folder("endless"));
                phone.0.write_all(&[0xff, 0xff, 0xff, 0xff, 0x0c]).unwrap();
            } else {
                thread::sleep(Duration::from_millis(300));
            }
            // Until the host hangs up; 4 GiB would take longer than the test may.
            let mut written = 0;
            while in_stream && phone.0.write_all(&[0; 1000]).is_ok() {
                written += 1000;
                flag.fetch_or(written > 5_000_000, Ordering::Relaxed);
                assert!(written < 500_000_000, "the host goes on");
            }
            flag.store(true, Ordering::Relaxed);
            let _ = phone.0.read_to_end(&mut Vec::new());
        };
        let (outcome, _) = play(phone, PATIENT, |stream, control| {
            let mut control = Control {
                cancel: &flag,
                events: &mut *control.events,
                notifications: &mut *control.notifications,
                timeouts: control.timeouts,
            };
            let mut client = Client::connect(stream, &mut control)?;
            let request = BackupRequest { udid: UDID, full: false, info_plist: b"" };
            client.back_up(&mut FolderHostDir::new(folder.path()), &request, &mut control)
        });
        assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
        assert!(files_in(folder.path()).is_empty());
    }
}

/// notification_proxy and AFC, with a record of what was done.
#[derive(Default)]
struct Services {
    done: Vec<String>,
    /// Whether no file can be written.
    is_read_only: bool,
}

struct Proxy<'r>(&'r std::cell::RefCell<Services>, Vec<&'static str>);

impl Notifications for Proxy<'_> {
    fn observe(&mut self, name: &str) -> Result<()> {
        self.0.borrow_mut().done.push(format!("observe {name}"));
        Ok(())
    }

    fn post(&mut self, name: &str) -> Result<()> {
        self.0.borrow_mut().done.push(name.replace("com.apple.itunes-mobdev.", ""));
        Ok(())
    }

    fn poll(&mut self) -> Option<String> {
        self.1.pop().map(str::to_owned)
    }
}

/// Refuses the lock so many times.
struct Files<'r>(&'r std::cell::RefCell<Services>, u32);

impl DeviceFiles for Files<'_> {
    fn try_lock(&mut self) -> Result<bool> {
        self.0.borrow_mut().done.push("try lock".into());
        self.1 = self.1.saturating_sub(1);
        Ok(self.1 == 0)
    }

    fn unlock(&mut self) -> Result<()> {
        self.0.borrow_mut().done.push("unlock".into());
        Ok(())
    }

    fn write(&mut self, path: &str, _: &[u8]) -> Result<()> {
        self.0.borrow_mut().done.push(format!("write {path}"));
        match self.0.borrow().is_read_only {
            true => Err(Error::Afc { path: path.to_owned(), status: crate::services::afc::Status::PermissionDenied }),
            false => Ok(()),
        }
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        self.0.borrow_mut().done.push(format!("remove {path}"));
        Ok(())
    }
}

/// What a session did after it observed, its outcome, and what it told.
fn session(
    refusals: u32,
    notified: Vec<&'static str>,
    phone: impl FnOnce(&mut Phone) + Send,
    operation: impl FnOnce(BackupSession<'_>, &mut Control<'_>) -> Result<Summary>,
) -> (Vec<String>, Result<Summary>, Told) {
    let services = std::cell::RefCell::default();
    let (outcome, told) = play(phone, PATIENT, |stream, control| {
        let (mut proxy, mut files) = (Proxy(&services, notified), Files(&services, refusals));
        let session = BackupSession::begin(&mut proxy, &mut files, || Ok(stream), control)?;
        operation(session, control)
    });
    let done: Vec<String> = services.into_inner().done;
    let (observed, done) = done.split_at(OBSERVED.len());
    assert!(observed.iter().all(|name| name.starts_with("observe com.apple.")));
    (done.to_vec(), outcome, told)
}

#[test]
fn a_session_locks_the_phone_and_lets_it_go_however_it_ends() {
    for code in [0, 104] {
        let folder = folder();
        let phone = |phone: &mut Phone| {
            phone.start("Backup");
            phone.upload(99.0, &[("Status.plist", &status_plist("finished"))]);
            phone.finish(code);
            assert_eq!(phone.receive()[0].as_string(), Some("DLMessageDisconnect"));
        };
        let notified = vec![PROMPT_HIDDEN, "com.apple.mobile.backup.domain_changed", PROMPT_SHOWN];
        let (done, outcome, told) = session(2, notified, phone, |session, control| {
            let request = BackupRequest { udid: UDID, full: false, info_plist: b"" };
            session.back_up(&mut FolderHostDir::new(folder.path()), &request, control)
        });
        assert_eq!(outcome.is_ok(), code == 0);
        assert_eq!(told.prompts, [true, false]);
        let expected =
            ["syncWillStart", "syncLockRequest", "try lock", "try lock", "syncDidStart", "unlock", "syncDidFinish"];
        assert_eq!(done, expected);
    }
}

#[test]
fn a_lock_that_stays_held_is_told_and_the_phone_let_go() {
    let (done, outcome, _) = session(1000, vec![], |phone| phone.greet(400), |_, _| panic!("not locked"));
    assert!(matches!(outcome, Err(Error::SyncLocked)), "{outcome:?}");
    assert_eq!(done.iter().filter(|step| *step == "try lock").count(), 50);
    assert_eq!(done[done.len() - 2..], ["unlock", "syncDidFinish"]);
}

#[test]
fn a_cancel_on_the_phone_ends_the_session() {
    let folder = folder();
    let (done, outcome, _) = session(
        1,
        vec![CANCEL_REQUEST],
        |phone| drop(phone.start("Backup")),
        |session, control| {
            let request = BackupRequest { udid: UDID, full: false, info_plist: b"" };
            session.back_up(&mut FolderHostDir::new(folder.path()), &request, control)
        },
    );
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    assert_eq!(done.last().unwrap(), "syncDidFinish");
}

#[test]
fn the_list_of_apps_is_there_before_a_restore_and_gone_after_a_failed_one() {
    for code in [0, 211] {
        let folder = folder();
        let phone = |phone: &mut Phone| {
            phone.start("Restore");
            phone.finish(code);
        };
        let (done, outcome, _) = session(1, vec![], phone, |session, control| {
            let request =
                RestoreRequest { target_udid: UDID, source_udid: UDID, options: Preset::Merge.into(), password: None };
            session.restore(&mut FolderHostDir::new(folder.path()), &request, Some(b"apps"), control)
        });
        assert_eq!(outcome.is_ok(), code == 0);
        let file = "/iTunesRestore/RestoreApplications.plist";
        assert_eq!(done[4], format!("write {file}"));
        assert_eq!(done.contains(&format!("remove {file}")), code != 0);
    }
}

#[test]
fn list_of_apps_that_is_refused_is_a_warning() {
    let folder = folder();
    let services = std::cell::RefCell::new(Services { is_read_only: true, ..Services::default() });
    let phone = |phone: &mut Phone| {
        phone.start("Restore");
        phone.finish(0);
    };
    let (outcome, told) = play(phone, PATIENT, |stream, control| {
        let (mut proxy, mut files) = (Proxy(&services, vec![]), Files(&services, 1));
        let session = BackupSession::begin(&mut proxy, &mut files, || Ok(stream), control)?;
        let request =
            RestoreRequest { target_udid: UDID, source_udid: UDID, options: Preset::Merge.into(), password: None };
        session.restore(&mut FolderHostDir::new(folder.path()), &request, Some(b"apps"), control)
    });
    outcome.unwrap();
    assert!(matches!(&told.warnings[..], [Warning::NoApplications { reason }] if reason.contains("permission denied")));
    // Nor is a part of it left.
    assert!(services.into_inner().done.contains(&"remove /iTunesRestore/RestoreApplications.plist".to_owned()));
}

/// A phone that says these bytes whatever it hears, then hangs up.
struct Recording {
    says: Cursor<Vec<u8>>,
    /// What each call of `write` brought.
    written: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Read for Recording {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.says.read(into)
    }
}

impl Write for Recording {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.lock().unwrap().push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Recording {
    fn set_read_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
}

fn framed(items: impl IntoIterator<Item = Value>) -> Vec<u8> {
    let mut message = vec![0; 4];
    Value::Array(items.into_iter().collect()).to_writer_binary(&mut message).unwrap();
    let length = message.len() as u32 - 4;
    message[..4].copy_from_slice(&length.to_be_bytes());
    message
}

/// What a phone says to greet, then `said`.
fn greeting_and(said: &[u8]) -> Recording {
    let greeting = [
        framed(["DLMessageVersionExchange".into(), 400.into(), 0.into()]),
        framed(["DLMessageDeviceReady".into()]),
        framed(["DLMessageProcessMessage".into(), response(0, None).into()]),
        said.to_vec(),
    ];
    Recording { says: Cursor::new(greeting.concat()), written: Arc::default() }
}

fn back_up_from_recording(said: &[u8], folder: &Path) -> Result<Summary> {
    let cancel = AtomicBool::new(false);
    let mut control = Control { cancel: &cancel, events: &mut |_| {}, notifications: &mut || None, timeouts: PATIENT };
    let mut client = Client::connect(Box::new(greeting_and(said)), &mut control)?;
    let request = BackupRequest { udid: UDID, full: false, info_plist: b"" };
    client.back_up(&mut FolderHostDir::new(folder), &request, &mut control)
}

/// A short, whole upload, for bytes to be changed in it.
fn upload_bytes() -> Vec<u8> {
    let mut bytes = framed(["DLMessageUploadFiles".into(), 0.into(), 1.into(), 9.into()]);
    for name in ["a", "b/c"] {
        for path in [format!("/var/{name}"), in_folder(name)] {
            bytes.extend_from_slice(&(path.len() as u32).to_be_bytes());
            bytes.extend_from_slice(path.as_bytes());
        }
        bytes.extend_from_slice(&[0, 0, 0, 4, 0x0c, 1, 2, 3, 0, 0, 0, 1, 0]);
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

#[test]
fn an_upload_cut_anywhere_is_an_interruption() {
    let bytes = upload_bytes();
    for length in 0..=bytes.len() {
        let outcome = back_up_from_recording(&bytes[..length], folder().path());
        assert!(matches!(outcome, Err(Error::Disconnected)), "{length}: {outcome:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_end_in_an_error_and_stay_in_the_folder(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let outer = folder();
        let folder = outer.path().join("inner");
        fs::create_dir(&folder).unwrap();
        prop_assert!(back_up_from_recording(&bytes, &folder).is_err());
        let mut upload = upload_bytes();
        for (place, byte) in flips {
            let place = place.index(upload.len());
            upload[place] = byte;
        }
        upload.extend_from_slice(&bytes);
        prop_assert!(back_up_from_recording(&upload, &folder).is_err());
        prop_assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    }
}
