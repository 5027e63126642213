//! What it costs to have much: a repository of so many chunks and snapshots is generated without contents, and each question is put to it by a
//! process of its own, several times. Tells medians, and the most memory that such a process took.
//!
//!     cargo bench --bench scale -- --chunks 1e6 --snapshots 1000 --files 500000 --changed 2000 --dir DIR
//!
//! `DIR` is filled if it is empty, and else measured as it is; it must be of the same numbers. Each commit makes it a snapshot larger. A cold start
//! has no cache folder, but whatever the system has in memory; files are not synced while they are generated, and are by commits.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use heirloom_store::{
    Details, Entry, Kind, LocalStorage, Options, Outcome, Prefix, Repository, Snapshot, Source, Storage, Unlock,
    generated::{self, Shape},
};

const LOOK_UPS: u64 = 100_000;
/// Bytes of a file that a commit writes.
const FILE_BYTES: usize = 1000;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is asked, whether with a cache folder, and by what.
type Question = (&'static str, bool, fn(&Bench) -> Result<Answer>);

const QUESTIONS: [Question; 10] = [
    ("open and list snapshots, cold", false, list_snapshots),
    ("open and list snapshots", true, list_snapshots),
    ("load the index, cold", false, load_index),
    ("load the index", true, load_index),
    ("100 000 look-ups of what is there", true, |bench| look_up(bench, 0)),
    ("100 000 look-ups of what is not", true, |bench| look_up(bench, bench.shape.chunks)),
    ("ls of a domain of 1000 files", true, list_domain),
    ("diff of neighbours", true, |bench| diff(bench, |list| list.len().saturating_sub(2))),
    ("diff of the first and the last", true, |bench| diff(bench, |_| 0)),
    ("the same import again", true, import_again),
];
/// Last, and once a round, because it leaves a snapshot.
const COMMIT: &str = "commit of changed files";

/// Seconds of what was asked, without what came before, and what came of it.
struct Answer {
    seconds: f64,
    found: String,
}

struct Bench {
    shape: Shape,
    dir: PathBuf,
    rounds: usize,
}

fn main() -> Result<()> {
    let mut arguments: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = rest.next() {
        arguments.insert(name, rest.next().unwrap_or_default());
    }
    let Some(dir) = arguments.get("--dir") else {
        println!("scale: nothing is measured without --dir");
        return Ok(());
    };
    let number = |name: &str, default: f64| -> Result<u64> {
        arguments
            .get(name)
            .map_or(Ok(default), |text| text.parse::<f64>())
            .map(|number| number as u64)
            .map_err(Into::into)
    };
    let shape = Shape {
        chunks: number("--chunks", 1e6)?,
        snapshots: number("--snapshots", 1000.0)?,
        files: number("--files", 500_000.0)?,
        changed_files: number("--changed", 2000.0)?,
    };
    let bench = Bench { shape, dir: dir.into(), rounds: number("--rounds", 5.0)? as usize };
    match arguments.get("--ask") {
        Some(question) => bench.answer(question),
        None => bench.ask_all(),
    }
}

impl Bench {
    fn ask_all(&self) -> Result<()> {
        let Shape { chunks, snapshots, files, changed_files } = self.shape;
        println!("# {chunks} chunks, {snapshots} snapshots of {files} files, {changed_files} of them changed");
        if !self.dir.join("repository/config").exists() {
            self.generate()?;
        }
        println!("{:<36} {:>9} {:>9} {:>9}  found", "median of", "s alone", "s in all", "KiB");
        for (question, ..) in QUESTIONS {
            self.ask(question)?;
        }
        self.ask(COMMIT)
    }

    fn generate(&self) -> Result<()> {
        let start = Instant::now();
        let root = self.dir.join("repository");
        fs::create_dir_all(&root)?;
        let storage = Arc::new(Unsynced { local: LocalStorage::new(&root), root: root.clone() });
        Repository::create(storage.clone(), None, &Options::default())?;
        let cache = self.dir.join("cache of the generator");
        let repository = Repository::open(storage, Unlock::Open, Some(&cache))?;
        let make_hole = |name: &str, len: u64| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("packs lie in folders"))?;
            fs::File::create(path)?.set_len(len)
        };
        generated::generate(&repository, &self.shape, &make_hole, &mut |number| {
            if (number + 1) % 1000 == 0 {
                eprintln!("{} snapshots, {:.0} s", number + 1, start.elapsed().as_secs_f64());
            }
        })?;
        fs::remove_dir_all(cache)?;
        println!("# generated in {:.0} s", start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Has a question answered several times, by a process each, and tells the medians.
    fn ask(&self, question: &str) -> Result<()> {
        let is_warm = QUESTIONS.iter().all(|(known, is_warm, _)| *known != question || *is_warm);
        let mut answers = Vec::new();
        for _ in 0..self.rounds {
            if !is_warm {
                let _ = fs::remove_dir_all(self.dir.join("cache"));
            }
            let start = Instant::now();
            let asked = Command::new(std::env::current_exe()?)
                .args(["--ask", question])
                .args(std::env::args().skip(1))
                .stderr(Stdio::inherit())
                .output()?;
            let in_all = start.elapsed().as_secs_f64();
            let said = String::from_utf8(asked.stdout)?;
            let mut parts = said.trim().splitn(3, ' ');
            let mut part = || parts.next().ok_or_else(|| format!("{question}: {}", asked.status));
            answers.push((part()?.parse::<f64>()?, in_all, part()?.parse::<u64>()?, part()?.to_owned()));
        }
        let mut alone: Vec<f64> = answers.iter().map(|answer| answer.0).collect();
        let mut in_all: Vec<f64> = answers.iter().map(|answer| answer.1).collect();
        [&mut alone, &mut in_all].into_iter().for_each(|seconds| seconds.sort_by(f64::total_cmp));
        let memory = answers.iter().map(|answer| answer.2).max().unwrap_or_default();
        let (middle, found) = (self.rounds / 2, answers.pop().map(|answer| answer.3).unwrap_or_default());
        println!("{question:<36} {:>9.4} {:>9.4} {memory:>9}  {found}", alone[middle], in_all[middle]);
        io::stdout().flush()?;
        Ok(())
    }

    /// Answers in this process.
    fn answer(&self, question: &str) -> Result<()> {
        let known = QUESTIONS.iter().find(|(known, ..)| *known == question).map(|(.., answer)| *answer);
        let Answer { seconds, found } = known.unwrap_or(commit)(self)?;
        println!("{seconds} {} {found}", peak_kib());
        Ok(())
    }

    fn open(&self) -> Result<Repository> {
        let storage = Arc::new(LocalStorage::new(&self.dir.join("repository")));
        Ok(Repository::open(storage, Unlock::Open, Some(&self.dir.join("cache")))?)
    }

    fn snapshots(&self, repository: &Repository) -> Result<Vec<Snapshot>> {
        let list = repository.snapshots()?;
        match list.problems.first() {
            Some(problem) => Err(problem.to_string().into()),
            None => Ok(list.snapshots),
        }
    }

    fn newest(&self, repository: &Repository) -> Result<Snapshot> {
        self.snapshots(repository)?.pop().ok_or_else(|| "there is no snapshot".into())
    }
}

fn timed(work: impl FnOnce() -> Result<String>) -> Result<Answer> {
    let start = Instant::now();
    let found = work()?;
    Ok(Answer { seconds: start.elapsed().as_secs_f64(), found })
}

fn list_snapshots(bench: &Bench) -> Result<Answer> {
    timed(|| Ok(format!("{} snapshots", bench.snapshots(&bench.open()?)?.len())))
}

fn load_index(bench: &Bench) -> Result<Answer> {
    let repository = bench.open()?;
    let newest = bench.newest(&repository)?;
    timed(|| repository.read(&newest).map(|_| "it".to_owned()).map_err(Into::into))
}

fn look_up(bench: &Bench, first: u64) -> Result<Answer> {
    let repository = bench.open()?;
    let writer = repository.write("look-ups")?;
    let step = bench.shape.chunks / LOOK_UPS.min(bench.shape.chunks);
    let contents: Vec<_> = (0..LOOK_UPS).map(|n| generated::content(first + n * step % bench.shape.chunks)).collect();
    timed(|| {
        let mut held = 0;
        for content in &contents {
            held += u64::from(writer.holds(content)?);
        }
        Ok(format!("{held} chunks"))
    })
}

fn list_domain(bench: &Bench) -> Result<Answer> {
    let repository = bench.open()?;
    let reader = repository.read(&bench.newest(&repository)?)?;
    let domain = Prefix::domain(&Shape::domain(bench.shape.app_files() / 2000));
    timed(|| {
        let entries = reader.entries(&domain).collect::<heirloom_store::Result<Vec<_>>>()?;
        Ok(format!("{} files", entries.len()))
    })
}

fn diff(bench: &Bench, before: fn(&[Snapshot]) -> usize) -> Result<Answer> {
    let repository = bench.open()?;
    let list = bench.snapshots(&repository)?;
    let list = &list[..list.len().min(bench.shape.snapshots as usize)];
    let after = list.last().ok_or("there is no snapshot")?;
    let diff = repository.diff(&list[before(list)], after)?;
    timed(|| {
        let (mut added, mut removed, mut changed) = (0, 0, 0);
        for change in diff {
            let change = change?;
            match (change.before, change.after) {
                (None, _) => added += 1,
                (_, None) => removed += 1,
                _ => changed += 1,
            }
        }
        Ok(format!("{added} added, {removed} removed, {changed} changed"))
    })
}

/// What an import of an unchanged folder asks of the store: each content, which the tree stands in for the file cache to tell, is looked up, and
/// each entry put.
fn import_again(bench: &Bench) -> Result<Answer> {
    let repository = bench.open()?;
    let newest = bench.newest(&repository)?;
    let reader = repository.read(&newest)?;
    timed(|| {
        let mut writer = repository.write(&newest.record.series)?;
        for item in reader.entries(&Prefix::all()) {
            let (name, entry) = item?;
            if !entry.content.as_ref().map_or(Ok(false), |content| writer.holds(content))? {
                return Err(format!("{name} is not there").into());
            }
            writer.put(&name, &entry)?;
        }
        let details = Details { skip_if_same: true, ..Details::new(newest.record.time, Source::Device) };
        let (_, stats) = writer.commit(details)?;
        let was_known = stats.outcome == Outcome::Unchanged;
        Ok(format!("{} new nodes, {}", stats.new_chunks, if was_known { "no snapshot" } else { "a snapshot" }))
    })
}

/// A backup as a phone makes it: writes the changed files over the last snapshot, and names all.
fn commit(bench: &Bench) -> Result<Answer> {
    let repository = bench.open()?;
    let newest = bench.newest(&repository)?;
    let shape = &bench.shape;
    let files = shape.files_of(shape.snapshots - 1);
    let new = Instant::now();
    timed(|| {
        let mut editor = repository.edit(&newest.record.series, Some(&newest))?;
        let begun = new.elapsed().as_secs_f64();
        for number in (0..shape.app_files()).rev().take(shape.changed_files as usize) {
            let bytes = unique_bytes(number, newest.id.as_bytes());
            editor.write_file(
                &shape.name(number).apples_place(),
                None,
                newest.record.created,
                &mut bytes.as_slice(),
            )?;
        }
        let written = new.elapsed().as_secs_f64();
        let mut naming = editor.name_files()?;
        for &number in &files {
            let name = shape.name(number);
            let about = Entry { phone: generated::metadata(number), ..Entry::new(Kind::File) };
            if !naming.describe(&name, Some(&name.apples_place()), about)? {
                return Err(format!("{name} is not there").into());
            }
        }
        let named = new.elapsed().as_secs_f64();
        let (_, stats) = naming.commit(Details::new(newest.record.time + 1, Source::Device))?;
        let committed = new.elapsed().as_secs_f64();
        Ok(format!(
            "{} new chunks, {} bytes; begun {begun:.2}, written {:.2}, named {:.2}, committed {:.2}",
            stats.new_chunks,
            stats.added_bytes,
            written - begun,
            named - written,
            committed - named
        ))
    })
}

/// Bytes that no other file has.
fn unique_bytes(number: u64, before: &[u8]) -> Vec<u8> {
    let mut bytes = [&number.to_le_bytes(), before].concat();
    bytes.resize(FILE_BYTES, 7);
    bytes
}

/// The most memory that this process had, where the system tells; else 0.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    peak.unwrap_or_default()
}

/// A folder that is filled quickly, and is not expected to outlive a crash.
struct Unsynced {
    local: LocalStorage,
    root: PathBuf,
}

impl Storage for Unsynced {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
        fs::write(path, content)
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.local.read(name, offset, len)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.local.list(folder)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.local.delete(name)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
