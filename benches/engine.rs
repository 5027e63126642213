//! The mobilebackup2 engine before a host that keeps nothing: what it costs for each file, what it takes of large ones, and the
//! whole way from a simulated phone, through its socket and TLS.

use std::{
    collections::BTreeMap,
    hint::black_box,
    io::{self, Cursor, Read, Write},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, UNIX_EPOCH},
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use heirloom_device::{
    Stream,
    lockdown::Lockdown,
    mobilebackup2::{BackupRequest, Client, Control, DirEntry, HostDir, HostPath, Kind, Stat, Summary, Timeouts},
    mux::{Mux, SocketAddress, Usbmuxd},
};
use heirloom_sim::{Options, Phone, Simulator};
use plist::{Dictionary, Value};

const UDID: &str = "00008101-000A";
const READ_BYTES: usize = 64 << 10;

fn main_benches(criterion: &mut Criterion) {
    small_files(criterion);
    large_files(criterion);
    whole_way(criterion);
}

/// Time for each file, without the phone's.
fn small_files(criterion: &mut Criterion) {
    const FILES: usize = 15_000;
    let said = recorded(FILES, 200, 200);
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(FILES as u64));
    group.bench_function("files of 200 bytes", |bencher| {
        bencher.iter_batched(|| replay(&said), |phone| black_box(back_up_from(phone)), BatchSize::PerIteration);
    });
}

/// As [`small_files`], by the byte.
fn large_files(criterion: &mut Criterion) {
    const FILES: usize = 4;
    const BYTES: usize = 64 << 20;
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Bytes((FILES * BYTES) as u64)).sample_size(20);
    for block in [32 << 10, 128 << 10] {
        let said = recorded(FILES, BYTES, block);
        group.bench_function(format!("files of 64 MiB in blocks of {} KiB", block >> 10), |bencher| {
            bencher.iter_batched(|| replay(&said), |phone| black_box(back_up_from(phone)), BatchSize::PerIteration);
        });
    }
}

/// The simulator makes and encrypts what the engine takes, on another thread.
fn whole_way(criterion: &mut Criterion) {
    let phone = Phone::new(1, 500_000_000).expect("a phone");
    let bytes = phone.total_bytes();
    let simulator = Simulator::start(phone, Options::default()).expect("a socket");
    let mux = Usbmuxd::new(SocketAddress::parse(&simulator.address()).expect("an address"));
    let device = mux.devices().expect("phones").remove(0);
    let buid = mux.read_buid().expect("an answer").expect("a name");
    let connect = || Lockdown::connect(&mux, &device, "bench").expect("lockdownd");
    let record = connect().pair(&buid, None, &mut || false).expect("trust");
    let mut group = criterion.benchmark_group("simulator, TLS, engine");
    group.throughput(Throughput::Bytes(bytes)).sample_size(10);
    group.bench_function("full backup of 500 MB", |bencher| {
        bencher.iter(|| {
            let mut session = connect().start_session(&record).expect("a session");
            let stream = session.start_service("com.apple.mobilebackup2", true).expect("the service");
            black_box(back_up(stream, &device.udid))
        });
    });
}

fn back_up_from(phone: Replay) -> Summary {
    back_up(Box::new(phone), UDID)
}

fn back_up(stream: Box<dyn Stream>, udid: &str) -> Summary {
    let cancel = AtomicBool::new(false);
    let timeouts = Timeouts::default();
    let mut control = Control { cancel: &cancel, events: &mut |_| {}, notifications: &mut || None, timeouts };
    let mut client = Client::connect(stream, &mut control).expect("a greeting");
    let request = BackupRequest { udid, full: true, info_plist: b"info" };
    client.back_up(&mut NamesOnly::default(), &request, &mut control).expect("a backup")
}

/// What a phone says in a backup of `files` files, each of `bytes` in blocks of at most `block`.
fn recorded(files: usize, bytes: usize, block: usize) -> Arc<[u8]> {
    let mut said = Vec::new();
    message(&mut said, vec!["DLMessageVersionExchange".into(), 400.into(), 0.into()]);
    message(&mut said, vec!["DLMessageDeviceReady".into()]);
    message(&mut said, success());
    let content: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
    upload(&mut said, |said| {
        for number in 0..files {
            let id = format!("{:02x}{number:038x}", number % 256);
            file(said, &format!("Snapshot/{}/{id}", &id[..2]), &content, block);
        }
    });
    let status = b"<plist><dict><key>SnapshotState</key><string>finished</string></dict></plist>";
    upload(&mut said, |said| file(said, "Status.plist", status, block));
    message(&mut said, success());
    said.into()
}

fn message(said: &mut Vec<u8>, items: Vec<Value>) {
    let mut bytes = Vec::new();
    Value::Array(items).to_writer_binary(&mut bytes).expect("a message");
    said.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    said.extend_from_slice(&bytes);
}

fn success() -> Vec<Value> {
    let response = [("MessageName", Value::from("Response")), ("ErrorCode", 0.into())];
    vec!["DLMessageProcessMessage".into(), Value::Dictionary(Dictionary::from_iter(response))]
}

fn upload(said: &mut Vec<u8>, files: impl FnOnce(&mut Vec<u8>)) {
    message(said, vec!["DLMessageUploadFiles".into(), Value::Dictionary(Dictionary::new()), 5.into(), 0.into()]);
    files(said);
    said.extend_from_slice(&[0; 4]);
}

