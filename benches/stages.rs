//! What each stage of a backup and of a restore costs, on one core: cut, hash, compress, delta, seal, pack, look up, and the way back; and to tell two
//! trees apart.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use heirloom_store::{
    Cipher, Details, Entry, Kind, MemoryStorage, Name, Options, Repository, Snapshot, Source, stages,
};

const FRAME_LEN: usize = 2 << 20;
const BLOCK_LEN: usize = 64 << 10;
const CIPHERS: [(&str, Cipher); 2] =
    [("AES-256-GCM", Cipher::Aes256Gcm), ("ChaCha20-Poly1305", Cipher::ChaCha20Poly1305)];

fn main_benches(criterion: &mut Criterion) {
    let (noise, records) = (noise(FRAME_LEN), records(FRAME_LEN));
    into(criterion, &noise, &records);
    out_of(criterion, &noise, &records);
    look_up(criterion);
    diff(criterion);
}

fn into(criterion: &mut Criterion, noise: &[u8], records: &[u8]) {
    let mut group = criterion.benchmark_group("in");
    let content_defined = [b"log\n".as_slice(), &records[4..]].concat();
    bytes(&mut group, "cut by content", FRAME_LEN, || stages::cut(&content_defined));
    bytes(&mut group, "hash a chunk of 64 KiB", BLOCK_LEN, || stages::id(&noise[..BLOCK_LEN]));
    bytes(&mut group, "hash a chunk of 2 KiB", 2 << 10, || stages::id(&noise[..2 << 10]));
    bytes(&mut group, "compress records", FRAME_LEN, || stages::encode(records));
    bytes(&mut group, "find noise incompressible", FRAME_LEN, || stages::encode(noise));
    let (base, block) = versions(records);
    bytes(&mut group, "delta of a block", BLOCK_LEN, || stages::encode_delta(&block, &base));
    for (name, cipher) in CIPHERS {
        let chunks: Vec<&[u8]> = noise.chunks(BLOCK_LEN).collect();
        bytes(&mut group, &format!("seal, pack and name, {name}"), FRAME_LEN, || stages::pack(cipher, &chunks));
    }
}

fn out_of(criterion: &mut Criterion, noise: &[u8], records: &[u8]) {
    let mut group = criterion.benchmark_group("out");
    for (name, cipher) in CIPHERS {
        let chunks: Vec<&[u8]> = noise.chunks(BLOCK_LEN).collect();
        let (hash, pack) = stages::pack(cipher, &chunks);
        bytes(&mut group, &format!("open a pack, {name}"), FRAME_LEN, || stages::unpack(cipher, &hash, &pack));
    }
    let encoded = stages::encode(records);
    bytes(&mut group, "decompress records", FRAME_LEN, || stages::decode(&encoded, FRAME_LEN));
    let (base, block) = versions(records);
    let delta = stages::encode_delta(&block, &base).expect("a delta");
    bytes(&mut group, "undo a delta", BLOCK_LEN, || stages::decode_delta(&delta, &base, BLOCK_LEN));
}

fn look_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    let lookup = stages::Lookup::new(1_000_000);
    for (name, first) in [("a chunk that is there, of 1 000 000", 0), ("a chunk that is not", 1_000_000)] {
        let mut number = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number = (number + 7919) % 1_000_000;
                black_box(lookup.holds(first + number))
            });
        });
    }
}

fn diff(criterion: &mut Criterion) {
    const FILES: i64 = 100_000;
    let storage = Arc::new(MemoryStorage::default());
    let (repository, _) = Repository::create(storage, None, &Options::default()).expect("memory");
    let keep = |changed: i64| -> Snapshot {
        let mut writer = repository.write("phone").expect("memory");
        for number in 0..FILES {
            let name = Name::new("HomeDomain", &format!("Library/{number:06}")).expect("a name");
            let mtime_ns = number + i64::from(number < changed);
            writer.put(&name, &Entry { place_mtime_ns: Some(mtime_ns), ..Entry::new(Kind::File) }).expect("short");
        }
        writer.commit(Details::new(changed, Source::Import)).expect("memory").0
    };
    let before = keep(0);
    let mut group = criterion.benchmark_group("diff");
    for changed in [1, 100, 10_000] {
        let after = keep(changed);
        group.bench_function(format!("{changed} of {FILES} entries changed"), |bencher| {
            bencher.iter(|| repository.diff(&before, &after).expect("memory").map(Result::unwrap).count());
        });
    }
}

fn bytes<T>(group: &mut BenchmarkGroup<WallTime>, name: &str, len: usize, mut stage: impl FnMut() -> T) {
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function(name, |bencher| bencher.iter(|| black_box(stage())));
}

/// A block of records, and the same after a day.
fn versions(records: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let base = records[..BLOCK_LEN].to_vec();
    let mut block = base.clone();
    for at in [100, 20_000, 20_100, 50_000] {
        block[at..at + 40].fill(b'x');
    }
    (base, block)
}

fn noise(len: usize) -> Vec<u8> {
    let mut random = Random(1);
    (0..len).map(|_| random.next() as u8).collect()
}

/// Text and numbers in about the proportion of a message database.
fn records(len: usize) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "late ", "again ", "see ", "you ", "home ", "mother ", "dinner ", "sunday ", "photos ", "lake ", "bread ",
        "keys ",
    ];
    let (mut bytes, mut random) = (Vec::with_capacity(len + 200), Random(2));
    while bytes.len() < len {
        for _ in 0..3 + random.next() % 20 {
            bytes.extend_from_slice(WORDS[(random.next() % 12) as usize].as_bytes());
        }
        for _ in 0..6 {
            bytes.extend_from_slice(&random.next().to_le_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 13
    }
}

criterion_group!(benches, main_benches);
criterion_main!(benches);