fn file(said: &mut Vec<u8>, name: &str, content: &[u8], block: usize) {
    for path in [format!("/var/mobile/Library/{name}"), format!("{UDID}/{name}")] {
        said.extend_from_slice(&(path.len() as u32).to_be_bytes());
        said.extend_from_slice(path.as_bytes());
    }
    for data in content.chunks(block) {
        said.extend_from_slice(&(data.len() as u32 + 1).to_be_bytes());
        said.push(0x0c);
        said.extend_from_slice(data);
    }
    said.extend_from_slice(&[0, 0, 0, 1, 0]);
}

/// A phone that says this whatever it hears.
struct Replay(Cursor<Arc<[u8]>>);

fn replay(said: &Arc<[u8]>) -> Replay {
    Replay(Cursor::new(said.clone()))
}

impl Read for Replay {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Replay {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Replay {
    fn set_read_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
}

/// A folder that knows what is in it, but keeps the contents of only those few files that a phone reads back.
#[derive(Default)]
struct NamesOnly {
    entries: BTreeMap<String, Entry>,
    buffer: Vec<u8>,
}

#[derive(Clone)]
enum Entry {
    Directory,
    File { bytes: u64, content: Vec<u8> },
}

impl NamesOnly {
    fn find(&self, path: &HostPath) -> io::Result<&Entry> {
        const ROOT: &Entry = &Entry::Directory;
        if path.is_root() { Ok(ROOT) } else { self.entries.get(path.as_str()).ok_or(io::ErrorKind::NotFound.into()) }
    }

    fn at_or_below(&self, path: &HostPath) -> Vec<String> {
        let below = format!("{path}/");
        let is_it = |name: &&String| **name == *path.as_str() || name.starts_with(&below);
        self.entries
            .range(path.as_str().to_owned()..)
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(path.as_str()))
            .filter(is_it)
            .cloned()
            .collect()
    }

    fn relocate(&mut self, from: &HostPath, to: &HostPath, keep: bool) -> io::Result<()> {
        self.find(from)?;
        for name in self.at_or_below(from) {
            let entry = if keep { self.entries.get(&name).cloned() } else { self.entries.remove(&name) };
            self.entries.extend(entry.map(|entry| (format!("{to}{}", &name[from.as_str().len()..]), entry)));
        }
        self.make_parents(to);
        Ok(())
    }

    fn make_parents(&mut self, path: &HostPath) {
        for (end, _) in path.as_str().match_indices('/') {
            self.entries.entry(path.as_str()[..end].to_owned()).or_insert(Entry::Directory);
        }
    }
}

fn stat_of(entry: &Entry) -> Stat {
    let (kind, bytes) = match entry {
        Entry::Directory => (Kind::Directory, 0),
        Entry::File { bytes, .. } => (Kind::File, *bytes),
    };
    Stat { kind, bytes, modified: UNIX_EPOCH + Duration::from_secs(1_700_000_000) }
}

impl HostDir for NamesOnly {
    fn list(&mut self, dir: &HostPath) -> io::Result<Vec<DirEntry>> {
        self.find(dir)?;
        let inside = if dir.is_root() { String::new() } else { format!("{dir}/") };
        let below =
            self.entries.range(inside.clone()..).map_while(|(name, entry)| Some((name.strip_prefix(&inside)?, entry)));
        let direct = below.filter(|(name, _)| !name.contains('/'));
        Ok(direct.map(|(name, entry)| DirEntry { name: name.to_owned(), stat: stat_of(entry) }).collect())
    }

    fn stat(&mut self, path: &HostPath) -> io::Result<Stat> {
        self.find(path).map(stat_of)
    }

    fn read_file(&mut self, path: &HostPath, into: &mut dyn Write) -> io::Result<()> {
        match self.find(path)? {
            Entry::Directory => Err(io::ErrorKind::IsADirectory.into()),
            Entry::File { content, .. } => into.write_all(content),
        }
    }

    fn write_file(&mut self, path: &HostPath, content: &mut dyn Read, _: &str) -> io::Result<()> {
        let is_kept = [".plist", ".db"].iter().any(|ending| path.as_str().ends_with(ending));
        let (mut bytes, mut kept) = (0, Vec::new());
        self.buffer.resize(READ_BYTES, 0);
        loop {
            match content.read(&mut self.buffer)? {
                0 => break,
                count if is_kept => kept.extend_from_slice(&self.buffer[..count]),
                count => bytes += count as u64,
            }
        }
        bytes += kept.len() as u64;
        self.make_parents(path);
        self.entries.insert(path.as_str().to_owned(), Entry::File { bytes, content: kept });
        Ok(())
    }

    fn create_dir(&mut self, path: &HostPath) -> io::Result<()> {
        self.make_parents(path);
        if !path.is_root() {
            self.entries.insert(path.as_str().to_owned(), Entry::Directory);
        }
        Ok(())
    }

    fn rename(&mut self, from: &HostPath, to: &HostPath) -> io::Result<()> {
        self.relocate(from, to, false)
    }

    fn copy(&mut self, from: &HostPath, to: &HostPath) -> io::Result<()> {
        self.relocate(from, to, true)
    }

    fn remove(&mut self, path: &HostPath) -> io::Result<()> {
        for name in self.at_or_below(path) {
            self.entries.remove(&name);
        }
        Ok(())
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

criterion_group!(benches, main_benches);
criterion_main!(benches);
